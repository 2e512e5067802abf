"""ShaSpec: learning shared and specific features when modalities are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from losses.slots import Slot
from zoo.core.distributed import mean_over_ranks
from zoo.methods.shaspec.network import ShaSpecNet
from zoo.module import Batch
from zoo.tasks.av_classification import AVClassificationModule


class ShaSpecClassifier(AVClassificationModule):
    """ShaSpec for classification (Wang et al., CVPR 2023, arXiv:2307.14126; its Audiovision-MNIST experiment).

    Batch: :class:`~datamodules.batch.AVClassification`; either modality may be absent, in training and in tests.

    The paper's classification code was never released. What it leaves open is decided here:

    - Encoders: small convolutional ones without BatchNorm, whose statistics absent samples would spoil. Each modality
      is projected to a common width before the shared encoder, as the authors advise for unlike modalities.
    - The paper draws which modalities a training batch may use; so do we, every non-empty set being as likely as in the
      released segmentation code (first its size, then its members). A sample that lacks all drawn modalities uses
      those it has.
    - Alignment and domain terms take the modalities that a sample really has, drawn or not; with one modality there is
      nothing to align. (The released segmentation code also aligns features of zeroed volumes.) Means are over those
      samples of all ranks.
    - Weights 0.1 and 0.02 of the two terms, Adam, learning rate and decay: from the segmentation code and from SMIL,
      whose data set this is.

    Args:
        num_classes: classes in the data set, C.
        dim: width of all features, D.
        drop_rate: dropout in encoders and head.
        optimizer: factory; `None` takes Adam, learning rate 1e-3, weight decay 1e-4.
        scheduler: factory; advances with every epoch.
        losses: changes to the slots `task`, `align` (distribution alignment) and `domain` (domain classification).
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "task": Slot("classification", "cross_entropy"),
        "align": Slot("alignment", "ring_l1", weight=0.1),
        "domain": Slot("classification", "cross_entropy", weight=0.02),
    }

    def __init__(
        self,
        num_classes: int = 10,
        dim: int = 128,
        drop_rate: float = 0.25,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(num_classes, optimizer, scheduler, losses)
        self.save_hyperparameters()
        self.network = ShaSpecNet(num_classes, dim, drop_rate)

    def encode(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Shared and specific features, [M, 2, B, D]."""
        return torch.stack(self.network.encode(inputs), dim=1)

    def classify(self, features: Tensor, available: Tensor) -> Tensor:
        shared, specific = features.unbind(1)
        return self.network.classify(self.network.fuse(shared, specific, available))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        cleaned, present = self.inputs(batch)
        features = self.encode(cleaned)
        shared, specific = features.unbind(1)
        logits = self.classify(features, self.drawn(present))
        return self.total(
            {
                "task": self.losses.task(logits, batch["label"], index=batch["index"], epoch=self.current_epoch),
                "align": self._align(shared, present),
                "domain": self._domain(specific, present),
            },
            batch,
        )

    def _align(self, shared: Tensor, present: Tensor) -> Tensor:
        """Distribution alignment of shared features, over the samples that have all modalities.

        The others' features are put equal, so that they add nothing; selecting rows would wait for the device.
        """
        complete = present.all(0)
        aligned = torch.where(complete[:, None], shared, shared.detach()[:1])
        return mean_over_ranks(self.losses.align(aligned) * len(complete), complete.sum())

    def _domain(self, specific: Tensor, present: Tensor) -> Tensor:
        """Domain classification of specific features; absent modalities get a target that cross-entropy ignores."""
        target = torch.arange(len(present), device=present.device)[:, None].expand_as(present)
        logits = self.network.domain(specific)
        mean = self.losses.domain(logits.flatten(0, 1), torch.where(present, target, -100).flatten())
        return mean_over_ranks(mean * present.sum(), present.sum())
