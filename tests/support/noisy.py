"""Runs of methods for noisy labels on small pictures, importable by the processes that tests start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.support.images import CLASSES, PictureData, pictures
from zoo.methods.baselines.noisy import CoTeaching, ImageClassifier
from zoo.methods.gnl.module import GNL

SMALL = {"num_classes": CLASSES, "backbone": "preact_resnet18", "width": 4, "normalisation": "none"}
STAGES = [{"name": "warmup", "until_epoch": 1, "warmup": True}, {"name": "train"}]
# Plain gradient descent: momentum and small numbers of samples blow rounding up.
PLAIN = partial(torch.optim.SGD, lr=0.05)


def gnl(**settings: Any) -> GNL:
    """A small GNL that remembers the pictures' 22 training samples."""
    torch.manual_seed(0)
    model = GNL(**{**SMALL, "stages": STAGES, **settings})
    model._make_memory(22)
    return model


def gnl_run(data: Path, batch_size: int = 8) -> tuple[GNL, PictureData]:
    return GNL(**SMALL, stages=STAGES, pair=True), pictures(data, batch_size)


def two_epochs_of_warm_up(data: Path) -> tuple[GNL, PictureData]:
    return GNL(**SMALL, stages=[{**STAGES[0], "until_epoch": 2}, STAGES[1]]), pictures(data)


def without_batch_statistics(model: nn.Module) -> None:
    """What ranks cannot share: BatchNorm works on what it has been told before."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def frozen(data: Path, batch_size: int = 8, direction: str = "pxy") -> tuple[GNL, PictureData]:
    model = GNL(**SMALL, stages=STAGES, pair=True, optimizer=PLAIN, direction=direction)
    without_batch_statistics(model)
    return model, pictures(data, batch_size)


def half_batch(data: Path) -> tuple[GNL, PictureData]:
    return frozen(data, batch_size=4)


def elr_run(data: Path) -> tuple[ImageClassifier, PictureData]:
    return ImageClassifier(**SMALL, losses={"task": {"name": "elr"}}), pictures(data)


def elr(data: Path, batch_size: int = 8) -> tuple[ImageClassifier, PictureData]:
    model = ImageClassifier(**SMALL, optimizer=PLAIN, losses={"task": {"name": "elr"}})
    without_batch_statistics(model)
    return model, pictures(data, batch_size)


def elr_half_batch(data: Path) -> tuple[ImageClassifier, PictureData]:
    return elr(data, batch_size=4)


def co_teaching(data: Path, batch_size: int = 8) -> tuple[CoTeaching, PictureData]:
    model = CoTeaching(**SMALL, ramp_epochs=2, optimizer=PLAIN)
    without_batch_statistics(model)
    return model, pictures(data, batch_size)


def co_teaching_half_batch(data: Path) -> tuple[CoTeaching, PictureData]:
    return co_teaching(data, batch_size=4)
