"""Augmentation that bends pictures: random perspective and affine maps, as torchvision draws them.

Steps as of :mod:`datamodules.images`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class RandomPerspective:
    """With probability `p`, the corners move inwards by up to half of `distortion` of the side; black beyond."""

    distortion: float = 0.5
    p: float = 0.5

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        if rng.random() >= self.p:
            return image
        width, height = image.size
        most = [int(self.distortion * (side // 2)) + 1 for side in image.size]
        shift = rng.integers(most, size=(4, 2)).tolist()
        corners = ((0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1))
        signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
        moved = [
            (x + across * dx, y + down * dy)
            for (x, y), (across, down), (dx, dy) in zip(corners, signs, shift, strict=True)
        ]
        data = _perspective([(x + 0.5, y + 0.5) for x, y in moved], [(x + 0.5, y + 0.5) for x, y in corners])
        return image.transform(image.size, Image.Transform.PERSPECTIVE, data, Image.Resampling.BILINEAR)


def _perspective(after: list[tuple[float, float]], before: list[tuple[float, float]]) -> list[float]:
    """Pillow's eight numbers of the map from points of the result to points of the image."""
    rows, values = [], []
    for (x, y), (u, v) in zip(after, before, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.lstsq(np.array(rows, float), np.array(values, float), rcond=None)[0].tolist()


@dataclass(frozen=True)
class RandomAffine:
    """Shear, rotation, scale and translation about the middle; nearest pixel, black beyond.

    Args:
        degrees: largest rotation, either way.
        shear: largest shear along x and along y in degrees, either way.
        translate: largest shift as a share of width and height, either way.
        scale: range of the factor.
    """

    degrees: float = 0.0
    shear: tuple[float, float] = (0.0, 0.0)
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        angle = math.radians(rng.uniform(-self.degrees, self.degrees))
        along_x, along_y = (math.tan(math.radians(rng.uniform(-most, most))) for most in self.shear)
        shift = [round(rng.uniform(-self.translate, self.translate) * side) for side in image.size]
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        sheared = np.array([[1, 0], [-along_y, 1]]) @ np.array([[1, -along_x], [0, 1]])
        middle, inverse = np.array(image.size) / 2, np.linalg.inv(rng.uniform(*self.scale) * turn @ sheared)
        offset = middle - inverse @ (middle + shift)
        data = (*inverse[0], offset[0], *inverse[1], offset[1])
        return image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.NEAREST)
