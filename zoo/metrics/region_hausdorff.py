"""The 95th percentile of the Hausdorff distance of overlapping regions of volumes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.core.extras import require


class RegionHD95(Metric):
    """Mean over samples of the 95th percentile of the symmetric Hausdorff distance, per region: float [R], millimetres.

    MONAI's distance. Where a region is empty in the prediction and in the target it is 0, where in one of them, the
    diagonal of the volume (373 mm in BraTS, as its challenges count).

    Args:
        num_regions: R.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    samples: Tensor

    def __init__(self, num_regions: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros(num_regions), dist_reduce_fx="sum")
        self.add_state("samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor, spacing: Sequence[float]) -> None:
        """Add one sample.

        Args:
            prediction, target: [R, D, H, W], 0 or 1.
            spacing: of slices, rows and columns in millimetres.
        """
        diagonal = sum((size * step) ** 2 for size, step in zip(target.shape[1:], spacing, strict=True)) ** 0.5
        prediction, target = prediction.bool(), target.bool()
        there = torch.stack([prediction.flatten(1).any(1), target.flatten(1).any(1)])
        distances = torch.where(there.any(0), diagonal, 0.0).to(self.total)
        both = there.all(0)
        if both.any():
            metrics = require("monai.metrics", "volumes")
            with warnings.catch_warnings():  # MONAI of its own deprecated argument
                warnings.simplefilter("ignore", FutureWarning)
                found = metrics.compute_hausdorff_distance(
                    prediction[both][None],
                    target[both][None],
                    include_background=True,
                    percentile=95,
                    spacing=[*spacing],
                )
            distances[both] = found[0].to(distances)
        self.total += distances
        self.samples += 1

    def compute(self) -> Tensor:
        return self.total / self.samples
