"""Runs on generated AV-MNIST, importable by the processes that tests start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from datamodules.avmnist import AVMNIST
from zoo.methods.mckd.classifier import MCKDClassifier
from zoo.methods.shaspec.module import ShaSpecClassifier


def _data(root: Path | None, batch_size: int, meta_share: float = 0.0) -> AVMNIST:
    return AVMNIST(root=root, demo=70, batch_size=batch_size, audio_share=0.4, meta_share=meta_share)


def shaspec(data: Path | None) -> tuple[ShaSpecClassifier, AVMNIST]:
    """A small ShaSpec on 70 pairs, most of them without sound; a prime number of them is for validation."""
    return ShaSpecClassifier(dim=16), _data(data, batch_size=8)


def without_dropout(data: Path, batch_size: int = 16) -> tuple[ShaSpecClassifier, AVMNIST]:
    """What ranks can share exactly. Plain gradient descent: Adam blows rounding up where gradients are near zero."""
    optimizer = partial(torch.optim.SGD, lr=0.05)
    return ShaSpecClassifier(dim=16, drop_rate=0.0, optimizer=optimizer), _data(data, batch_size)


def half_batch(data: Path) -> tuple[ShaSpecClassifier, AVMNIST]:
    return without_dropout(data, batch_size=8)


def mckd(data: Path | None, batch_size: int = 8, **arguments: Any) -> tuple[MCKDClassifier, AVMNIST]:
    """A small MCKD, whose meta phases see 6 pairs."""
    model = MCKDClassifier(dim=16, meta_every_steps=3, meta_batches=3, meta_batch_size=4, **arguments)
    return model, _data(data, batch_size, meta_share=0.34)


def mckd_without_dropout(data: Path, batch_size: int = 16) -> tuple[MCKDClassifier, AVMNIST]:
    """As :func:`without_dropout`."""
    return mckd(data, batch_size, drop_rate=0.0, optimizer=partial(torch.optim.SGD, lr=0.05))


def mckd_half_batch(data: Path) -> tuple[MCKDClassifier, AVMNIST]:
    return mckd_without_dropout(data, batch_size=8)


def one_batch(data: Path) -> dict:
    """The first validation batch of a demo in `data`."""
    module = _data(data, batch_size=8)
    module.prepare_data()
    return next(iter(module.val_dataloader()))
