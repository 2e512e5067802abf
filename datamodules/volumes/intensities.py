"""MRI intensities: what the papers of the ShaSpec family subtract and divide by, for each volume and sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MIN_COUNT = 50  # voxels of the last bin that is kept
LARGEST_TRUNCATED = 65_535


@dataclass(frozen=True)
class Intensities:
    """What normalises a volume; measured on all of it, applied to any part.

    Attributes:
        ceiling: intensities above become this.
        background: intensity of the corner voxel.
        mean, std: of the rest.
    """

    ceiling: float
    background: float
    mean: float
    std: float

    def apply(self, voxels: np.ndarray) -> Tensor:
        """Normalised voxels, float32, the background at 0. A voxel that equals the mean becomes 0 as well."""
        raw = np.minimum(voxels, self.ceiling).astype(np.float64)
        centred = np.where(raw != self.background, raw - self.mean, 0)
        return torch.from_numpy(np.where(centred != self.background, centred / self.std, 0).astype(np.float32))


def measure(volume: np.ndarray, min_count: int = MIN_COUNT) -> Intensities:
    """What normalises this volume.

    Whole numbers up to 65,535 are truncated first: of as many equal bins as the maximum says, the number of the last
    one that has `min_count` voxels is the ceiling (it equals an intensity since the background is 0). Other volumes,
    and those where this would leave the background alone, are not truncated.

    The published code compares the centred values with the same background value again, as this does: with a
    background other than 0, its voxels count in the deviation.

    Args:
        volume: raw intensities [D, H, W], finite.
    """
    ceiling = _ceiling(volume, min_count)
    raw = np.minimum(volume, ceiling).astype(np.float64)
    background = float(raw.flat[0])
    inside = raw != background
    mean = float(raw[inside].mean()) if inside.any() else 0.0
    centred = np.where(inside, raw - mean, 0)
    rest = centred[centred != background]
    return Intensities(float(ceiling), background, mean, (float(rest.std()) if rest.size else 0.0) or 1.0)


def normalise(volume: np.ndarray, min_count: int = MIN_COUNT) -> Tensor:
    """A whole volume normalised by its own intensities: float32 [D, H, W]."""
    return measure(volume, min_count).apply(volume)


def _ceiling(volume: np.ndarray, min_count: int) -> float:
    largest = volume.max()
    whole = volume.dtype.kind in "iu" or bool((volume == np.rint(volume)).all())
    if not whole or not 1 <= largest <= LARGEST_TRUNCATED:
        return float(largest)
    counts, _ = np.histogram(volume, bins=int(largest))
    kept = np.flatnonzero(counts >= min_count)
    return float(kept[-1]) if kept.size and kept[-1] > 0 else float(largest)
