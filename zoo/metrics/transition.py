"""Transition matrices, T[i, j] = p(given label j | true label i): the true one, estimates, and how far off they are."""

from __future__ import annotations

import torch
from torch import Tensor


def label_counts(clean: Tensor, given: Tensor, num_classes: int) -> Tensor:
    """How often each true label (row) was given as each label (column): int64 [C, C].

    Args:
        clean, given: int64 [N].
    """
    pairs = torch.bincount(clean * num_classes + given, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def row_normalised(counts: Tensor) -> Tensor:
    """Absolute values, each row divided by its sum; a row of zeros stays one. Float, same shape."""
    counts = counts.abs() if counts.is_floating_point() else counts.float()
    return counts / counts.sum(1, keepdim=True).clamp_min(torch.finfo(counts.dtype).tiny)


def soft_transition(clean: Tensor, given: Tensor) -> Tensor:
    """Estimate from soft counts: rows of p^T p̃, normalised.

    Args:
        clean: p, posterior of the true label, [N, C].
        given: p̃, posterior of the given label, [N, C].
    """
    return row_normalised(clean.T @ given)


def anchor_transition(given: Tensor) -> Tensor:
    """Estimate from anchor points (Patrini et al., CVPR 2017): row i is the posterior of the surest sample of class i.

    Args:
        given: posterior of the given label, [N, C].
    """
    return row_normalised(given[given.argmax(0)])


def transition_error(estimate: Tensor, true: Tensor) -> Tensor:
    """‖T̂ - T‖₁ / ‖T‖₁ over entries, as T-Revision (Xia et al., NeurIPS 2019) reports it; scalar."""
    return (estimate - true).abs().sum() / true.abs().sum()


def squared_transition_error(estimate: Tensor, true: Tensor) -> Tensor:
    """Mean squared difference of the entries; scalar."""
    return (estimate - true).square().mean()
