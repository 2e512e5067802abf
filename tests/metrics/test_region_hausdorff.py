"""Hausdorff distances of regions, and what empty ones count."""

from __future__ import annotations

import torch

from zoo.metrics.region_hausdorff import RegionHD95


def box(depth: int) -> torch.Tensor:
    mask = torch.zeros(8, 12, 12, dtype=torch.uint8)
    mask[depth : depth + 3, 3:9, 3:9] = 1
    return mask


def test_a_shift_is_its_length_in_millimetres():
    metric = RegionHD95(2)
    metric.update(torch.stack([box(1), box(1)]), torch.stack([box(3), box(1)]), (2.5, 1.0, 1.0))
    torch.testing.assert_close(metric.compute(), torch.tensor([5.0, 0.0]))


def test_empty_regions_count_nothing_or_the_diagonal():
    metric, empty = RegionHD95(3), torch.zeros(8, 12, 12, dtype=torch.uint8)
    metric.update(torch.stack([empty, box(1), empty]), torch.stack([empty, empty, box(1)]), (1.0, 1.0, 1.0))
    diagonal = (8**2 + 12**2 + 12**2) ** 0.5
    torch.testing.assert_close(metric.compute(), torch.tensor([0.0, diagonal, diagonal]))
