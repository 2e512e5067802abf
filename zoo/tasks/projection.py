"""Projection ("push"): each prototype becomes the feature of the training patch that fits it best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.extras import require


class BestPatches(NamedTuple):
    """Where the prototypes of each image's class fit it best.

    Attributes:
        activation: how well, float [B, K].
        location: flat, int64 [B, K].
        features: of these locations [B, K, D].
    """

    activation: Tensor
    location: Tensor
    features: Tensor


def best_patches(activation: Tensor, features: Tensor, labels: Tensor) -> BestPatches:
    """The best location of each prototype of the image's class.

    Args:
        activation: [B, N, C, K], larger where a location fits better.
        features: [B, D, h, w], N = h·w.
        labels: int64 [B].
    """
    own = activation.take_along_dim(labels[:, None, None, None], 2)[:, :, 0]
    best, location = own.max(1)
    return BestPatches(best, location, features.flatten(2).mT.take_along_dim(location[:, :, None], 1))


def choose(activation: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Which image each prototype is projected on: prototypes in order, each the best image that none before it took.

    Args:
        activation: [N, K], best of each image for its class's prototypes.
        labels: int64 [N].
        num_classes: C.

    Returns:
        Row of the image, int64 [C, K]; -1 where the class has no image left.
    """
    chosen = torch.full((num_classes, activation.shape[1]), -1)
    left, labels = activation.cpu().clone(), labels.cpu()
    for number in range(num_classes):
        rows = (labels == number).nonzero().flatten()
        for prototype in range(min(len(rows), activation.shape[1])):
            row = rows[left[rows, prototype].argmax()]  # of equals the first
            chosen[number, prototype] = row
            left[row] = -torch.inf
    return chosen.to(activation.device)


def project(prototypes: Tensor, features: Tensor, chosen: Tensor) -> Tensor:
    """Prototypes [C, K, D] after projection on rows `chosen` [C, K] of features [N, K, D]; others stay."""
    number = torch.arange(chosen.shape[1], device=chosen.device)
    return torch.where((chosen >= 0)[:, :, None], features[chosen.clamp_min(0), number], prototypes)


def box_of_peak(activation: Tensor, size: tuple[int, int], percentile: float = 95.0) -> tuple[float, ...]:
    """The box around the connected region above a percentile that holds the peak.

    Args:
        activation: one prototype's map [h, w].
        size: height and width in pixels that the map is upsampled to (cubic).

    Returns:
        Left, top, right, bottom, as shares of the image's width and height.
    """
    ndimage = require("scipy.ndimage", "vision")
    large = F.interpolate(activation[None, None].float(), size, mode="bicubic")[0, 0].cpu()
    peak = divmod(int(large.argmax()), size[1])
    regions, _ = ndimage.label((large >= torch.quantile(large, percentile / 100)).numpy(), structure=torch.ones(3, 3))
    rows, columns = ndimage.find_objects((regions == regions[peak]).astype(int))[0]
    return columns.start / size[1], rows.start / size[0], columns.stop / size[1], rows.stop / size[0]


def square_around(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int]:
    """The square around a box, inside the image, at least a quarter of its shorter side wide: one sees what part it is.

    Args:
        box: left, top, right, bottom as shares of the image's width and height.
        size: height and width of the image in pixels.

    Returns:
        Top, left and side in pixels.
    """
    (height, width), (left, top, right, bottom) = size, box
    wanted = max((right - left) * width, (bottom - top) * height, min(size) / 4)
    side = min(math.ceil(wanted), *size)
    y, x = ((top + bottom) * height - side) / 2, ((left + right) * width - side) / 2
    return round(min(max(y, 0), height - side)), round(min(max(x, 0), width - side)), side
