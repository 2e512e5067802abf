"""Accuracy as much code for noisy labels reports it: the mean over batches of each batch's accuracy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class BatchMeanAccuracy(Metric):
    """Unweighted mean of the batches' shares of right answers: a short last batch counts as much as a full one.

    So GNL's code and its kin report it, with batches of 128. The value depends on the batch size and on the number of
    ranks; it is for comparison with published numbers alone.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    batches: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("batches", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add a batch: scores [B, C], int64 [B]."""
        self.total += (logits.argmax(1) == label).float().mean()
        self.batches += 1

    def compute(self) -> Tensor:
        return self.total / self.batches
