"""Runs of multi-label methods on drawn squares, importable by the processes that tests start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from datamodules.base import Split, ZooDataModule
from zoo.methods.baselines.multi_label import MultiLabelLinearHead
from zoo.methods.cipl.module import CIPL

SIDE, FINDINGS = 32, 3
STAGES = [
    {"name": "single", "until_epoch": 1, "pairs": False},
    {"name": "pairs", "until_epoch": 2, "push": True},
    {"name": "last layer", "last_layer": True},
]


class Squares:
    """Grey noise with a bright square per finding, one in each of three corners; in training in pairs."""

    def __init__(self, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.labels = torch.from_numpy((rng.random((count, FINDINGS)) < 0.4).astype(np.float32))
        self.noise = torch.from_numpy(rng.random((count, 3, SIDE, SIDE), dtype=np.float32)) * 0.3

    def __len__(self) -> int:
        return len(self.labels)

    def view(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        image, boxes = self.noise[index].clone(), -torch.ones(FINDINGS, 5)
        for finding in self.labels[index].nonzero().flatten().tolist():
            x, y = 20 * (finding % 2), 20 * (finding // 2)
            image[:, y : y + 10, x : x + 10] += 0.5
            boxes[finding] = torch.tensor([finding, x, y, 10.0, 10.0])
        label = torch.cat([self.labels[index], (self.labels[index].sum() == 0)[None].float()])
        if rng is None:
            return {"image": image, "label": label, "boxes": boxes, "size": torch.tensor([SIDE, SIDE])}
        return {"image": image, "second_view": image * float(rng.uniform(0.9, 1.0)), "label": label}

    def load(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        sample = {**self.view(index, rng), "id": f"image{index}"}
        if rng is not None:
            partner = int(rng.integers(len(self)))
            sample["partner"] = {**self.view(partner, rng), "index": torch.tensor(partner), "id": f"image{partner}"}
        return sample


class SquaresData(ZooDataModule):
    """Some images of squares, made where they are needed."""

    name, folder, task = "squares", "squares", "multi_label_classification"
    num_classes, classes = FINDINGS + 1, ("upper left", "upper right", "lower left", "normal")

    def source(self, split: Split) -> Squares:
        return Squares(24 if split == "train" else 12, ("train", "val", "test", "predict").index(split))

    def prepare_data(self) -> None:
        pass


def squares(batch_size: int = 8) -> SquaresData:
    return SquaresData(root=Path("."), batch_size=batch_size, num_workers=0)


def cipl(root: Path | None = None, **settings: Any) -> tuple[CIPL, SquaresData]:
    """A small CIPL with all of its stages in three epochs."""
    own = {"backbone": "small", "prototypes": 2, "dim": 16, "backbone_lr": 3e-3, "stages": STAGES}
    return CIPL(**{"num_classes": FINDINGS + 1, **own, **settings}), squares()


def linear_head(root: Path | None = None, **settings: Any) -> tuple[MultiLabelLinearHead, SquaresData]:
    return MultiLabelLinearHead(
        num_classes=FINDINGS + 1, backbone="small_fine", backbone_lr=3e-3, **settings
    ), squares()


def of_ranks(root: Path, batch_size: int = 8) -> tuple[CIPL, SquaresData]:
    """What ranks can share exactly: no BatchNorm, and plain gradient descent, since Adam blows rounding up."""
    model, _ = cipl(root, optimizer=partial(torch.optim.SGD, momentum=0.0))
    for net in (model.network.student, model.network.teacher):
        body = net.backbone.body
        for number, layer in enumerate(body):
            if isinstance(layer, nn.BatchNorm2d):
                body[number] = nn.Identity()
    return model, squares(batch_size)


def half_batch(root: Path) -> tuple[CIPL, SquaresData]:
    return of_ranks(root, batch_size=4)
