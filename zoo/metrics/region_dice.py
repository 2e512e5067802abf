"""Dice of overlapping regions, as the BraTS papers with missing modalities compute it on their validation volumes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


def region_dice(prediction: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Dice of each sample and region: 2 Σ p y / (Σ p + Σ y + smooth), sums over voxels (ShaSpec, LCKD, MCKD).

    The numerator is not smoothed, so a region that a sample lacks scores 0 whatever is predicted. Without smoothing
    (`smooth=0`) it scores 1 if nothing is predicted either, as the challenge's server has it.

    Args:
        prediction: [N, R, ...], probabilities or 0 and 1.
        target: same shape, 0 or 1.
        smooth: added to the denominator alone.

    Returns:
        float [N, R] in [0, 1].
    """
    prediction, target = prediction.flatten(2).float(), target.flatten(2).float()
    overlap, size = (prediction * target).sum(-1), prediction.sum(-1) + target.sum(-1) + smooth
    return torch.where(size > 0, 2 * overlap / torch.where(size > 0, size, 1), 1.0)


class RegionDice(Metric):
    """Mean over samples of :func:`region_dice`, per region: float [R].

    Args:
        num_regions: R.
        threshold: probabilities above it count as 1; `None` takes probabilities as they are (soft Dice).
        smooth: see there.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    samples: Tensor

    def __init__(self, num_regions: int, threshold: float | None = None, smooth: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold, self.smooth = threshold, smooth
        self.add_state("total", torch.zeros(num_regions), dist_reduce_fx="sum")
        self.add_state("samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        """Add samples: both [N, R, ...], as for :func:`region_dice`."""
        if self.threshold is not None:
            probabilities = probabilities > self.threshold
        self.total += region_dice(probabilities, target, smooth=self.smooth).sum(0)
        self.samples += len(target)

    def compute(self) -> Tensor:
        return self.total / self.samples
