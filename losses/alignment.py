"""Losses of kind `alignment`: (features [M, B, ...]) of the same samples seen by M modalities."""

from __future__ import annotations

from torch import Tensor

from losses.registry import register


@register("ring_l1", kind="alignment")
def ring_l1(features: Tensor) -> Tensor:
    """Pull each modality's features to the next one's, the last one's to the first's (ShaSpec, distribution alignment).

    Both sides of every difference get gradients. With two modalities the one pair counts twice, as the ring has it.

    Args:
        features: float [M, B, ...].

    Returns:
        Scalar: sum over the ring of mean absolute differences.
    """
    return (features - features.roll(-1, dims=0)).abs().flatten(1).mean(1).sum()
