"""The least that the commands can run: one linear layer on three numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from datamodules.base import Split, ZooDataModule
from datamodules.registry import catalogue as datamodules
from losses.registry import register
from losses.slots import Slot
from zoo.cli import main
from zoo.core.catalogue import Entry
from zoo.core.errors import DataError, RecipeError
from zoo.models import catalogue as models
from zoo.module import ZooModule


@register("tiny_margin", kind="classification")
def tiny_margin(
    logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None, margin: float = 1.0
) -> Tensor:
    """Multi-class hinge."""
    return nn.functional.multi_margin_loss(logits, labels, margin=margin)


class Tiny(ZooModule):
    """One linear layer."""

    task = "tiny"
    slots: ClassVar = {"task": Slot("classification", "cross_entropy")}

    def __init__(
        self,
        num_classes: int,
        width: int = 3,
        bias: bool = True,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(losses, stages)
        self.save_hyperparameters()
        if width < 1:
            raise RecipeError(f"model.width is {width}; it must be at least 1.")
        self.optimizer, self.scheduler = optimizer, scheduler
        self.body, self.head = nn.Linear(3, width), nn.Linear(width, num_classes, bias)
        self.accuracy = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, batch: dict[str, Any]) -> Tensor:
        return self.head(self.body(batch["modalities"]["x"]))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        return self.total({"task": self.losses.task(self(batch), batch["label"])}, batch)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._score(batch, "val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._score(batch, "test")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        return self(batch).argmax(1)

    def _score(self, batch: dict[str, Any], stage: str) -> None:
        self.accuracy(self(batch), batch["label"])
        self.log(f"{stage}/accuracy", self.accuracy)

    def configure_optimizers(self) -> Any:
        return self.optimizers_from(self.optimizer or (lambda p: torch.optim.SGD(p, lr=0.1)), self.scheduler)


class Wide(Tiny):
    """Another class with the same task, without stages."""

    def __init__(self, num_classes: int = 2, width: int = 30) -> None:
        super().__init__(num_classes, width)


class TinySource:
    def __init__(self, path: Path) -> None:
        self.x = np.load(path)

    def __len__(self) -> int:
        return len(self.x)

    def load(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        x = self.x[index]
        if np.isnan(x).any():
            raise DataError(f"sample {index} is broken.")
        return {
            "modalities": {"x": torch.tensor(x).float()},
            "present": {"x": torch.tensor(True)},
            "label": torch.tensor(int(x[0] > 0)),
            "id": f"sample{index}",
        }


class TinyData(ZooDataModule):
    """Three numbers; the sign of the first is the class."""

    name, folder, task, num_classes = "tinydata", "tiny", "tiny", 2

    def source(self, split: Split) -> TinySource:
        return TinySource(self.root / f"{split}.npy")

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        for seed, split in enumerate(("train", "val", "test", "predict")):
            np.save(root / f"{split}.npy", np.random.default_rng(seed).normal(size=(samples, 3)))

    @classmethod
    def check(cls, root: Path) -> Iterable[str]:
        return [f"{root / split}.npy is missing." for split in ("train", "val") if not (root / f"{split}.npy").exists()]


class OtherTaskData(TinyData):
    """Data of another task, which says so when it is read."""

    name, task = "othertask", "other"

    def prepare_data(self) -> None:
        raise AssertionError("data were read")


class Buggy(Tiny):
    """Its step divides by zero."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        raise ZeroDivisionError


class Interrupt(L.Callback):
    """Ctrl-C in the first batch."""

    def on_train_batch_end(self, *args: Any) -> None:
        raise KeyboardInterrupt


def run() -> None:
    """The `lightning` command with these classes in the catalogues, for processes of their own."""
    models.add(Entry("tiny", "tests.support.tiny:Tiny", {"task": "tiny"}))
    datamodules.add(Entry("tinydata", "tests.support.tiny:TinyData", {"task": "tiny"}))
    main()
