"""Losses of kind `segmentation`: (logits [B, C, ...], target [B, C, ...] in {0, 1}), overlapping regions C."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.registry import register


@register("soft_dice", kind="segmentation")
def soft_dice(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """1 - Dice of the probabilities, mean over samples and regions.

    Dice is 2 Σ p y / (Σ p + Σ y + smooth), sums over voxels; an empty region costs 1 whatever is predicted, as in the
    released code of ShaSpec, LCKD and MCKD.

    Args:
        logits: float [B, C, ...].
        target: same shape, 0 or 1, any dtype.
        smooth: added to the denominator alone.
    """
    precise = torch.promote_types(logits.dtype, torch.float32)  # sums over voxels, also under autocast
    probabilities, target = logits.to(precise).sigmoid().flatten(2), target.to(precise).flatten(2)
    overlap = (probabilities * target).sum(-1)
    return 1 - (2 * overlap / (probabilities.sum(-1) + target.sum(-1) + smooth)).mean()


@register("region_bce", kind="segmentation")
def region_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, mean over samples and voxels, summed over regions.

    Args:
        logits: float [B, C, ...].
        target: same shape, 0 or 1, any dtype.
    """
    precise = torch.promote_types(logits.dtype, torch.float32)
    each = F.binary_cross_entropy_with_logits(logits.to(precise), target.to(precise), reduction="none")
    return each.transpose(0, 1).flatten(1).mean(1).sum()


@register("dice_bce", kind="segmentation")
def dice_bce(logits: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss plus binary cross-entropy summed over regions (ShaSpec, LCKD, MCKD).

    Args:
        logits: float [B, C, ...].
        target: same shape, 0 or 1, any dtype.
        smooth: added to the denominator of Dice.
    """
    return soft_dice(logits, target, smooth=smooth) + region_bce(logits, target)
