"""Pictures from files, and what is done to them: decoding, sizes, and augmentation by keyed randomness.

Steps work on Pillow images and are called with the sample's generator, which those that draw nothing ignore; a
data module has one list of steps for training and one, that draws nothing, for all else. Normalisation is no step: it
belongs to the model.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from zoo.core.errors import DataError

Step = Callable[[Image.Image, np.random.Generator | None], Image.Image]

# -- reading -------------------------------------------------------------------------------------------------------


def read_image(path: Path) -> Image.Image:
    """Decode a PNG or JPEG in whatever mode it has, turned as its EXIF entry says.

    Raises:
        DataError: naming the file, if it is missing, cut, absurdly large, or of another kind.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as opened:
                return ImageOps.exif_transpose(opened)
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{path} is no PNG or JPEG image.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels.") from None
    except (OSError, SyntaxError, ValueError, struct.error) as error:  # Pillow's, for what is cut or garbled
        raise DataError(f"{path} cannot be read: {error}") from error


def read_rgb(path: Path) -> Image.Image:
    """Decode a PNG or JPEG as RGB: grey in all three channels, 16 bits rounded to 8, transparent parts on black.

    Raises:
        DataError: as :func:`read_image`.
    """
    image = read_image(path)
    if is_16_bit(image):  # which Pillow's own conversion would cut off at 255
        image = Image.fromarray(np.round(np.asarray(image, np.float32) / 257).astype(np.uint8))
    return on_black(image).convert("RGB")


def is_16_bit(image: Image.Image) -> bool:
    """Whether it is grey of 16 bits, however Pillow keeps it."""
    return image.mode.startswith("I")


def on_black(image: Image.Image) -> Image.Image:
    """Without transparency: what shines through is black."""
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image


def to_tensor(image: Image.Image) -> Tensor:
    """An 8-bit image as float32 [channels, height, width], in [0, 1]."""
    pixels = np.asarray(image)
    return torch.from_numpy(np.atleast_3d(pixels).transpose(2, 0, 1) / np.float32(255))


def apply(steps: Iterable[Step], image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
    """One step after the other."""
    for step in steps:
        image = step(image, rng)
    return image


# -- sizes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resize:
    """To a square of `size` pixels whatever the proportions, bilinear with antialiasing."""

    size: int

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        square = (self.size, self.size)
        return image if image.size == square else image.resize(square, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class ResizeShorter:
    """The shorter side to `size` pixels, bilinear with antialiasing; the longer one in proportion, rounded down."""

    size: int

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        short = min(image.size)
        width, height = (self.size if side == short else int(self.size * side / short) for side in image.size)
        return image if (width, height) == image.size else image.resize((width, height), Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class CentreCrop:
    """The middle `size` × `size` pixels; beyond the image it is black."""

    size: int

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        left, top = (round((side - self.size) / 2) for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))


# -- augmentation --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandomCrop:
    """`size` × `size` pixels at a uniformly drawn place of the image with `padding` black pixels around it."""

    size: int
    padding: int = 0

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        room = [max(side + 2 * self.padding - self.size, 0) for side in image.size]
        left, top = (int(rng.integers(free + 1)) - self.padding for free in room)
        return image.crop((left, top, left + self.size, top + self.size))  # Pillow fills with black beyond the image


@dataclass(frozen=True)
class RandomResizedCrop:
    """A part of drawn area and proportions, resized to `size` × `size` pixels (Szegedy et al. 2015).

    Args:
        size: in pixels.
        scale: range of the part's share of the image's area.
        ratio: range of its width over its height, drawn uniformly in the logarithm.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        width, height = image.size
        square = (self.size, self.size)
        for _ in range(10):
            area = rng.uniform(*self.scale) * width * height
            ratio = math.exp(rng.uniform(*map(math.log, self.ratio)))
            across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < across <= width and 0 < down <= height:
                left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
                part = (left, top, left + across, top + down)
                return image.resize(square, Image.Resampling.BILINEAR, box=part)
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])  # the largest part in the middle that is allowed
        across, down = min(width, round(height * ratio)), min(height, round(width / ratio))
        left, top = (width - across) / 2, (height - down) / 2
        return image.resize(square, Image.Resampling.BILINEAR, box=(left, top, left + across, top + down))


@dataclass(frozen=True)
class HorizontalFlip:
    """Left and right changed with probability `p`."""

    p: float = 0.5

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < self.p else image


@dataclass(frozen=True)
class ColourJitter:
    """Brightness, contrast and saturation times a factor from [1 - x, 1 + x], hue turned by up to ± x of the circle,
    in a drawn order."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __call__(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        enhance = (
            (ImageEnhance.Brightness, self.brightness),
            (ImageEnhance.Contrast, self.contrast),
            (ImageEnhance.Color, self.saturation),
        )
        factors = [max(0.0, rng.uniform(1 - x, 1 + x)) for _, x in enhance]
        turn = rng.uniform(-self.hue, self.hue)
        for place in rng.permutation(4):
            image = _turn_hue(image, turn) if place == 3 else enhance[place][0](image).enhance(factors[place])
        return image


def _turn_hue(image: Image.Image, turn: float) -> Image.Image:
    steps = round(turn * 255)
    if not steps:
        return image
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
