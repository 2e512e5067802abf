"""Runs on generated BraTS, importable by the processes that tests start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from datamodules.brats import BraTS
from zoo.methods.lckd.module import LCKD
from zoo.methods.mckd.module import MCKD

SIZE = (32, 64, 64)


def data(root: Path | None, batch_size: int = 2, demo: int = 11, **arguments: Any) -> BraTS:
    """Small brains: of eleven, six for training and two for validation."""
    return BraTS(root=root, demo=demo, batch_size=batch_size, crop_size=SIZE, **arguments)


def _arguments(**arguments: Any) -> dict[str, Any]:
    optimizer = partial(torch.optim.SGD, lr=0.01)
    return {"width": 2, "window": SIZE, "optimizer": optimizer} | arguments


def lckd(root: Path | None, batch_size: int = 2) -> tuple[LCKD, BraTS]:
    """A narrow LCKD that elects after every other step."""
    return LCKD(elect_every_steps=2, **_arguments()), data(root, batch_size)


def lckd_half_batch(root: Path) -> tuple[LCKD, BraTS]:
    return lckd(root, batch_size=1)


def mckd(root: Path | None, batch_size: int = 2) -> tuple[MCKD, BraTS]:
    """A narrow MCKD with a phase of two meta steps after every other step, all modalities first, then drawn ones."""
    stages = [
        {"name": "complete", "until_step": 2, "available": "all", "meta_every_steps": 2},
        {"name": "random", "meta_every_steps": 2},
    ]
    return MCKD(meta_batches=2, **_arguments(stages=stages)), data(root, batch_size, demo=10, split_list="meta")


def mckd_half_batch(root: Path) -> tuple[MCKD, BraTS]:
    return mckd(root, batch_size=1)
