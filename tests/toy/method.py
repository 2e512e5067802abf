"""A method that uses everything the ground floor offers: two modalities with missing ones drawn per batch, a loss with
memory, a queue, passes at a step boundary and at an epoch's end, two stages, two optimizers, accumulation."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from losses.registry import register
from losses.slots import Slot
from tests.toy.data import LEFT, RIGHT
from zoo.core.randomness import python_generator
from zoo.module import ZooModule
from zoo.state import ClassQueue, LabelMemory


@register("toy_remembering", kind="classification")
class RememberingLoss(nn.Module):
    """Cross-entropy against a moving average of what the network said before."""

    def __init__(self, momentum: float = 0.7) -> None:
        super().__init__()
        self.momentum = momentum

    def setup(self, num_samples: int, num_classes: int) -> None:
        self.memory = LabelMemory(num_samples, num_classes)

    def forward(
        self, logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None
    ) -> Tensor:
        self.memory.update(index, logits.detach().softmax(1), momentum=self.momentum)
        target = F.one_hot(labels, logits.shape[1]) * 0.8 + self.memory[index] * 0.2
        return F.cross_entropy(logits, target)


class Toy(ZooModule):
    """Agreement of two views."""

    task = "toy"
    slots: ClassVar = {
        "task": Slot("classification", "toy_remembering", settings={"momentum": 0.6}),
        "align": Slot("alignment", "ring_l1", weight={"ramp": [0.0, 0.1], "steps": 8}),
    }
    stage_options: ClassVar = {"train_scale": True}

    def __init__(
        self,
        num_classes: int = 3,
        width: int = 8,
        drop_rate: float = 0.2,
        accumulate: int = 2,
        optimizer: OptimizerCallable | None = None,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
    ) -> None:
        warmup = {"name": "warmup", "until_epoch": 1, "train_scale": False}
        super().__init__(losses, stages or [warmup, {"name": "all"}])
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.accumulate, self.optimizer = accumulate, optimizer
        self.encoders = nn.ModuleDict({"left": nn.Linear(LEFT, width), "right": nn.Linear(RIGHT, width)})
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(width, num_classes)
        self.scale = nn.Parameter(torch.ones(2))
        self.queue = ClassQueue(num_classes, size=4, dim=width)
        self.register_buffer("votes", torch.zeros(2))
        self.register_buffer("centres", torch.zeros(num_classes, width))
        self.accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.add_pass("vote", self._vote, every_steps=3)
        self.add_pass("centres", self._find_centres, every_epochs=1)

    def embed(self, batch: dict[str, Any]) -> Tensor:
        """[2, B, width]"""
        features = [encoder(batch["modalities"][name]) for name, encoder in self.encoders.items()]
        present = torch.stack([batch["present"][name] for name in self.encoders])[..., None]
        return torch.where(present, torch.stack(features), 0.0)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        return self.head(self.norm((self.embed(batch) * self.scale[:, None, None]).sum(0)))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        views = self.embed(batch)
        absent = python_generator(*self.draw_key("availability")).randrange(3)
        keep = torch.ones(2, device=self.device)
        keep[absent % 2] = float(absent == 2)
        fused = self.norm(((views * keep[:, None, None]) * self.scale[:, None, None]).sum(0))
        logits = self.head(self.dropout(fused)) + self.votes.sum()
        logits = logits - 0.1 * torch.cdist(fused, self.centres)
        terms = {
            "task": self.losses.task(logits, batch["label"], index=batch["index"]),
            "align": self.losses.align(views),
        }
        self.queue.push(fused.detach(), batch["label"])
        only = None if self.stage["train_scale"] else [0]
        self.manual_step(self.total(terms, batch), only=only, accumulate=self.accumulate, gradient_clip_val=5.0)

    def _vote(self) -> None:
        found = self.data_pass(lambda batch: {"norm": self.embed(batch).norm(dim=-1).T})
        self.votes.copy_(found["norm"].mean(0) / 100)

    def _find_centres(self) -> None:
        found = self.data_pass(lambda batch: {"f": self.embed(batch).sum(0), "label": batch["label"]}, augment=True)
        hot = F.one_hot(found["label"], len(self.centres)).float()
        self.centres.copy_(hot.T @ found["f"] / hot.sum(0)[:, None])

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.accuracy(self(batch), batch["label"])
        self.log("val/accuracy", self.accuracy, prog_bar=True)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        network = [p for name, p in self.named_parameters() if name != "scale"]
        first = self.optimizer(network) if self.optimizer else torch.optim.SGD(network, lr=0.05, momentum=0.9)
        return [first, torch.optim.Adam([self.scale], lr=0.01)]
