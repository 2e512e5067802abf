"""Small pictures whose colour is their class, some of them wrongly labelled: data for image classifiers' tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.base import Split, ZooDataModule

CLASSES = 4
SIZES = {"train": 22, "val": 7, "test": 7, "predict": 7}  # small, and no multiples of a batch


class Pictures:
    def __init__(self, path: Path, labelled: bool) -> None:
        self.arrays, self.labelled = dict(np.load(path)), labelled

    def __len__(self) -> int:
        return len(self.arrays["label"])

    @property
    def labels(self) -> torch.Tensor:
        return torch.from_numpy(self.arrays["label"])

    def load(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        image = torch.from_numpy(self.arrays["image"][index])
        if rng is not None and rng.random() < 0.5:
            image = image.flip(-1)
        labels = {key: torch.tensor(self.arrays[key][index]) for key in ("label", "clean_label")}
        return {"image": image, "id": f"picture{index}", **(labels if self.labelled else {})}


class PictureData(ZooDataModule):
    """Pictures of 8×8; every fourth training label is wrong."""

    name, folder, task, num_classes = "pictures", "pictures", "image_classification", CLASSES

    def source(self, split: Split) -> Pictures:
        return Pictures(self.root / f"{split}.npz", labelled=split != "predict")

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        for seed, (split, size) in enumerate(SIZES.items()):
            rng = np.random.default_rng(seed)
            clean = rng.integers(CLASSES, size=size)
            colours = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], dtype=np.float32)
            image = 0.3 + 0.4 * colours[clean][:, :, None, None] + 0.1 * rng.normal(size=(size, 3, 8, 8))
            label = np.where((np.arange(size) % 4 == 0) & (split == "train"), (clean + 1) % CLASSES, clean)
            image = image.clip(0, 1).astype(np.float32)
            np.savez(root / f"{split}.npz", image=image, label=label, clean_label=clean)

    @classmethod
    def check(cls, root: Path) -> Iterable[str]:
        return []


def pictures(root: Path, batch_size: int = 8) -> PictureData:
    return PictureData(root=root, demo=1, batch_size=batch_size)


def one_batch(root: Path, batch_size: int = 8) -> dict[str, Any]:
    """The first batch of a training epoch."""
    data = pictures(root, batch_size)
    data.prepare_data()
    return next(iter(data.train_dataloader()))
