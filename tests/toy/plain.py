"""The least method with automatic optimisation, and trainers that run it or the toy in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from losses.slots import Slot
from tests.toy.data import CLASSES, LEFT, RIGHT, ToyData
from zoo.module import ZooModule


class Plain(ZooModule):
    """Two linear layers, a term for the class and one for agreement. No randomness of its own.

    Args:
        bad: at these training batches (counted over all epochs), the value that the term `align` is replaced by.
    """

    task = "toy"
    slots: ClassVar = {
        "task": Slot("classification", "cross_entropy"),
        "align": Slot("alignment", "ring_l1", weight=0.1),
    }

    def __init__(
        self,
        lr: float = 0.1,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
        bad: dict[int, float] | None = None,
    ) -> None:
        super().__init__(losses, stages)
        self.save_hyperparameters(ignore="bad")
        self.lr, self.bad = lr, bad or {}
        self.left, self.right = nn.Linear(LEFT, CLASSES), nn.Linear(RIGHT, CLASSES)
        for weights in self.parameters():
            nn.init.constant_(weights, 0.1)
        self.accuracy = MulticlassAccuracy(CLASSES, average="micro")

    def embed(self, batch: dict[str, Any]) -> Tensor:
        """[2, B, classes]"""
        return torch.stack([self.left(batch["modalities"]["left"]), self.right(batch["modalities"]["right"])])

    def terms(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        views = self.embed(batch)
        align = self.losses.align(views) + self.bad.get(self.batches_begun, 0.0)
        return {"task": self.losses.task(views.sum(0), batch["label"]), "align": align}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        return self.total(self.terms(batch), batch)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.accuracy(self.embed(batch).sum(0), batch["label"])
        self.log("val/accuracy", self.accuracy)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def toy_data(folder: Path, batch_size: int = 5, samples: int = 23, **arguments: Any) -> ToyData:
    """The data set of a test's folder; with the defaults, 5 batches per epoch, the last one of 3."""
    return ToyData(root=folder / "data", batch_size=batch_size, demo=samples, **arguments)


def trainer(folder: Path, epochs: int = 2, callbacks: list[L.Callback] | None = None, **arguments: Any) -> L.Trainer:
    """A quiet trainer; keeps checkpoints only where `callbacks` do."""
    callbacks = callbacks or []
    defaults = {
        "accelerator": "cpu",
        "max_epochs": epochs,
        "logger": False,
        "default_root_dir": folder,
        "enable_checkpointing": any(isinstance(one, L.callbacks.Checkpoint) for one in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return L.Trainer(**(defaults | arguments), callbacks=callbacks)


class Calls(L.Callback):
    """Calls functions of (trainer, model) in hooks: `Calls(on_train_batch_end=...)`."""

    def __init__(self, **hooks: Any) -> None:
        for name, call in hooks.items():
            setattr(self, name, lambda trainer, model, *args, call=call: call(trainer, model))
