"""Training crops as the ShaSpec family draws them: a box, often around the tumour, of a size that varies a little."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

CropSampler = Literal["papers", "2024"]
Size = tuple[int, int, int]

MARGIN = (0, 15, 10)  # voxels from the rim (depth, height, width) that boxes drawn anywhere keep
# Axes of depth, height, width that are mirrored, and up to which draw.
MIRRORS = ((0.3, ()), (0.4, (2,)), (0.5, (1,)), (0.6, (0,)), (0.7, (1, 2)), (0.8, (0, 2)), (0.9, (0, 1)))


class Box(NamedTuple):
    """A part of a volume: depth, height, width."""

    start: Size
    stop: Size
    scaled: bool

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        return tuple(map(slice, self.start, self.stop))


def draw_box(regions: np.ndarray, crop: Size, rng: np.random.Generator, sampler: CropSampler = "papers") -> Box:
    """Draw where a training sample is cut out.

    Half of the boxes are scaled by 0.9 to 1.1. In half of the draws a region and one of its voxels are drawn, around
    which the box is centred and then shifted inside; otherwise, or if that region is empty, it lies anywhere, away
    from the rim where there is room. A side longer than the volume's is cut to it.

    Args:
        regions: [R, D, H, W], not 0 inside.
        crop: depth, height, width.
        rng: needs `uniform`, `random`, `choice` and `integers`, used in the published order.
        sampler: "papers": beside the regions "anywhere" can be drawn (the code when the papers were written: fewer
            boxes around the tumour). "2024": ShaSpec's code since September 2024.
    """
    volume = regions.shape[1:]
    scaled = rng.uniform() < 0.5
    scale = rng.uniform(0.9, 1.1) if scaled else 1.0
    sizes = [min(int(side * scale), whole) for side, whole in zip(crop, volume, strict=True)]
    voxel = _draw_voxel(regions, rng, sampler) if rng.random() < 0.5 else None
    if voxel is None:
        start = [
            _draw_start(size, whole, margin, rng) for size, whole, margin in zip(sizes, volume, MARGIN, strict=True)
        ]
    else:
        sizes = [max(size // 2 * 2, 1) for size in sizes]
        start = [
            min(max(int(at) - size // 2, 0), whole - size) for at, size, whole in zip(voxel, sizes, volume, strict=True)
        ]
    return Box(tuple(start), tuple(at + size for at, size in zip(start, sizes, strict=True)), bool(scaled))


def _draw_voxel(regions: np.ndarray, rng: np.random.Generator, sampler: CropSampler) -> tuple[int, ...] | None:
    drawn = int(rng.choice(len(regions) + (sampler == "papers")))
    inside = np.flatnonzero(regions[drawn]) if drawn < len(regions) else np.empty(0)
    if not inside.size:
        return None
    return np.unravel_index(inside[int(rng.choice(inside.size))], regions.shape[1:])


def _draw_start(size: int, whole: int, margin: int, rng: np.random.Generator) -> int:
    low, high = margin, whole - margin - size
    if low > high:
        low, high = 0, whole - size
    return int(rng.integers(low, high, endpoint=True))


def draw_mirror(rng: np.random.Generator) -> tuple[int, ...]:
    """Axes of depth, height, width to be mirrored: none in 30 % of the draws, each other combination in 10 %."""
    drawn = rng.random()
    return next((axes for limit, axes in MIRRORS if drawn <= limit), (0, 1, 2))
