"""MCKD: meta-learned cross-modal knowledge distillation, for an image and a sound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from losses.classification import cross_entropy
from losses.slots import Slot
from zoo.methods.mckd.importance import teaching
from zoo.methods.mckd.meta import MetaLearner, frozen
from zoo.methods.mckd.network import MCKDNet
from zoo.module import Batch
from zoo.tasks.av_classification import AVClassificationModule


class MCKDClassifier(MetaLearner, AVClassificationModule):
    """MCKD for classification (Wang et al., arXiv:2405.07155; its Audiovision-MNIST experiment).

    Batch: :class:`~datamodules.batch.AVClassification`; either modality may be absent, in training and in tests. The
    data module must have a split `meta` (AVMNIST: `meta_share`), which the network is not trained on.

    The paper's classification code was never released. Decided here:

    - Encoders as of ShaSpec's classifier: each modality is projected to a common width, in which one encoder, shared by
      all, works.
    - A training batch may use a random set of modalities, as in the released segmentation code; a sample that lacks all
      of them uses those it has. Distillation is between the modalities that a sample uses. Means are over samples.
    - A meta phase uses all modalities; what a meta sample lacks is represented by the feature of zeros. Its loss is
      cross-entropy whatever the slot `task` holds: losses for noisy labels may know training samples alone.
    - How often and how long meta phases are, Adam, learning rate and decay of the importance weights: from the
      segmentation code. The network's optimizer: SMIL's, whose data set this is.

    Args:
        num_classes: classes in the data set, C.
        dim: width of all features, D.
        drop_rate: dropout in encoders and head.
        meta_every_steps: training steps from one meta phase to the next; the first is after one step.
        meta_batches: steps of the importance weights in each phase.
        meta_batch_size: samples in each of them.
        optimizer: of the network; `None` takes Adam, learning rate 1e-3, weight decay 1e-4.
        scheduler: factory; advances with every epoch.
        meta_optimizer: of the importance weights; `None` takes Adam, learning rate 1e-2, weight decay 5e-4.
        losses: changes to the slots `task` and `distil`.
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "task": Slot("classification", "cross_entropy"),
        "distil": Slot("cross_modal_distillation", "pairwise_l1", weight=0.1),
    }

    def __init__(
        self,
        num_classes: int = 10,
        dim: int = 128,
        drop_rate: float = 0.25,
        meta_every_steps: int = 100,
        meta_batches: int = 20,
        meta_batch_size: int = 16,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        meta_optimizer: OptimizerCallable | None = None,
        losses: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(num_classes, optimizer, scheduler, losses)
        self.save_hyperparameters()
        self.network = MCKDNet(num_classes, dim, drop_rate)
        self.add_importance(meta_every_steps, meta_batches, meta_batch_size, meta_optimizer)

    def encode(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.network.encode(inputs)

    def classify(self, features: Tensor, available: Tensor) -> Tensor:
        return self.network.classify(features, available)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        cleaned, present = self.inputs(batch)
        features, available = self.encode(cleaned), self.drawn(present)
        logits = self.classify(features, available)
        terms = {
            "task": self.losses.task(logits, batch["label"], index=batch["index"], epoch=self.current_epoch),
            "distil": self.losses.distil(features, teaching(self.raw_importance, available)),
        }
        self.log_importance()
        self.manual_step(self.total(terms, batch), only=[0])

    def meta_loss(self, batch: Batch, weights: Tensor) -> Tensor:
        cleaned, _ = self.inputs(batch)
        with torch.no_grad():
            features = self.encode(cleaned)
        logits = frozen(self.network.head, (weights[:, None, None] * features).transpose(0, 1).flatten(1))
        return cross_entropy(logits, batch["label"])
