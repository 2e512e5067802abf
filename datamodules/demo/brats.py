"""Writes a small BraTS2018: brains of 64×64×32 voxels with a tumour, of which each sequence shows another part.

FLAIR shows the whole tumour, oedema above all, and little of what is inside; T2 shows it beside the bright ventricles
that resemble it; T1ce shows the enhancing rim and the dark core, but no oedema; T1 hardly anything. Bright spots that
are no tumour lie about in FLAIR (old lesions) and in T1ce (vessels), others in each.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from datamodules.brats import LIST, MODALITIES
from zoo.core.errors import RecipeError
from zoo.core.extras import require
from zoo.core.randomness import numpy_generator

SHAPE = (32, 64, 64)  # depth, height, width
SMALLEST = 8
# Few grey values, since normalisation truncates at the last one that 50 voxels have. Order: white matter, grey matter,
# ventricles, core, oedema, enhancing rim, spots.
GREY_VALUES = {
    "flair": (15, 18, 8, 24, 28, 26, 28),
    "t1": (22, 18, 10, 18, 20, 18, 20),
    "t1ce": (22, 18, 10, 14, 20, 33, 33),
    "t2": (14, 18, 31, 27, 26, 25, 20),
}
WHITE, GREY, VENTRICLE, CORE, OEDEMA, RIM, SPOT = range(7)
LABELS = np.array([0, 0, 0, 1, 2, 4, 0], np.uint8)
PARTS = {"test": 0.2, "val": 0.1, "meta": 0.05, "unlabelled": 0.05}  # the rest is for training


def draw_case(grade: str, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A brain with a tumour, of which low-grade ones (LGG) enhance on one side alone, or not at all.

    Returns:
        The sequences, int16 [D, H, W], 0 outside the brain; the labels, uint8 [D, H, W].
    """
    size = np.array(SHAPE)
    points = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).astype(float)
    points -= (size - 1) / 2 + rng.normal(0, 0.7, 3)
    radii = np.array([13.5, 28.0, 24.0]) * rng.uniform(0.93, 1.03, 3)
    depth = np.sqrt(((points / radii) ** 2).sum(-1)) + 0.05 * _smooth(rng, 5)
    brain = depth < 1

    tissue = np.where(depth + 0.12 * _smooth(rng, 2.5) < 0.8, WHITE, GREY)
    for side in (-1, 1):
        ventricle = (points - [rng.normal(0, 1), rng.normal(0, 2), side * rng.uniform(4, 6)]) / (
            np.array([5.0, 10.0, 3.0]) * rng.uniform(0.8, 1.3)
        )
        tissue[(ventricle**2).sum(-1) + 0.2 * _smooth(rng, 2) < 1] = VENTRICLE

    direction = rng.normal(0, 1, 3)
    centre = direction / np.linalg.norm(direction) * radii * rng.uniform(0.25, 0.6)
    reach = np.array([8.0, 12.0, 12.0]) * rng.uniform(0.75, 1.1)
    away = np.sqrt((((points - centre) / reach) ** 2).sum(-1)) + 0.12 * _smooth(rng, 3)
    inner = np.sqrt((((points - centre) / reach) ** 2).sum(-1)) + 0.07 * _smooth(rng, 2)
    tissue[(away < 1) & brain] = OEDEMA
    border, rim = rng.uniform(0.55, 0.7), rng.uniform(0.15, 0.25)
    tissue[(inner < border) & brain] = RIM
    if grade == "LGG":
        low = -0.3 if rng.random() < 0.67 else -10
        tissue[(inner < border) & brain & (((points - centre) / reach)[..., 1] > low)] = CORE
    tissue[(inner < border - rim) & brain] = CORE

    images = {name: _scan(name, tissue, brain, rng) for name in MODALITIES}
    return images, np.where(brain, LABELS[tissue], 0).astype(np.uint8)


def _scan(name: str, tissue: np.ndarray, brain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One sequence: its own spots, partial volumes, an uneven field, noise."""
    filters = require("scipy.ndimage", "volumes")
    if name in ("flair", "t1ce"):
        tissue = tissue.copy()
        inside = np.argwhere(brain & (tissue < CORE))
        for place in inside[rng.integers(len(inside), size=6)]:
            axes = zip(place, SHAPE, rng.uniform(1.2, 2.6, 3), strict=True)
            away = [((np.arange(side) - at) / radius) ** 2 for at, side, radius in axes]
            near = sum(np.meshgrid(*away, indexing="ij", sparse=True)) < 1
            tissue[near & (tissue < CORE)] = SPOT
    values = filters.gaussian_filter(np.array(GREY_VALUES[name], float)[tissue], 0.6)
    values *= rng.uniform(0.9, 1.1) * (1 + 0.05 * _smooth(rng, 10))
    values += rng.normal(0, 1.3, SHAPE)
    return np.where(brain, values.round().clip(1), 0).astype(np.int16)


def _smooth(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Noise of deviation 1 that varies over `sigma` voxels."""
    spectrum = np.fft.rfftn(rng.normal(0, 1, SHAPE))
    frequencies = np.fft.fftfreq(SHAPE[0]), np.fft.fftfreq(SHAPE[1]), np.fft.rfftfreq(SHAPE[2])
    squared = sum(f**2 for f in np.meshgrid(*frequencies, indexing="ij", sparse=True))
    noise = np.fft.irfftn(spectrum * np.exp(-2 * (np.pi * sigma) ** 2 * squared), SHAPE, axes=(0, 1, 2))
    return noise / noise.std()


def write_demo(root: Path, samples: int) -> None:
    """Write `samples` cases in the tree of the download, and `cases.csv`, which says the part of each.

    A twentieth lies in the folder of unlabelled cases. Every fourth case is low-grade. Each is drawn from a seed of
    its own, in which its part of the data is named.

    Raises:
        RecipeError: if that is too few.
    """
    if samples < SMALLEST:
        raise RecipeError(f"A demo of BraTS has at least {SMALLEST} samples, not {samples}.")
    parts = [part for part, share in PARTS.items() for _ in range(max(round(share * samples), 1))]
    parts += ["train"] * (samples - len(parts))
    with (root / LIST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "split"])
        for number, part in enumerate(parts):
            name, grade = f"Brats18_DEMO_{number:03}_1", "LGG" if number % 4 == 3 else "HGG"
            images, labels = draw_case(grade, numpy_generator("brats demo", part, name))
            if part == "unlabelled":
                folder = root / "MICCAI_BraTS_2018_Data_Validation" / name
            else:
                folder = root / "MICCAI_BraTS_2018_Data_Training" / grade / name
                images["seg"] = labels
                writer.writerow([name, part])
            folder.mkdir(parents=True)
            for kind, volume in images.items():
                write_volume(folder / f"{name}_{kind}.nii.gz", volume)


def write_volume(path: Path, volume: np.ndarray) -> None:
    """As the download has it: height, width, depth; patient coordinates that point left and to the back."""
    nibabel = require("nibabel", "volumes")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = volume.shape[1] - 1
    image = nibabel.Nifti1Image(volume.transpose(1, 2, 0), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
