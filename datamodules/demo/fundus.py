"""Draws backs of eyes with the signs of ODIR's diseases, in the layout of its download."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from datamodules.odir import COLUMNS, FOLDERS, INNER, NORMAL, SEPARATOR, SHEETS, SIDES, WHOLE, Part
from zoo.core.errors import RecipeError
from zoo.core.randomness import numpy_generator

WIDTH, HEIGHT = 144, 96  # pixels, the retina in the middle
SMALLEST, LARGEST = 24, 5000
# A keyword of each class, in their order.
WORDS = (
    *("moderate non proliferative retinopathy", "glaucoma", "cataract", "dry age-related macular degeneration"),
    *("hypertensive retinopathy", "pathological myopia", "macular epiretinal membrane", "normal fundus"),
)


def draw_eye(classes: Sequence[int], side: int, *key: int | str) -> Image.Image:
    """An eye with these diseases; the optic disk is on the left of a left eye's picture."""
    rng = numpy_generator("fundus", *key)
    x, y = np.meshgrid((np.arange(WIDTH) + 0.5 - WIDTH / 2) / 44, (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / 44)
    x = x * (1 if side else -1) + rng.uniform(-0.05, 0.05)  # the optic disk lies at positive x
    colour = np.array([0.75, 0.36, 0.16]) * rng.uniform(0.85, 1.1)
    image = colour * (1 - 0.35 * np.hypot(x, y)[..., None])

    def paint(where: np.ndarray, ink: Sequence[float], share: float = 1.0) -> None:
        image[where] = (1 - share) * image[where] + share * np.array(ink)

    def dots(count: int, spread: float, radius: float, ink: Sequence[float]) -> None:
        for _ in range(count):
            left, top = rng.normal(-0.25, spread), rng.normal(0, spread)
            paint(np.hypot(x - left, y - top) < radius * rng.uniform(0.8, 1.3), ink)

    disk = np.hypot((x - 0.5) / 0.9, y)
    if 5 in classes:
        paint(np.hypot((x - 0.42) / 0.9, y) < 0.38, (0.92, 0.85, 0.7))
    thin = 0.45 if 4 in classes else 1.0
    for bend in (-1.1, -0.5, 0.5, 1.1):
        vessel = np.abs(y - bend * np.sqrt(np.clip(0.55 - x, 0, None)) * 0.6) < 0.028 * thin
        paint(vessel & (x < 0.55), (0.4, 0.08, 0.06))
    paint(np.hypot(x + 0.25, y) < 0.14, (0.4, 0.16, 0.08), 0.6)
    paint(disk < 0.17, (0.95, 0.75, 0.4))
    if 1 in classes:
        paint(disk < 0.145, (1.0, 1.0, 0.9))
    if 0 in classes:
        dots(14, 0.35, 0.035, (0.35, 0.02, 0.02))
        dots(6, 0.3, 0.035, (1.0, 0.95, 0.5))
    if 3 in classes:
        dots(14, 0.12, 0.05, (0.95, 0.8, 0.35))
    if 4 in classes:
        for _ in range(6):  # flames
            left, top = rng.uniform(-0.5, 0.4), rng.uniform(-0.6, 0.6)
            paint(np.hypot((x - left) / 0.13, (y - top) / 0.035) < 1, (0.3, 0, 0.02))
    if 6 in classes:
        left, top = rng.uniform(-0.5, 0), rng.uniform(-0.5, 0.5)
        paint(np.hypot(x - left, y - top) < 0.2, (0.1, 0.14, 0.12))
    if 2 in classes:
        image = 0.45 * image + 0.55 * np.array([0.75, 0.72, 0.62])
    image += rng.normal(0, 0.02, image.shape)
    image[np.hypot(x, y) > 1] = 0
    return Image.fromarray((255 * image.clip(0, 1)).round().astype(np.uint8))


def draw_classes(number: int, part: Part) -> list[int]:
    """One or two diseases, or none in every third eye."""
    if number % 3 == 2:
        return [NORMAL]
    rng = numpy_generator("fundus", part, "classes", number)
    first = (number - number // 3) % NORMAL
    return sorted({first, int(rng.integers(NORMAL))} if rng.random() < 0.3 else {first})


def write_demo(root: Path, samples: int) -> None:
    """Write `samples` eyes, two of each patient: two thirds to train, and a sixth for either test.

    Raises:
        RecipeError: if these are too few or too many.
    """
    if not SMALLEST <= samples <= LARGEST:
        raise RecipeError(f"A demo of eyes has from {SMALLEST} to {LARGEST:,} samples, not {samples}.")
    sixth = samples // 12  # in patients
    counts: dict[Part, int] = {"train": samples // 2 - 2 * sixth, "on_site": sixth, "off_site": sixth}
    patient = 0
    for part, count in counts.items():
        folder = root / INNER / FOLDERS[part]
        (folder / WHOLE).mkdir(parents=True)
        rows = [[*COLUMNS]]
        for number in range(count):
            names = [f"{patient}_{side}.jpg" for side in SIDES]
            words = []
            for side, name in enumerate(names):
                classes = draw_classes(2 * number + side, part)
                draw_eye(classes, side, part, number, side).save(folder / WHOLE / name, quality=95)
                words.append(SEPARATOR.join([*(WORDS[kind] for kind in classes), *["lens dust"] * (number % 2)]))
            rows.append([str(patient), *names, *words])
            patient += 1
        (folder / SHEETS[part]).parent.mkdir()
        write_sheet(folder / SHEETS[part], rows)


def write_sheet(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """A workbook of one sheet, its texts shared as Excel has them."""
    texts = list(dict.fromkeys(cell for row in rows for cell in row))
    numbers = {text: number for number, text in enumerate(texts)}
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    items = "".join(f"<si><t>{escape(text)}</t></si>" for text in texts)
    lines = []
    for row, cells in enumerate(rows, 1):
        places = (f"{chr(ord('A') + column)}{row}" for column in range(len(cells)))
        line = (f'<c r="{place}" t="s"><v>{numbers[cell]}</v></c>' for place, cell in zip(places, cells, strict=True))
        lines.append(f'<row r="{row}">{"".join(line)}</row>')
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", f"<sst {space}>{items}</sst>")
        archive.writestr(
            "xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        )
