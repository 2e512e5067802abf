"""Losses that let modalities, or a student and a teacher, learn from each other's features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from losses.registry import register


@register("pairwise_l1", kind="cross_modal_distillation")
def pairwise_l1(features: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean absolute difference of every modality's features from every teacher's.

    The distillation term of LCKD, whose weights are 0 and 1, and of MCKD, whose weights are ratios of importances.
    Neither is divided by the number of pairs. The gradient reaches students alone.

    Args:
        features: float [M, B, ...].
        weight: float [M, M], or [M, M, B] where samples differ, of teacher (first) for student; no gradient.

    Returns:
        Scalar: mean over samples of the sum over pairs of weight times mean absolute difference.
    """
    modalities, batch = features.shape[:2]
    student = features.flatten(2).expand(modalities, -1, -1, -1)
    # The last teacher first: students sum their gradients in the published order, to the last bit.
    teacher = features.detach().flatten(2)[:, None].expand_as(student).flip(0)
    distance = F.l1_loss(student, teacher, reduction="none").mean(-1)  # [M, M, B]; float32 also under autocast
    weight = weight.detach().to(distance.dtype).flip(0)
    return (distance * (weight if weight.dim() == 3 else weight[..., None])).sum() / batch
