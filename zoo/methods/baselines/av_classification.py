"""What papers on missing modalities compare with, on an image and a sound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from zoo.module import Batch
from zoo.networks.avmnist import AudioEncoder, ImageEncoder
from zoo.tasks.av_classification import AVClassificationModule


def _head(features: int, dim: int, num_classes: int, drop_rate: float) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(), nn.Linear(features, dim), nn.ReLU(), nn.Dropout(drop_rate), nn.Linear(dim, num_classes)
    )


class UnimodalClassifier(AVClassificationModule):
    """One modality alone; the other is never looked at. The papers' "lower bound" with `modality="image"`.

    Where its modality is absent it says the same of every sample.

    Args:
        modality: which one.
        num_classes: classes in the data set, C.
        dim: width of the features.
        drop_rate: dropout in encoder and head.
        optimizer: factory; `None` takes Adam, learning rate 1e-3, weight decay 1e-4.
        scheduler: factory; advances with every epoch.
        losses: changes to the slot `task`.
    """

    def __init__(
        self,
        modality: Literal["image", "audio"] = "image",
        num_classes: int = 10,
        dim: int = 128,
        drop_rate: float = 0.25,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(num_classes, optimizer, scheduler, losses)
        self.save_hyperparameters()
        self.modality = modality
        self.encoder = (ImageEncoder if modality == "image" else AudioEncoder)(dim, drop_rate)
        self.head = _head(dim, dim, num_classes, drop_rate)

    def encode(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.encoder(inputs[self.modality])[None]

    def classify(self, features: Tensor, available: Tensor) -> Tensor:
        there = available[self.modalities.index(self.modality)]
        return self.head(torch.where(there[:, None], features[0], 0.0))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self(batch)
        task = self.losses.task(logits, batch["label"], index=batch["index"], epoch=self.current_epoch)
        return self.total({"task": task}, batch)


class LateFusionClassifier(AVClassificationModule):
    """An encoder per modality, features of absent ones filled with zeros, concatenated, one head.

    Args:
        modality_dropout: train with a random set of modalities per batch, as ShaSpec does; else with all that a sample
            has.
        num_classes: classes in the data set, C.
        dim: width of the features of each modality.
        drop_rate: dropout in encoders and head.
        optimizer: factory; `None` takes Adam, learning rate 1e-3, weight decay 1e-4.
        scheduler: factory; advances with every epoch.
        losses: changes to the slot `task`.
    """

    def __init__(
        self,
        modality_dropout: bool = False,
        num_classes: int = 10,
        dim: int = 128,
        drop_rate: float = 0.25,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(num_classes, optimizer, scheduler, losses)
        self.save_hyperparameters()
        self.modality_dropout = modality_dropout
        self.image, self.audio = ImageEncoder(dim, drop_rate), AudioEncoder(dim, drop_rate)
        self.head = _head(2 * dim, dim, num_classes, drop_rate)

    def encode(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.image(inputs["image"]), self.audio(inputs["audio"])])

    def classify(self, features: Tensor, available: Tensor) -> Tensor:
        filled = torch.where(available[..., None], features, 0.0)
        return self.head(filled.transpose(0, 1).flatten(1))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        cleaned, present = self.inputs(batch)
        available = self.drawn(present) if self.modality_dropout else present
        logits = self.classify(self.encode(cleaned), available)
        task = self.losses.task(logits, batch["label"], index=batch["index"], epoch=self.current_epoch)
        return self.total({"task": task}, batch)
