"""LCKD's teachers: which modalities teach, and whom."""

from __future__ import annotations

import torch
from torch import Tensor


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
