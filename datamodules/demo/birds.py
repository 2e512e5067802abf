"""Draws birds that differ in beak, crest, wing and tail, for demos of fine-grained data sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from PIL import Image, ImageDraw

from zoo.core.randomness import numpy_generator

SIZE = 64  # pixels
KINDS = ("beak", "crest", "wing", "tail")
SHAPES = 2  # of each part that classes have; number 2 is one that no class has
Point = tuple[float, float]
Word = tuple[int, int, int, int]
"""The shape of each part."""

NEW: tuple[Word, ...] = ((0, 0, 1, 1), (0, 1, 0, 1), (1, 0, 1, 0), (1, 1, 0, 0))
"""Combinations that no class has."""
CLASSES: tuple[Word, ...] = tuple(word for word in product(range(SHAPES), repeat=len(KINDS)) if word not in NEW)
"""The words of the classes: many differ in one part alone, so all parts have to be looked at."""
NUM_CLASSES = len(CLASSES)

PART_NAMES = (
    *("back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg", "left wing", "nape"),
    *("right eye", "right leg", "right wing", "tail", "throat"),
)
"""CUB's parts, in its order."""

_COLOURS = {  # of each shape of each part
    "beak": ((240, 160, 30), (200, 40, 40), (20, 200, 200)),
    "crest": ((200, 30, 60), (40, 90, 210), (250, 250, 250)),
    "wing": ((40, 60, 120), (150, 40, 110), (250, 140, 190)),
    "tail": ((120, 30, 30), (30, 110, 140), (230, 240, 120)),
}


@dataclass(frozen=True)
class Bird:
    """A drawn bird.

    Attributes:
        image: RGB.
        box: left, top, width, height in pixels.
        parts: x, y and whether visible, per part of :data:`PART_NAMES` [15, 3].
        mask: 255 on the bird, grey.
    """

    image: Image.Image
    box: tuple[float, float, float, float]
    parts: np.ndarray
    mask: Image.Image


def novel_shape(rng: np.random.Generator) -> Word:
    """A class's word with one part of a shape that no class has."""
    word = list(CLASSES[rng.integers(NUM_CLASSES)])
    word[rng.integers(len(KINDS))] = SHAPES
    return tuple(word)


def novel_combination(rng: np.random.Generator) -> Word:
    """Known shapes together as no class has them."""
    return NEW[rng.integers(len(NEW))]


def draw_bird(word: Word, *key: int | str) -> Bird:
    """A bird of these shapes; place, size, tilt, facing, colours of body and background are drawn by the key."""
    rng = numpy_generator("bird", *key)
    fine = 2 * SIZE
    scale = fine * rng.uniform(0.8, 1.0) / 100
    tilt, facing = rng.uniform(-0.15, 0.15), rng.choice([-1, 1])
    centre = fine / 2 + rng.uniform(-4, 4, 2)

    def place(points: list[Point]) -> list[Point]:
        """From the bird's own 100×100 frame, looking right, middle 0, to pixels."""
        found = []
        for x, y in points:
            x, y = x * math.cos(tilt) - y * math.sin(tilt), x * math.sin(tilt) + y * math.cos(tilt)
            found.append((float(centre[0] + facing * scale * x), float(centre[1] + scale * y)))
        return found

    body = tuple(int(v) for v in rng.integers(90, 200, 3))
    image, mask = _background(rng, fine), Image.new("L", (fine, fine))
    pens = (ImageDraw.Draw(image), ImageDraw.Draw(mask))

    def polygon(points: list[Point], colour: tuple[int, ...]) -> None:
        for pen, ink in zip(pens, (colour, 255), strict=True):
            pen.polygon(place(points), fill=ink)

    def blob(x: float, y: float, a: float, b: float, colour: tuple[int, ...]) -> None:
        turns = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        polygon([(x + a * math.cos(t), y + b * math.sin(t)) for t in turns], colour)

    beak, crest, wing, tail = ((_COLOURS[kind][shape], shape) for kind, shape in zip(KINDS, word, strict=True))
    polygon(_TAILS[tail[1]], tail[0])
    for x in (-4, 6):
        polygon([(x, 24), (x + 2, 24), (x + 2, 38), (x, 38)], (70, 60, 50))
    blob(0, 8, 24, 17, body)
    polygon(_CRESTS[crest[1]], crest[0])
    blob(21, -13, 11, 10, body)
    polygon(_BEAKS[beak[1]], beak[0])
    blob(24, -15, 2.6, 2.6, (10, 10, 10))
    for outline in _WINGS[wing[1]]:
        polygon(outline, wing[0])

    image, mask = image.resize((SIZE, SIZE), Image.Resampling.BOX), mask.resize((SIZE, SIZE), Image.Resampling.BOX)
    noisy = np.asarray(image, np.float32) + rng.normal(0, 6, (SIZE, SIZE, 3))
    mask = mask.point(lambda level: 255 * (level > 127))
    left, top, right, bottom = mask.getbbox()
    return Bird(
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)),
        (float(left), float(top), float(right - left), float(bottom - top)),
        _annotate(place, facing),
        mask,
    )


def _background(rng: np.random.Generator, size: int) -> Image.Image:
    top, bottom = rng.integers(150, 245, 3), rng.integers(60, 200, 3)
    share = np.linspace(0, 1, size)[:, None, None]
    return Image.fromarray(np.broadcast_to(top * (1 - share) + bottom * share, (size, size, 3)).astype(np.uint8))


def _annotate(place: Callable[[list[Point]], list[Point]], facing: int) -> np.ndarray:
    """The side that is turned to us is the bird's right one where it looks right."""
    near, far = ("right", "left") if facing > 0 else ("left", "right")
    where = {
        **{"back": (-8, -7), "beak": (37, -12), "belly": (2, 22), "breast": (16, 14), "crown": (19, -26)},
        **{"forehead": (28, -22), "nape": (11, -10), "tail": (-35, 10), "throat": (24, -4)},
        **{f"{near} eye": (24, -15), f"{near} wing": (-3, 6), f"{near} leg": (7, 34), f"{far} leg": (-3, 34)},
    }
    found = np.zeros((len(PART_NAMES), 3))
    for row, name in zip(found, PART_NAMES, strict=True):
        if name in where:
            ((x, y),) = place([where[name]])
            row[:] = x / 2, y / 2, 1
    return found


_BEAKS = (
    [(30, -22), (50, -12), (30, -4)],
    [(30, -21), (45, -21), (50, 3), (42, -8), (30, -5)],
    [(30, -17), (36, -32), (48, -30), (50, 4), (38, 8), (30, -6)],
)
_CRESTS = (
    [(9, -18), (12, -44), (19, -26), (27, -44), (29, -18)],
    [(8, -16), (-6, -30), (4, -42), (22, -38), (30, -20)],
    [(6, -12), (-6, -26), (9, -26), (6, -46), (20, -32), (34, -46), (32, -26), (44, -26), (32, -14)],
)
_WINGS = (
    [[(-20, 0), (12, 0), (-4, 20)]],
    [[(-18, -2), (10, -2), (10, 3), (-18, 3)], [(-18, 7), (8, 7), (8, 12), (-18, 12)]],
    [[(-16, -4), (-9, -4), (10, 14), (4, 18)], [(4, -5), (10, -2), (-10, 18), (-16, 14)]],
)
_TAILS = (
    [(-18, 4), (-46, -6), (-38, 6), (-46, 18), (-18, 14)],
    [(-18, 4), (-48, 4), (-48, 14), (-18, 13)],
    [(-18, 4), (-30, 0), (-30, -14), (-38, -14), (-38, 22), (-30, 22), (-30, 12), (-18, 12)],
)
