"""Small volumes on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.demo.brats import write_volume

SHAPE = (12, 20, 18)


def brain(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """int16 [D, H, W]: something within a background of 0."""
    volume = np.zeros(shape, np.int16)
    inner = tuple(slice(2, -2) for _ in shape)
    volume[inner] = np.random.default_rng(seed).integers(5, 30, volume[inner].shape)
    return volume


def tumour(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """uint8 [D, H, W]: all four labels."""
    labels = np.zeros(shape, np.uint8)
    labels[3:9, 4:12, 4:12] = 2
    labels[4:8, 5:10, 5:10] = 4
    labels[5:7, 6:8, 6:8] = 1
    return labels


def write_case(folder: Path, *, suffix: str = ".nii.gz", **volumes: np.ndarray | None) -> Path:
    """A BraTS case; arguments replace volumes, or with `None` leave them out."""
    folder.mkdir(parents=True)
    kinds = {name: brain(seed) for seed, name in enumerate(("flair", "t1", "t1ce", "t2"))} | {"seg": tumour()}
    for kind, volume in (kinds | volumes).items():
        if volume is not None:
            write_volume(folder / f"{folder.name}_{kind}{suffix}", volume)
    return folder
