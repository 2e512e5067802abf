"""Regions, which may overlap, and label maps, in which every voxel has one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor


def regions_to_labels(probabilities: Tensor, regions: Mapping[str, Sequence[int]]) -> Tensor:
    """Label map of predicted regions, each being where its probability is above 0.5.

    A region writes the value that no region of fewer values has, smaller regions after larger ones. That they be
    nested is not enforced.

    Args:
        probabilities: float [..., R, D, H, W].
        regions: the label values of each.

    Returns:
        uint8 [..., D, H, W].
    """
    labels = torch.zeros_like(probabilities.select(-4, 0), dtype=torch.uint8)
    for channel, values in sorted(enumerate(regions.values()), key=lambda item: -len(item[1])):
        smaller = {value for others in regions.values() if len(others) < len(values) for value in others}
        own = next((value for value in values if value not in smaller), values[0])
        labels.masked_fill_(probabilities.select(-4, channel) > 0.5, own)
    return labels


def labels_to_regions(labels: Tensor, regions: Mapping[str, Sequence[int]]) -> Tensor:
    """uint8 [..., R, D, H, W], 0 or 1, of labels [..., D, H, W]."""
    # Comparisons of bytes: a fifth of what torch.isin takes on a brain.
    masks = [reduce(torch.logical_or, (labels == value for value in values)) for values in regions.values()]
    return torch.stack(masks, dim=-4).to(torch.uint8)
