"""What papers on part prototypes compare with: the backbone with a linear layer, and their common ancestor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from losses.slots import Slot
from zoo.module import Batch
from zoo.networks.feature_map import FeatureMap
from zoo.state.prototype_sources import PrototypeSources
from zoo.tasks.prototypes import PrototypeModule
from zoo.tasks.recognition import RecognitionModule


class LinearHead(RecognitionModule):
    """The backbone of the prototype methods, averaged over the map, and a linear layer.

    Batch: :class:`~datamodules.batch.ImageClassification`.

    Args:
        num_classes: classes in the data set, C.
        backbone, pretrained: see :class:`~zoo.networks.feature_map.FeatureMap`.
        backbone_lr, head_lr: learning rates of the two parts.
        optimizer: factory, given both groups with their rates; `None` takes MGProto's (Adam, weight decay 1e-4).
        scheduler: factory, advanced per epoch.
        losses: changes to the slot `task`.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet34",
        pretrained: str | None = None,
        backbone_lr: float = 1e-4,
        head_lr: float = 3e-3,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(num_classes, "imagenet", optimizer, scheduler, losses)
        self.save_hyperparameters()
        self.rates = (backbone_lr, head_lr)
        self.backbone = FeatureMap(backbone, pretrained)
        self.head = nn.Linear(self.backbone.channels, num_classes)

    def logits(self, image: Tensor) -> Tensor:
        return self.head(self.backbone(image).mean((2, 3)))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        task = self.losses.task(self(batch), batch["label"], index=batch["index"], epoch=self.current_epoch)
        return self.total({"task": task}, batch)

    def configure_optimizers(self) -> Any:
        return self.optimizers_from(
            self.optimizer or partial(torch.optim.Adam, weight_decay=1e-4),
            self.scheduler,
            _groups(self.rates, self.backbone, [*self.head.parameters()]),
            interval="epoch",
        )

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.trainer.ckpt_path is None:
            self.backbone.load_pretrained()


class ProtoPNet(PrototypeModule):
    """ProtoPNet (Chen et al., NeurIPS 2019, arXiv:1806.10574): this looks like that.

    Batch: :class:`~datamodules.batch.ImageClassification`. Prototypes are points among the features of patches,
    trained by gradient; a class's score adds the similarities to its prototypes and subtracts half the others'.

    The last layer stays as the paper begins it, 1 and -0.5; the paper ends with a convex fit of it. Of the paper's
    stages, warm-up of the new layers before the backbone is left out, and an image serves at most one prototype.

    Args:
        num_classes: classes in the data set, C.
        backbone, pretrained: see :class:`~zoo.networks.feature_map.FeatureMap`.
        prototypes: per class, K.
        dim: of prototypes.
        backbone_lr, add_on_lr: learning rates of the backbone; of the layers after it and the prototypes.
        optimizer: factory, given both groups with their rates; `None` takes Adam, weight decay 1e-4.
        scheduler: factory, advanced per epoch.
        losses: changes to the slots `task`, `cluster` and `separation`.
        stages: training stages; at a stage's end, `push` projects the prototypes.
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "task": Slot("classification", "cross_entropy"),
        "cluster": Slot("prototype", "cluster_cost", weight=0.8),
        "separation": Slot("prototype", "separation_cost", weight=0.08),
    }
    score_name = "sum of similarities"
    epsilon = 1e-4

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet34",
        pretrained: str | None = None,
        prototypes: int = 10,
        dim: int = 128,
        backbone_lr: float = 1e-4,
        add_on_lr: float = 3e-3,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
        stages: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(num_classes, "imagenet", optimizer, scheduler, losses, stages)
        self.save_hyperparameters()
        self.rates = (backbone_lr, add_on_lr)
        self.backbone = FeatureMap(backbone, pretrained)
        self.add_on = nn.Sequential(
            nn.Conv2d(self.backbone.channels, dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1), nn.Sigmoid()
        )
        self.prototypes = nn.Parameter(torch.rand(num_classes, prototypes, dim))
        self.sources = PrototypeSources(num_classes, prototypes)

    def locate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, D, h, w] and similarities [B, h·w, C, K]."""
        features = self.add_on(self.backbone(image)).float()
        return features, self._similarity(self._squared_distance(features))

    def _squared_distance(self, features: Tensor) -> Tensor:
        """[B, D, h, w] to [B, h·w, C, K]."""
        rows, points = features.flatten(2).mT, self.prototypes.flatten(0, 1)
        squares = rows.square().sum(2, keepdim=True) - 2 * rows @ points.T + points.square().sum(1)
        return squares.clamp_min(0).unflatten(2, self.prototypes.shape[:2])

    def _similarity(self, squares: Tensor) -> Tensor:
        return ((squares + 1) / (squares + self.epsilon)).log()

    def class_scores(self, activation: Tensor) -> Tensor:
        of_classes = activation.amax(1).sum(2)
        return 1.5 * of_classes - 0.5 * of_classes.sum(1, keepdim=True)

    def replace_prototypes(self, features: Tensor, taken: Tensor) -> None:
        self.prototypes.data.copy_(torch.where(taken[:, :, None], features, self.prototypes))

    def shares(self, activation: Tensor) -> Tensor:
        return activation.amax(0).clamp_min(0)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        features, labels = self.add_on(self.backbone(self.front_end(batch["image"]))).float(), batch["label"]
        distances = self._squared_distance(features).amin(1)
        logits = self.class_scores(self._similarity(distances)[:, None])
        return self.total(
            {
                "task": self.losses.task(logits, labels, index=batch["index"], epoch=self.current_epoch),
                "cluster": self.losses.cluster(distances, labels),
                "separation": self.losses.separation(distances, labels),
            },
            batch,
        )

    def configure_optimizers(self) -> Any:
        return self.optimizers_from(
            self.optimizer or partial(torch.optim.Adam, weight_decay=1e-4),
            self.scheduler,
            _groups(self.rates, self.backbone, [*self.add_on.parameters(), self.prototypes]),
            interval="epoch",
        )

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.trainer.ckpt_path is None:
            self.backbone.load_pretrained()


def _groups(rates: tuple[float, float], backbone: nn.Module, others: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": [*backbone.parameters()], "lr": rates[0]}, {"params": others, "lr": rates[1]}]
