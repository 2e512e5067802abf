"""Toy runs, importable by the processes that tests start."""

from __future__ import annotations

from pathlib import Path

from tests.toy.data import ToyData
from tests.toy.method import Toy


def toy(data: Path) -> tuple[Toy, ToyData]:
    return Toy(), ToyData(root=data, batch_size=5, demo=38)


def without_batch_statistics(data: Path, batch_size: int = 12) -> tuple[Toy, ToyData]:
    """What two ranks can share exactly: no dropout, BatchNorm in evaluation mode."""
    model = Toy(drop_rate=0.0, optimizer=None)
    model.norm.eval()
    return model, ToyData(root=data, batch_size=batch_size, demo=38)


def half_batch(data: Path) -> tuple[Toy, ToyData]:
    return without_batch_statistics(data, batch_size=6)
