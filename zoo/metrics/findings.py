"""Scores of findings, each present or absent: area under the ROC curve, best F1, accuracy at its threshold."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat


class FindingScores(NamedTuple):
    """Per finding, float64 [F]; NaN where none or all of the images have it.

    Attributes:
        auc: chance that an image with the finding scores higher than one without, ties half.
        max_f1: highest F1 of `score >= threshold` over all thresholds.
        accuracy: of `score > threshold`, strictly, as released, at the lowest threshold of the highest F1.
    """

    auc: Tensor
    max_f1: Tensor
    accuracy: Tensor


def finding_scores(scores: Tensor, labels: Tensor) -> FindingScores:
    """Measures of scores [N, F], larger for present findings, with labels [N, F] in {0, 1}."""
    scores, positive = scores.double().mT.contiguous(), labels.mT > 0.5
    ascending, order = scores.sort(1)
    sorted_positive = positive.gather(1, order).double()
    total, count = positive.sum(1, keepdim=True).double(), scores.shape[1]
    # Number of images, and of those with the finding, whose score is at least that of each.
    first = torch.searchsorted(ascending, ascending)
    at_least = count - first
    below = torch.cat([torch.zeros_like(total), sorted_positive.cumsum(1)], 1)
    hits = total - below.gather(1, first)
    f1 = 2 * hits / (at_least + total)
    best, place = f1.max(1, keepdim=True)  # of equals the first, so the lowest threshold
    threshold = ascending.gather(1, place)
    accuracy = ((scores > threshold) == positive).double().mean(1)
    # Wins of each image with the finding over those without it: strictly lower ones, and half of the equal ones.
    last = torch.searchsorted(ascending, ascending, right=True)
    lower, equal = first - below.gather(1, first), (last - first) - (below.gather(1, last) - below.gather(1, first))
    wins = ((lower + 0.5 * equal) * sorted_positive).sum(1)
    total = total[:, 0]
    auc = wins / (total * (count - total))
    defined = (total > 0) & (total < count)
    return FindingScores(*(torch.where(defined, value, torch.nan) for value in (auc, best[:, 0], accuracy)))


class FindingMetric(Metric):
    """:func:`finding_scores` over batches and ranks."""

    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Scores float [B, F] and labels [B, F] in {0, 1}."""
        self.scores.append(scores.detach().float())
        self.labels.append(labels > 0.5)

    def compute(self) -> FindingScores:
        return finding_scores(dim_zero_cat(self.scores), dim_zero_cat(self.labels))
