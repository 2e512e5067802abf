"""What papers on findings in images compare with: the backbone with a linear layer, and where it looks."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from zoo.module import Batch
from zoo.networks.feature_map import FeatureMap
from zoo.tasks.multi_label_classification import MultiLabelModule


class MultiLabelLinearHead(MultiLabelModule):
    """The backbone of CIPL, normalised and rectified as DenseNets have it, averaged over the map, and a linear layer.

    Batch: :class:`~datamodules.batch.MultiLabelClassification`. A finding is located by its class activation map: the
    map's features weighed as its log-odds against normal weigh their mean (CAM, Zhou et al., CVPR 2016). Grad-CAM
    (Selvaraju et al., ICCV 2017) weighs them by the gradient's mean, which behind an average and a linear layer is the
    same up to a factor, and keeps what is positive.

    Args:
        num_classes: classes of the data set, normal included as the last, C.
        backbone, pretrained: see :class:`~zoo.networks.feature_map.FeatureMap`; not the finer map.
        localisation: which map is compared with boxes.
        backbone_lr, head_lr: learning rates of the two parts.
        optimizer: factory, given both groups with their rates; `None` takes CIPL's (Adam, no weight decay).
        scheduler: factory, advanced per epoch.
        losses: changes to the slot `task`.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "densenet121",
        pretrained: str | None = None,
        localisation: Literal["cam", "grad_cam"] = "grad_cam",
        backbone_lr: float = 1e-4,
        head_lr: float = 3e-3,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(num_classes, optimizer, scheduler, losses)
        self.save_hyperparameters()
        self.localisation = localisation
        self.rates = (backbone_lr, head_lr)
        self.backbone = FeatureMap(backbone, pretrained, finer=False)
        self.norm = nn.BatchNorm2d(self.backbone.channels)
        self.head = nn.Linear(self.backbone.channels, num_classes)

    def look(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.norm(self.backbone(image)).relu()
        logits = self.head(features.mean((2, 3)))
        weights = self.head.weight - self.head.weight[-1:]
        maps = F.conv2d(features, weights[:, :, None, None])
        return logits, maps.relu() if self.localisation == "grad_cam" else maps

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.total({"task": self.losses.task(self(batch), batch["label"])}, batch)

    def configure_optimizers(self) -> Any:
        groups = ([*self.backbone.parameters()], [*self.norm.parameters(), *self.head.parameters()])
        return self.optimizers_from(
            self.optimizer or partial(torch.optim.Adam, weight_decay=0.0),
            self.scheduler,
            [{"params": group, "lr": rate} for group, rate in zip(groups, self.rates, strict=True)],
            interval="epoch",
        )

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.trainer.ckpt_path is None:
            self.backbone.load_pretrained()
