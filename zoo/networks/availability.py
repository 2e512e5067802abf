"""Which modalities a training step may see, and what takes the place of the others' features."""

from __future__ import annotations

import random

import torch
from torch import Tensor


def draw_availability(rng: random.Random, modalities: int, max_available: int) -> list[int]:
    """Draw how many modalities are available, uniformly, then which, subsets of equal size being equally likely.

    The rule of ShaSpec, LCKD and MCKD in training ("random" mode). A `random.Random(seed)` gives the same draws as
    Python's global generator seeded alike.

    Args:
        rng: the draw's generator.
        modalities: M.
        max_available: largest number available; the smallest is 1. M with ShaSpec and MCKD, M - 1 with LCKD, which
            never trains on the complete set.

    Returns:
        Indices of the available modalities in drawn order: ShaSpec fills missing ones from the first.
    """
    available = rng.randint(1, max_available)
    return rng.sample(range(modalities), available)


def fill_with_mean(features: Tensor, available: Tensor) -> Tensor:
    """Put the mean of the available modalities' features in the place of missing ones' (LCKD, MCKD).

    Args:
        features: float [M, B, ...]; the gradient reaches available ones alone.
        available: bool [M] or [M, B]; a sample without any gets zeros.

    Returns:
        As `features`.
    """
    kept = available.view(*available.shape, *[1] * (features.dim() - available.dim()))
    total = torch.where(kept, features, 0.0).sum(0)
    return torch.where(kept, features, total / kept.sum(0).clamp(min=1))
