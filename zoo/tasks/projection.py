"""Projection ("push"): each prototype becomes the feature of the training patch that fits it best."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.extras import require


def best_of_classes(activation: Tensor, has: Tensor) -> Tensor:
    """The best activation of each prototype of the classes that an image has.

    Args:
        activation: [B, N, C, K], larger where a location fits better.
        has: bool [B, C].

    Returns:
        [B, C, K]; -inf for other classes.
    """
    return activation.amax(1).masked_fill(~has[:, :, None], -torch.inf)


def choose(activation: Tensor) -> Tensor:
    """Which image each prototype is projected on: prototypes in order, each the best image that none before it took.

    Args:
        activation: best of each image for each prototype [N, C, K]; -inf where the image lacks the class.

    Returns:
        Row of the image, int64 [C, K]; -1 where the class has no image left.
    """
    left = activation.flatten(1).cpu().clone()  # sync: a few times per run
    chosen = torch.full((left.shape[1],), -1)
    for prototype in range(len(chosen)):
        row = left[:, prototype].argmax()  # of equals the first
        if left[row, prototype] > -torch.inf:
            chosen[prototype] = row
            left[row] = -torch.inf
    return chosen.unflatten(0, activation.shape[1:]).to(activation.device)


def patch_features(activation: Tensor, features: Tensor, prototype: Tensor) -> Tensor:
    """Features of the location of each image that fits one prototype best.

    Args:
        activation: [B, N, C, K].
        features: [B, D, h, w], N = h·w.
        prototype: which one, numbered through the classes, int64 [B].

    Returns:
        [B, D].
    """
    location = activation.flatten(2).take_along_dim(prototype[:, None, None], 2)[:, :, 0].argmax(1)
    return features.flatten(2).take_along_dim(location[:, None, None], 2)[:, :, 0]


def box_of_peak(activation: Tensor, size: tuple[int, int], percentile: float = 95.0) -> tuple[float, ...]:
    """The box around the connected region above a percentile that holds the peak.

    Args:
        activation: one prototype's map [h, w].
        size: height and width in pixels that the map is upsampled to (cubic).

    Returns:
        Left, top, right, bottom, as shares of the image's width and height.
    """
    ndimage = require("scipy.ndimage", "vision")
    large = F.interpolate(activation[None, None].float(), size, mode="bicubic")[0, 0].cpu()  # sync: push alone
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
