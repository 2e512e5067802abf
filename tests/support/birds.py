"""Runs of prototype methods on a few drawn birds, importable by the processes that tests start."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from datamodules.fine_grained import CUB200
from zoo.methods.mgproto.module import MGProto

STAGES = [
    {"name": "features", "until_epoch": 1, "em": False, "mining": False},
    {"name": "first", "until_epoch": 2, "push": True},
    {"name": "end", "push": True, "prune": 2},
]


def birds(root: Path | None, batch_size: int = 8) -> CUB200:
    """48 pictures of 32×32, half of them for training."""
    data = CUB200(
        root=root, demo=48, image_size=32, fitting="squash", validation="test", batch_size=batch_size, num_workers=0
    )
    return data


def mgproto(root: Path | None = None, **settings: object) -> tuple[MGProto, CUB200]:
    """A small MGProto whose queues are full after an epoch or two."""
    own = {"prototypes": 3, "dim": 8, "mine_level": 4, "queue_size": 3, "backbone": "small", "stages": STAGES}
    return MGProto(**{"num_classes": 12, **own, **settings}), birds(root)


def of_ranks(root: Path, batch_size: int = 8) -> tuple[MGProto, CUB200]:
    """What ranks can share exactly: no BatchNorm, and plain gradient descent, since Adam blows rounding up."""
    model, _ = mgproto(root, optimizer=partial(torch.optim.SGD, momentum=0.0))
    body = model.network.backbone.body
    for number, layer in enumerate(body):
        if isinstance(layer, nn.BatchNorm2d):
            body[number] = nn.Identity()
    return model, birds(root, batch_size)


def half_batch(root: Path) -> tuple[MGProto, CUB200]:
    return of_ranks(root, batch_size=4)
