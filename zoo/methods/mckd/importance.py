"""MCKD's importance weights: how much each modality teaches the others."""

from __future__ import annotations

import torch
from torch import Tensor


def importance(raw: Tensor) -> Tensor:
    """Importance weights w, positive, with sum 1: the softmax of the learned vector. [M] to [M]."""
    return raw.softmax(0)


def teaching(raw: Tensor, available: Tensor) -> Tensor:
    """Weight of each ordered pair of available modalities: w_teacher / w_student.

    Args:
        raw: the learned vector, float [M].
        available: bool [M], or [M, B] where samples differ.

    Returns:
        float [M, M] or [M, M, B], 0 where either is missing, and for a modality and itself.
    """
    present = available.unsqueeze(0) & available.unsqueeze(1)
    others = ~torch.eye(len(raw), dtype=torch.bool, device=raw.device)
    shape = (*others.shape, *[1] * (present.dim() - 2))
    weights = importance(raw)
    ratio = weights[:, None] / weights
    return torch.where(present & others.view(shape), ratio.view(shape), 0.0)
