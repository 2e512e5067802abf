"""Runs on generated BraTS, importable by the processes that tests start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from datamodules.brats import BraTS
from datamodules.brats_lists import SplitList
from zoo.methods.lckd.module import LCKD
from zoo.methods.mckd.module import MCKD
from zoo.methods.shaspec.volume_module import ShaSpec
from zoo.tasks.volume_segmentation import VolumeSegmentationModule

WINDOW = (16, 32, 32)
CROP = (32, 64, 64)  # of runs: gradients of zero volumes explode where bottlenecks are one voxel

gentle_sgd = partial(torch.optim.SGD, lr=1e-4)
"""For runs on one rank and on two: larger steps from random weights grow rounding errors a hundredfold each."""


def data(root: Path, batch_size: int = 1, demo: int = 12, split_list: SplitList = "train") -> BraTS:
    return BraTS(root=root, demo=demo, crop_size=CROP, batch_size=batch_size, split_list=split_list)


def trained(model: Any) -> Any:
    """With biases: where all are 0, as they begin, gradients of zero volumes grow 300-fold with every norm."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return model


def in_double(model: VolumeSegmentationModule) -> Any:
    """The model in float64, on images as the data have them."""
    images = model.images
    model.images = lambda given: images(given).double()
    return model.double()


def shaspec(root: Path) -> tuple[ShaSpec, BraTS]:
    """The narrowest ShaSpec, all modalities at first, then random ones."""
    stages = [{"name": "warmup", "until_step": 4, "available": "all"}, {"name": "random"}]
    return trained(ShaSpec(width=2, window=CROP, stages=stages)), data(root)


def shaspec_in_double(root: Path, batch_size: int = 2) -> tuple[ShaSpec, BraTS]:
    """The same with random modalities, for ranks; six brains to train on."""
    model = ShaSpec(width=2, window=CROP, optimizer=gentle_sgd)
    return in_double(trained(model)), data(root, batch_size, demo=11)


def lckd(root: Path, batch_size: int = 2, optimizer: Any = None) -> tuple[LCKD, BraTS]:
    """The narrowest LCKD, which elects after every other step; six brains to train on and two to elect with."""
    model = LCKD(width=2, window=CROP, elect_every_steps=2, optimizer=optimizer)
    return in_double(trained(model)), data(root, batch_size, demo=11)


def mckd(root: Path, batch_size: int = 2, optimizer: Any = None, demo: int = 10) -> tuple[MCKD, BraTS]:
    """The narrowest MCKD with phases of two meta steps after every other step, all modalities at first, then random
    ones; of ten brains six to train on, of thirty twenty, and two to learn importances from."""
    stages = [{"name": "complete", "until_step": 2, "available": "all"}, {"name": "random"}]
    model = MCKD(
        width=2,
        window=CROP,
        meta_batches=2,
        optimizer=optimizer,
        stages=[stage | {"meta_every_steps": 2} for stage in stages],
    )
    return in_double(trained(model)), data(root, batch_size, demo=demo, split_list="meta")


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
