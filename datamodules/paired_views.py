"""CIPL's augmentation: one geometry for two views of a picture, colours and a slight crop drawn for each.

Steps as of :mod:`datamodules.images`. Lengths in pixels are published for inputs of 512 and in proportion elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from datamodules.images import ColourJitter, HorizontalFlip, RandomResizedCrop, Step, apply, to_tensor
from datamodules.warps import RandomAffine

PUBLISHED_SIZE = 512

# -- steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneOf:
    """One of some steps, each as likely."""

    steps: Sequence[Step]

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        return self.steps[rng.integers(len(self.steps))](image, rng)


@dataclass(frozen=True)
class Enhance:
    """One of Pillow's enhancers with a factor from [1 - x, 1 + x]."""

    enhancer: Callable[[Image.Image], ImageEnhance._Enhance]
    x: float = 0.2

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        return self.enhancer(image).enhance(rng.uniform(1 - self.x, 1 + self.x))


@dataclass(frozen=True)
class Elastic:
    """Pixels of the grey picture move by what is drawn at 3×3 points and cubic between them; black beyond.

    Args:
        low, high: range of the standard deviation of the move, in pixels.
    """

    low: float
    high: float

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        grey = to_tensor(image.convert("L"))[None]
        height, width = grey.shape[2:]
        moves = torch.from_numpy(rng.normal(0, rng.uniform(self.low, self.high), (1, 2, 3, 3)))
        moves = F.interpolate(moves, (height, width), mode="bicubic", align_corners=True)[0]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        where = torch.stack([(x + moves[0]) * 2 / (width - 1) - 1, (y + moves[1]) * 2 / (height - 1) - 1], dim=-1)
        bent = F.grid_sample(grey, where[None].float(), mode="bicubic", align_corners=True)[0, 0]
        return Image.fromarray((bent.clamp(0, 1) * 255).round().byte().numpy()).convert("RGB")


@dataclass(frozen=True)
class Cutout:
    """A black square about a point of the picture, clipped to it."""

    size: int

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        left, top = (int(rng.integers(side)) - self.size // 2 for side in image.size)
        image = image.copy()
        ImageDraw.Draw(image).rectangle((left, top, left + self.size - 1, top + self.size - 1), fill="black")
        return image


@dataclass(frozen=True)
class VerticalFlip:
    """Top and bottom changed with probability 0.5."""

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if rng.random() < 0.5 else image


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur with probability 0.5; radius in pixels."""

    low: float
    high: float

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        blurs, radius = rng.random() < 0.5, rng.uniform(self.low, self.high)
        return image.filter(ImageFilter.GaussianBlur(radius)) if blurs else image


# -- compositions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Views:
    """What is done to a training picture.

    Attributes:
        alone: steps of a picture that has one view.
        common: first steps of one that has two, drawn once.
        each: further steps, drawn for each view.
    """

    alone: Sequence[Step]
    common: Sequence[Step]
    each: Sequence[Step]

    def one(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return apply(self.alone, image, rng)

    def two(self, image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
        image = apply(self.common, image, rng)
        return apply(self.each, image, rng), apply(self.each, image, rng)


def _rand_augment(size: int) -> OneOf:
    """The published variant: one of six operations, its magnitude without effect."""
    unit = size / PUBLISHED_SIZE
    enhancers = (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness, ImageEnhance.Sharpness)
    return OneOf([*map(Enhance, enhancers), Elastic(5 * unit, 20 * unit), Cutout(max(round(25 * unit), 1))])


def _each(size: int) -> tuple[Step, ...]:
    unit = size / PUBLISHED_SIZE
    slight = RandomResizedCrop(size, scale=(0.95, 1.0), ratio=(0.95, 1.05))
    return ColourJitter(0.2, 0.2, 0.2, 0.01), Blur(0.5 * unit, 2 * unit), slight


# The published flips of both views at the end change nothing after those of the common steps: all that is between
# them is as likely mirrored.


def chest_views(size: int) -> Views:
    """As the released code has it for ChestX-ray14."""
    rand_augment = _rand_augment(size)
    alone = (
        rand_augment,
        RandomResizedCrop(size, scale=(0.65, 1.0), ratio=(0.65, 1.35)),
        ColourJitter(0.2, 0.2, 0.2, 0.01),
        HorizontalFlip(),
        RandomAffine(degrees=30, translate=0.3, scale=(0.8, 1.2), shear=(25, 25)),
        VerticalFlip(),
    )
    common = (
        RandomResizedCrop(size + 32, scale=(0.5, 1.0), ratio=(0.5, 2.0)),
        rand_augment,
        HorizontalFlip(),
        RandomAffine(degrees=45, translate=0.3, scale=(0.7, 1.3), shear=(40, 40)),
        VerticalFlip(),
    )
    return Views(alone, common, _each(size))


def fundus_views(size: int) -> Views:
    """As the released code has it for ODIR; a single view takes the steps of one of two."""
    common = (
        RandomResizedCrop(size + 32, scale=(0.65, 1.0), ratio=(0.65, 1.35)),
        _rand_augment(size),
        HorizontalFlip(),
        RandomAffine(degrees=30, translate=0.3, scale=(0.8, 1.2), shear=(25, 25)),
        VerticalFlip(),
    )
    return Views((*common, *_each(size)), common, _each(size))


def mild_views(size: int) -> Views:
    """For small pictures and short trainings: a part of at least three quarters, a flip, colours."""
    return _mild(size)


def mild_turned_views(size: int) -> Views:
    """Mild ones, and as likely upside down, as the published ones are."""
    return _mild(size, VerticalFlip())


def _mild(size: int, *further: Step) -> Views:
    common = (RandomResizedCrop(size, scale=(0.75, 1.0), ratio=(0.9, 1.1)), HorizontalFlip(), *further)
    each = (ColourJitter(0.2, 0.2), RandomResizedCrop(size, scale=(0.95, 1.0), ratio=(0.95, 1.05)))
    return Views((*common, each[0]), common, each)
