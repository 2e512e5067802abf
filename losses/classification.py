"""Losses of kind `classification`: (logits, labels, *, index=None, epoch=None)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from losses.registry import register


@register("cross_entropy", kind="classification")
def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    index: Tensor | None = None,
    epoch: int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of the softmax, mean over samples.

    Args:
        logits: float [B, C].
        labels: int64 [B].
        index, epoch: unused; part of the kind's signature.
        label_smoothing: share of the target spread evenly over the classes. In [0, 1).
    """
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
