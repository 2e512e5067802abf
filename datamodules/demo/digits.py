"""Small pictures of any number of classes: scikit-learn's handwritten digits, on coloured paper if need be."""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np
from PIL import Image

from datamodules.own_data import DIGIT_NAMES
from zoo.core.errors import RecipeError
from zoo.core.extras import require
from zoo.core.randomness import numpy_generator

DIGITS = 10


class Digits(NamedTuple):
    """`images`: uint8 [N, size, size, 3]. `labels`: int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


def draw_digits(train: int, test: int, num_classes: int = DIGITS, size: int = 32) -> tuple[Digits, Digits]:
    """Real digits (UCI, 8×8 grey, 1,797 in all), upscaled; none is in both parts.

    A class is a digit and a colour: 0 to 9 are white on black, 10 to 19 the same digits on another background, and so
    on. Classes take turns, so that parts are balanced, and then the samples are shuffled.

    Args:
        train, test: how many.
        num_classes: C.
        size: in pixels.

    Raises:
        RecipeError: if there are not that many different digits.
    """
    bunch = require("sklearn.datasets", "vision").load_digits()
    waiting = [numpy_generator("digits", d).permutation(np.flatnonzero(bunch.target == d)) for d in range(DIGITS)]
    parts = []
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) % num_classes
        rows = np.empty(count, np.int64)
        for digit in range(DIGITS):
            wanted = np.flatnonzero(labels % DIGITS == digit)
            rows[wanted[: len(waiting[digit])]] = waiting[digit][: len(wanted)]
            if len(wanted) > len(waiting[digit]):
                raise RecipeError(f"There are not enough digits for a demo of {train + test:,} samples.")
            waiting[digit] = waiting[digit][len(wanted) :]
        order = numpy_generator("digits", part).permutation(count)
        drawn = zip(bunch.images[rows], labels, strict=True)
        images = np.stack([_picture(ink, label, num_classes, size) for ink, label in drawn])
        parts.append(Digits(images[order], labels[order]))
    return parts[0], parts[1]


def class_names(num_classes: int) -> list[str]:
    """Such as "zero", and "zero on colour 2" of the third paper."""
    papers = ("" if paper == 0 else f" on colour {paper}" for paper in range(-(-num_classes // DIGITS)))
    return [f"{name}{paper}" for paper in papers for name in DIGIT_NAMES][:num_classes]


def _picture(ink: np.ndarray, label: int, num_classes: int, size: int) -> np.ndarray:
    """`ink` [8, 8], 0 to 16, as uint8 [size, size, 3]."""
    grey = Image.fromarray((ink * (255 / 16)).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    share = np.asarray(grey)[..., None] / 255
    colours = -(-num_classes // DIGITS)
    hue = label // DIGITS
    paper = np.array(colorsys.hsv_to_rgb(hue / colours, 1, 0.7)) if hue else np.zeros(3)
    return ((share + (1 - share) * paper) * 255).round().astype(np.uint8)
