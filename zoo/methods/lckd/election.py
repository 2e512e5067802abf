"""LCKD's teachers: which modalities teach, and whom."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.metrics.region_dice import region_dice
from zoo.networks.sliding_window import sliding_window
from zoo.networks.unet3d_mean_filled import MeanFilledUNet3d


def winners(scores: Tensor) -> Tensor:
    """The best modality for each region; of equal ones the first.

    Args:
        scores: float [R, M].

    Returns:
        int64 [R].
    """
    return scores.argmax(1)


def elect(scores: Tensor) -> Tensor:
    """The teachers: every modality that is the best for a region (LCKD with several teachers, the released default).

    Args:
        scores: float [R, M], soft Dice of each region from each modality alone, summed over volumes.

    Returns:
        bool [M], at least one.
    """
    modalities = torch.arange(scores.shape[1], device=scores.device)
    return (winners(scores)[:, None] == modalities).any(0)


def teaching(teachers: Tensor, available: Tensor) -> Tensor:
    """Who teaches whom: each available teacher all available modalities, other teachers and itself (nothing) included.

    Args:
        teachers: bool [M].
        available: bool [M], or [M, B] where samples differ.

    Returns:
        float [M, M] or [M, M, B], 1 where the first teaches the second.
    """
    present = available.unsqueeze(0) & available.unsqueeze(1)
    return (present & teachers.view(-1, *[1] * (present.dim() - 1))).float()


def single_modality_dice(network: MeanFilledUNet3d, images: Tensor, mask: Tensor, window: Sequence[int]) -> Tensor:
    """How well each modality alone segments a volume: soft Dice of the logits' averages over windows.

    In each window every modality is encoded once, and the zero volume of missing ones once for all windows.

    Args:
        network: of M modalities and R regions.
        images: float [1, M, D, H, W].
        mask: [1, R, D, H, W], 0 or 1.
        window: depth, height and width of the windows.

    Returns:
        float [R, M].
    """
    alone = [[[modality]] for modality in range(images.shape[1])]
    zero = network.encode_zero(window, images)

    def predict(tile: Tensor) -> Tensor:
        encodings = network.encode(tile, [[*range(len(alone))]], zero)
        return torch.cat([network.decode(encodings, available) for available in alone], 1)

    logits = sliding_window(predict, images, window).unflatten(1, (len(alone), -1))[0]
    return region_dice(logits.sigmoid(), mask.expand(len(alone), *mask.shape[1:])).T
