"""Which modalities a training step may see: draws that simulate missing modalities."""

from __future__ import annotations

import random


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
