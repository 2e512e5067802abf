"""Writes what a user's own folder of volumes may look like: the brains of the BraTS demo, and their list."""

from __future__ import annotations

import csv
from pathlib import Path

from datamodules.demo.brats import draw_case, write_volume
from datamodules.nifti_folder import COLUMNS, LIST
from zoo.core.errors import RecipeError
from zoo.core.randomness import numpy_generator

SEQUENCES = ("flair", "t1", "t1ce", "t2")
SMALLEST = 5


def write_demo(root: Path, samples: int) -> None:
    """Write `samples` cases, uncompressed, all files in one folder; a tested case in three lacks one sequence.

    Raises:
        RecipeError: if that is too few.
    """
    if samples < SMALLEST:
        raise RecipeError(f"A demo of NiftiFolder has at least {SMALLEST} samples, not {samples}.")
    parts = ["test"] * max(samples // 5, 1) + ["val"] * max(samples // 10, 1)
    parts += ["train"] * (samples - len(parts))
    (root / "volumes").mkdir()
    with (root / LIST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["case", *SEQUENCES, *COLUMNS[1:]], restval="")
        writer.writeheader()
        for number, part in enumerate(parts):
            name = f"patient{number:03}"
            images, labels = draw_case("HGG", numpy_generator("own volumes demo", part, name))
            if part == "test" and number % 3 == 0:
                del images[SEQUENCES[number // 3 % 4]]
            row = {kind: f"volumes/{name}_{kind}.nii" for kind in (*images, "label")}
            for kind, volume in {**images, "label": labels}.items():
                write_volume(root / row[kind], volume)
            writer.writerow({"case": name, "split": part, **row})
