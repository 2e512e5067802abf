"""Losses of kind `distillation` between two views of an image: (student [B, ...], teacher [B, ...])."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from losses.registry import register
from zoo.core.distributed import gather_rows, gather_rows_with_grad


@register("map_cosine", kind="distillation")
def map_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine over axis 1, summed over the further axes, mean over samples.

    CIPL's alignment of similarity maps: at each location the similarities to all prototypes are compared. The values
    are tiny (1e-5 to 1e-3): in float32.

    Args:
        student, teacher: [B, P, ...].
    """
    cosine = F.cosine_similarity(student.float(), teacher.detach().float(), dim=1)
    return (1 - cosine).flatten(1).sum(1).mean() if cosine.dim() > 1 else (1 - cosine).mean()


@register("prediction_gram", kind="distillation")
def prediction_gram(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of how alike samples are predicted, per finding, mean over findings and pairs of samples.

    CIPL's alignment of predictions. A finding's prediction is the softmax over it and normal, the last entry of axis 1;
    likeness is the inner product. Samples of all ranks are paired, and gradients flow to all of them.

    Args:
        student, teacher: logits [B, C, ...]; further axes count like findings.
    """
    difference = _gram(gather_rows_with_grad(student.float())) - _gram(gather_rows(teacher.float()))
    return difference.square().mean()


def _gram(logits: Tensor) -> Tensor:
    """[B, C, ...] to [F, B, B]."""
    found = (logits[:, :-1] - logits[:, -1:]).sigmoid().flatten(1).mT
    return found[:, :, None] * found[:, None] + (1 - found[:, :, None]) * (1 - found[:, None])
