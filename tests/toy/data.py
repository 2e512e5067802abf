"""Two noisy views of a class, in one npz file per split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.base import Split, ZooDataModule
from zoo.core.errors import DataError

CLASSES, LEFT, RIGHT = 3, 6, 5


class ToySource:
    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"{path} is missing.")
        with np.load(path) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}

    def __len__(self) -> int:
        return len(self.arrays["label"])

    def load(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        left, right = self.arrays["left"][index], self.arrays["right"][index]
        if np.isnan(left).any() and not np.isnan(left).all():
            raise DataError(f"sample {index} is broken.")
        if rng is not None:
            left = left + rng.normal(0, 0.1, left.shape)
        return {
            "modalities": {"left": torch.tensor(left).float(), "right": torch.tensor(right).float()},
            "present": {"left": torch.tensor(True), "right": torch.tensor(True)},
            "label": torch.tensor(int(self.arrays["label"][index])),
            "id": f"sample{index}",
        }


class ToyData(ZooDataModule):
    name, folder, task, num_classes = "toydata", "toydata", "toy", CLASSES

    def source(self, split: Split) -> ToySource:
        return ToySource(self.root / f"{split}.npz")

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        for seed, (split, count) in enumerate({"train": samples, "val": 13, "test": 17, "predict": 3}.items()):
            rng = np.random.default_rng(seed)
            label = np.arange(count) % CLASSES
            left = np.eye(LEFT)[label] + rng.normal(0, 0.5, (count, LEFT))
            right = np.eye(RIGHT)[label] + rng.normal(0, 0.5, (count, RIGHT))
            np.savez(root / f"{split}.npz", label=label, left=left, right=right)

    @classmethod
    def check(cls, root: Path) -> Iterable[str]:
        return [f"{root / split}.npz is missing." for split in ("train", "val") if not (root / f"{split}.npz").exists()]
