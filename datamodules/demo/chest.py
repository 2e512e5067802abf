"""Draws chests with lesions of ChestX-ray14's fourteen kinds, in the layout of NIH's download.

Each kind has a look and a place of its own; they overlap, as findings do. Boxes are where the drawn lesion is.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.chestxray14_files import BOXES, ENTRIES, FINDINGS, LISTS, SIDE
from zoo.core.errors import RecipeError
from zoo.core.randomness import numpy_generator

SIZE = 128  # pixels
SMALLEST, LARGEST = 20, 5000
NORMAL_EVERY = 4
# What pictures of a part are drawn by. Whoever chooses a drawing or a setting by the test part gives it another key.
KEYS = {"train": "train", "test": "unseen"}

Lesion = tuple[np.ndarray, np.ndarray]
"""What is added to the brightness, and where the lesion is."""


@dataclass(frozen=True)
class Chest:
    """A drawn picture.

    Attributes:
        image: 8-bit grey.
        boxes: of each finding, by its class: x, y, width, height in pixels of the published size.
    """

    image: Image.Image
    boxes: dict[int, tuple[float, float, float, float]]


class Canvas:
    """A chest in a frame of its own: x to the right and y down, from 0 to 1, the heart on the right.

    Attributes:
        rng: of what is drawn.
        x, y: of each pixel, in the frame.
        lungs: how far in a lung a pixel is: below 1 inside.
        image: brightness, 0 to 1.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        shift, scale = rng.uniform(-0.03, 0.03, 2), rng.uniform(0.94, 1.06, 2)
        pixels = (np.arange(SIZE) + 0.5) / SIZE - 0.5
        self.x, self.y = np.meshgrid(pixels / scale[0] + 0.5 + shift[0], pixels / scale[1] + 0.5 + shift[1])
        x, y = self.x, self.y
        each = np.stack([self.ellipse(centre, 0.46, 0.165, 0.34) for centre in (0.29, 0.71)])
        diaphragm = 0.78 - 0.05 * np.cos((np.abs(x - 0.5) - 0.2) * 9)
        self.lungs = np.maximum(each.min(axis=0), 1 + (y - diaphragm) * 8)
        body = 0.56 + 0.06 * np.cos((x - 0.5) * 6) - 0.1 * y
        ribs = 0.035 * np.cos(2 * np.pi * (y * 11 + 3 * (np.abs(x - 0.5) - 0.2) ** 2 * 10))
        image = np.where(self.inside, 0.2 + 0.08 * y, body) + ribs
        image = np.where(self.ellipse(0.5, 0.4, 0.62, 0.62) > 1, 0.04, image)
        image += 0.12 * soft(np.abs(x - 0.5) - 0.035)
        heart = self.ellipse(0.55, 0.63, 0.125, 0.12)
        self.image = np.where(heart < 1, np.maximum(image, 0.62), image)

    @property
    def inside(self) -> np.ndarray:
        return self.lungs < 1

    def ellipse(self, x: float, y: float, across: float, down: float) -> np.ndarray:
        """Below 1 inside."""
        return np.hypot((self.x - x) / across, (self.y - y) / down)

    def place(self, top: float, bottom: float) -> tuple[float, float]:
        """A drawn point near the middle of either lung, between two heights."""
        centre = 0.29 if self.rng.random() < 0.5 else 0.71
        return centre + self.rng.uniform(-0.035, 0.035), self.rng.uniform(top, bottom)


def soft(distance: np.ndarray, width: float = 0.008) -> np.ndarray:
    """1 where the distance is negative, 0 where it is positive, without a jag between."""
    return 1 / (1 + np.exp(np.clip(distance / width, -30, 30) * 2))


def _spots(canvas: Canvas, centre: tuple[float, float], count: int, spread: float, radius: float) -> np.ndarray:
    """Distance to the edge of the nearest of some discs about a point, which lie evenly round it."""
    turn, found = canvas.rng.uniform(0, 2 * np.pi), []
    for number in range(count):
        angle = turn + 2 * np.pi * number / count
        far = spread * canvas.rng.uniform(0.75, 1.1)
        x, y = centre[0] + far * np.cos(angle), centre[1] + far * np.sin(angle)
        found.append(np.hypot(canvas.x - x, canvas.y - y) - radius * canvas.rng.uniform(0.85, 1.15))
    return np.min(found, axis=0)


# -- lesions, in the order of the classes ----------------------------------------------------------------------------


def atelectasis(canvas: Canvas) -> Lesion:
    """Three plates, one above the other, at the base."""
    x, y = canvas.place(0.52, 0.6)
    slope = canvas.rng.uniform(-0.2, 0.2)
    across, down = canvas.x - x, canvas.y - y - slope * (canvas.x - x)
    lines = np.min([np.abs(down - step) for step in (-0.05, 0, 0.05)], axis=0) - 0.011
    where = np.maximum(lines, np.abs(across) - 0.08)
    return 0.5 * soft(where, 0.006), where < 0


def cardiomegaly(canvas: Canvas) -> Lesion:
    """A heart half as large again, its layers showing."""
    across, down = canvas.rng.uniform(0.17, 0.19), canvas.rng.uniform(0.13, 0.145)
    grown = canvas.ellipse(0.55, 0.62, across, down)
    layers = 0.66 + 0.25 * np.cos(2 * np.pi * grown * 0.5 * (across + down) / 0.07)
    return np.where(grown < 1, layers - canvas.image, 0), grown < 1


def effusion(canvas: Canvas) -> Lesion:
    """White in layers, to a curved line, in the outer corner of the base."""
    right = canvas.rng.random() < 0.5
    outward = (canvas.x - 0.71 if right else 0.29 - canvas.x) / 0.165
    depth = canvas.y - canvas.rng.uniform(0.6, 0.64) + 0.08 * np.clip(outward, 0, 1.2) ** 2
    of_side = np.where(((canvas.x > 0.5) == right) & (outward > 0), -1.0, 1.0)
    where = np.max([-depth, (canvas.lungs - 1.05) * 0.1, of_side], axis=0)
    layers = 0.8 - 0.2 * np.cos(2 * np.pi * depth / 0.065)
    return (layers - canvas.image) * soft(where, 0.006), where < 0


def infiltration(canvas: Canvas) -> Lesion:
    """Faint flecks that run into each other."""
    where = np.minimum(
        _spots(canvas, centre := canvas.place(0.4, 0.55), 5, 0.062, 0.025), _spots(canvas, centre, 2, 0.025, 0.025)
    )
    return 0.35 * soft(where, 0.02), where < 0


def mass(canvas: Canvas) -> Lesion:
    """A large round one with rays."""
    x, y = canvas.place(0.3, 0.6)
    across, down = canvas.x - x, canvas.y - y
    where = np.hypot(across, down) - canvas.rng.uniform(0.07, 0.085)
    rays = 0.5 + 0.5 * np.cos(7 * np.arctan2(down, across) + canvas.rng.uniform(0, 2 * np.pi))
    return 0.6 * soft(where) * rays, where < 0


def nodule(canvas: Canvas) -> Lesion:
    """Four small round ones."""
    where = _spots(canvas, canvas.place(0.28, 0.6), 4, 0.055, 0.025)
    return 0.6 * soft(where, 0.005), where < 0


def pneumonia(canvas: Canvas) -> Lesion:
    """A wedge that opens outwards, its edges straight, of upright streaks."""
    x, y = canvas.place(0.42, 0.56)
    outward = (canvas.x - x) * (1 if x > 0.5 else -1) + 0.09
    where = np.maximum(np.abs(canvas.y - y) - 0.4 * outward - 0.02, outward - 0.165)
    streaks = 0.5 + 0.5 * np.cos(2 * np.pi * outward / 0.06)
    return 0.6 * soft(where, 0.006) * streaks, where < 0


def pneumothorax(canvas: Canvas) -> Lesion:
    """Black without ribs, and fine white lines, at the top of a lung."""
    right = canvas.rng.random() < 0.5
    sign, centre = (1, 0.71) if right else (-1, 0.29)
    shrunken = canvas.ellipse(centre - 0.05 * sign, 0.5, 0.14, 0.29)
    where = ((canvas.x > 0.5) == right) & canvas.inside & (shrunken > 0.95) & (canvas.y < 0.29)
    lines = where & (np.mod(shrunken - 0.95, 0.2) < 0.07)
    return np.where(where, np.where(lines, 0.7, 0.02) - canvas.image, 0), where


def consolidation(canvas: Canvas) -> Lesion:
    """A block with dark airways in it."""
    x, y = canvas.place(0.32, 0.52)
    block = np.maximum(np.abs(canvas.x - x) - 0.076, np.abs(canvas.y - y) - 0.076)
    airways = np.abs(np.mod((canvas.x - x) + 0.7 * (canvas.y - y), 0.066) - 0.033) - 0.011
    return 0.6 * soft(block) * (1 - 0.95 * soft(airways, 0.006)), block < 0


def edema(canvas: Canvas) -> Lesion:
    """Rays from the root of a lung."""
    height, right = canvas.rng.uniform(0.43, 0.5), canvas.rng.random() < 0.5
    root = 0.58 if right else 0.42
    far, angle = np.hypot(canvas.x - root, canvas.y - height), np.arctan2(canvas.y - height, canvas.x - root)
    where = (far < 0.15) & ((canvas.x > root) == right) & canvas.inside
    return np.where(where, 0.5 * (1 - far / 0.4) * (np.cos(angle * 12) > 0), 0), where


def emphysema(canvas: Canvas) -> Lesion:
    """Black bubbles with fine walls in the upper lung."""
    edge = _spots(canvas, canvas.place(0.28, 0.4), 4, 0.052, 0.039)
    return np.where(edge < 0, 0.02 - canvas.image, 0) + 0.45 * (np.abs(edge) < 0.01), edge < 0.01


def fibrosis(canvas: Canvas) -> Lesion:
    """A net."""
    x, y = canvas.place(0.48, 0.6)
    one, two = (canvas.x + canvas.y) / 0.06, (canvas.x - canvas.y) / 0.06
    net = np.minimum(np.abs(np.mod(one, 1) - 0.5), np.abs(np.mod(two, 1) - 0.5)) < 0.12
    where = canvas.ellipse(x, y, 0.09, 0.08) < 1
    return 0.5 * (net & where), where


def pleural_thickening(canvas: Canvas) -> Lesion:
    """A white seam along the outer wall, with notches."""
    right = canvas.rng.random() < 0.5
    middle, half = canvas.rng.uniform(0.4, 0.5), canvas.rng.uniform(0.08, 0.1)
    outer = (canvas.x > 0.71) if right else (canvas.x < 0.29)
    where = outer & (canvas.lungs > 0.45) & canvas.inside & (np.abs(canvas.y - middle) < half)
    notches = 0.75 + 0.2 * np.cos(2 * np.pi * (canvas.y - middle) / 0.065)
    return np.where(where, notches - canvas.image, 0), where


def hernia(canvas: Canvas) -> Lesion:
    """A ring with air above a level, in the middle low down."""
    x, y = 0.5 + canvas.rng.uniform(-0.04, 0.04), canvas.rng.uniform(0.74, 0.8)
    edge = np.hypot(canvas.x - x, canvas.y - y) - canvas.rng.uniform(0.07, 0.08)
    air = (edge < -0.02) & (canvas.y < y + 0.015)
    return np.where(edge < 0, np.where(air, 0.05, 0.92) - canvas.image, 0), edge < 0


LESIONS: tuple[Callable[[Canvas], Lesion], ...] = (
    *(atelectasis, cardiomegaly, effusion, infiltration, mass, nodule, pneumonia, pneumothorax),
    *(consolidation, edema, emphysema, fibrosis, pleural_thickening, hernia),
)
# What replaces brightness comes before what adds to it.
_ORDER = (1, 7, 10, 2, 12, 3, 6, 8, 9, 11, 0, 4, 5, 13)
# A frequent finding takes more turns to be a picture's first.
_FIRST = (*range(14), 3, 2, 0, 3, 5, 4)


def draw_chest(findings: list[int], *key: int | str) -> Chest:
    """A chest with these findings; where and how large they are is drawn by the key."""
    rng = numpy_generator("chest", *key)
    canvas, boxes = Canvas(rng), {}
    for kind in sorted(findings, key=_ORDER.index):
        added, where = LESIONS[kind](canvas)
        canvas.image = np.clip(canvas.image + rng.uniform(0.5, 1) * added, 0, 1)  # some are hard to see
        boxes[kind] = _box(where)
    noisy = canvas.image + rng.normal(0, 0.04, canvas.image.shape)
    image = Image.fromarray((255 * noisy.clip(0, 1)).round().astype(np.uint8))
    return Chest(image, boxes)


def _box(where: np.ndarray) -> tuple[float, float, float, float]:
    (top, bottom), (left, right) = (np.flatnonzero(where.any(axis=axis))[[0, -1]] for axis in (1, 0))
    unit = SIDE / SIZE
    return left * unit, top * unit, (right - left + 1) * unit, (bottom - top + 1) * unit


def draw_findings(number: int, key: str) -> list[int]:
    """The findings of a picture: none in every fourth, else one to three, by the part's key."""
    turn, last = divmod(number, NORMAL_EVERY)
    if last == NORMAL_EVERY - 1:
        return []
    rng = numpy_generator("chest", key, "findings", number)
    first = _FIRST[(turn * (NORMAL_EVERY - 1) + last) % len(_FIRST)]
    others = [kind for kind in rng.permutation(len(LESIONS)).tolist() if kind != first]
    return [first, *others[: rng.choice(3, p=(0.5, 0.3, 0.2))]]


def write_demo(root: Path, samples: int) -> None:
    """Write `samples` pictures, three tenths of them for the test, of patients with one to three each.

    Raises:
        RecipeError: if these are too few or too many.
    """
    if not SMALLEST <= samples <= LARGEST:
        raise RecipeError(f"A demo of chests has from {SMALLEST} to {LARGEST:,} samples, not {samples}.")
    (root / "images").mkdir()
    patient, entries, boxes = 0, [], []
    counts = {"train": 7 * samples // 10, "test": samples - 7 * samples // 10}
    for part, count in counts.items():
        names: list[str] = []
        while len(names) < count:
            patient += 1
            for follow_up in range(min(1 + patient % 3, count - len(names))):
                name, number = f"{patient:08}_{follow_up:03}.png", len(names)
                findings = draw_findings(number, KEYS[part])
                chest = draw_chest(findings, KEYS[part], number)
                # Some of the published pictures have colours and transparency too.
                (chest.image.convert("RGBA") if number % 16 == 5 else chest.image).save(root / "images" / name)
                text = "|".join(FINDINGS[kind] for kind in findings) or FINDINGS[-1]
                entries.append((name, text, follow_up, patient))
                for kind, box in chest.boxes.items():
                    finding = "Infiltrate" if FINDINGS[kind] == "Infiltration" else FINDINGS[kind]
                    boxes.append((name, finding, *box, "", "", ""))
                names.append(name)
        (root / LISTS[part]).write_text("".join(f"{name}\n" for name in names))
    _write_table(root / ENTRIES[0], ("Image Index", "Finding Labels", "Follow-up #", "Patient ID"), entries)
    _write_table(root / BOXES, ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""), boxes)


def _write_table(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
