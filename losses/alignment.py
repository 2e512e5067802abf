"""Losses of kind `alignment`: (features [M, B, ...]) of the same samples seen by M modalities."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from losses.registry import register


@register("ring_l1", kind="alignment")
def ring_l1(features: Tensor) -> Tensor:
    """Mean absolute difference of each modality to the next, the last to the first, summed over the ring.

    ShaSpec's distribution alignment. Both sides of every difference get gradients. With two modalities the one pair
    counts twice, as the ring has it.

    Args:
        features: float [M, B, ...].

    Returns:
        Scalar: sum over the ring of mean absolute differences.
    """
    difference = F.l1_loss(features, features.roll(-1, dims=0), reduction="none")  # float32 also under autocast
    return difference.flatten(1).mean(1).sum()
