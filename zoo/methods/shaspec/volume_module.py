"""ShaSpec for volumes: learning shared and specific features when modalities are missing."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses.slots import Slot
from zoo.checkpoints import Official
from zoo.methods.shaspec.official import RULES
from zoo.methods.shaspec.volume_network import ShaSpecVolumeNet
from zoo.module import Batch
from zoo.networks.unet3d_multimodal import Available
from zoo.tasks.volume_segmentation import VolumeSegmentationModule


class ShaSpec(VolumeSegmentationModule):
    """ShaSpec (Wang et al., CVPR 2023, arXiv:2307.14126) for the segmentation of volumes.

    Batch: :class:`~datamodules.batch.VolumeSegmentation`; any modality may be absent, in training and in tests.

    Training begins with all modalities (a stage with `available: all`), as the authors advise: biases of norms begin
    at 0, where every norm multiplies the gradients of zero volumes by 300, and some hundred steps move them away.

    A missing modality takes the shared feature of the first available one: in training the first that was drawn, in
    tests the first in the order of `modalities`. As in the released code, alignment and domain terms take the
    features of the zero volumes that stand for missing modalities. Where a modality is missing its specific encoder's
    pyramid pooling gets no gradient; training goes on with its momentum, as the paper's did (PyTorch 1.7 left zeros
    where newer ones leave no gradient). So on several devices `trainer.strategy` is ddp_find_unused_parameters_true.

    Args:
        kwargs: as of :class:`~zoo.tasks.volume_segmentation.VolumeSegmentationModule`. Slots: `task`, `align`
            (distribution alignment, section 3.2) and `domain` (domain classification).
    """

    official = Official(RULES, version=1)
    slots: ClassVar = VolumeSegmentationModule.slots | {
        "align": Slot("alignment", "ring_l1", weight=0.1),
        "domain": Slot("classification", "cross_entropy", weight=0.02),
    }
    network_class = ShaSpecVolumeNet
    network: ShaSpecVolumeNet

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def terms(self, images: Tensor, mask: Tensor, available: Available) -> dict[str, Tensor]:
        """Loss terms.

        Args:
            images: [B, M, D, H, W].
            mask: [B, R, D, H, W], 0 or 1.
            available: per sample, in drawn order.
        """
        encodings = self.network.encode(images, available)
        logits = self.network.decode(encodings, available)
        shared = self.network.shared_features(encodings, available)
        domain = self.network.domain_logits(encodings, images).flatten(0, 1)
        modality = torch.arange(len(self.modalities), device=images.device).repeat(len(images))
        return {
            "task": self.losses.task(logits, mask),
            "align": self.losses.align(shared.transpose(0, 1)),
            "domain": self.losses.domain(domain, modality),
        }

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.total(self.terms(self.images(batch), batch["mask"], self.drawn(batch)), batch)

    def on_train_start(self) -> None:
        super().on_train_start()
        # A resumed run has no gradients yet where the uncut one has zeros; see below.
        for parameter in itertools.chain.from_iterable(optimizer.state for optimizer in self.trainer.optimizers):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=False)
