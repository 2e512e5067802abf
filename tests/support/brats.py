"""Runs on generated BraTS, importable by the processes that tests start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from datamodules.brats import BraTS
from zoo.methods.shaspec.volume_module import ShaSpec

WINDOW = (16, 32, 32)


CROP = (32, 64, 64)  # of runs: gradients of zero volumes explode where bottlenecks are one voxel


def data(root: Path, batch_size: int = 1, demo: int = 12) -> BraTS:
    return BraTS(root=root, demo=demo, crop_size=CROP, batch_size=batch_size)


def shaspec(root: Path) -> tuple[ShaSpec, BraTS]:
    """The narrowest ShaSpec, all modalities at first, then random ones."""
    stages = [{"name": "warmup", "until_step": 4, "available": "all"}, {"name": "random"}]
    return ShaSpec(width=2, window=CROP, stages=stages), data(root)


def plain(root: Path, batch_size: int = 2) -> tuple[ShaSpec, BraTS]:
    """What ranks can share: in float64, since features of zero volumes are noisy in float32."""
    optimizer = partial(torch.optim.SGD, lr=1e-3)
    model = ShaSpec(width=2, window=CROP, optimizer=optimizer)
    return model.double(), data(root, batch_size)


def half_batch(root: Path) -> tuple[ShaSpec, BraTS]:
    return plain(root, batch_size=1)


def batch(samples: int = 2, size: tuple[int, int, int] = WINDOW, seed: int = 0) -> dict[str, Any]:
    """Random numbers under the contract."""
    generator = torch.Generator().manual_seed(seed)
    names = ("flair", "t1", "t1ce", "t2")
    return {
        "index": torch.arange(samples),
        "id": [f"case{number}" for number in range(samples)],
        "modalities": {name: torch.randn(samples, 1, *size, generator=generator) for name in names},
        "present": {name: torch.ones(samples, dtype=torch.bool) for name in names},
        "mask": torch.randint(2, (samples, 3, *size), generator=generator, dtype=torch.uint8),
    }
