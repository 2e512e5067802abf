"""LCKD: learnable cross-modal knowledge distillation for missing modalities."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from losses.slots import Slot
from zoo.checkpoints import Official
from zoo.methods.lckd.election import elect, single_modality_dice, teaching
from zoo.methods.lckd.official import rules
from zoo.module import Batch
from zoo.networks.unet3d_mean_filled import MeanFilledUNet3d
from zoo.networks.unet3d_multimodal import Available
from zoo.tasks.volume_segmentation import VolumeSegmentationModule


class LCKD(VolumeSegmentationModule):
    """LCKD (Wang et al., MICCAI 2023, arXiv:2310.01035).

    Batch: :class:`~datamodules.batch.VolumeSegmentation`; any modality may be absent, in training and in tests.

    One encoder sees every modality. For each region the modality that alone segments the validation volumes best is
    elected teacher; training pulls the features of all available modalities towards those of the available teachers.
    Until the first election, which follows the first step, the first modality teaches. Votes are summed over all ranks
    before the election, whose result is part of the checkpoint; the released code forgets it when it resumes.

    Args:
        elect_every_steps: optimizer steps from one election to the next.
        kwargs: as of :class:`~zoo.tasks.volume_segmentation.VolumeSegmentationModule`. Slots: `task` and `distil`.
    """

    official = Official(rules, version=1)
    slots: ClassVar = VolumeSegmentationModule.slots | {
        "distil": Slot("cross_modal_distillation", "pairwise_l1", weight=0.1),
    }
    network_class = MeanFilledUNet3d
    network: MeanFilledUNet3d
    teachers: Tensor
    votes: Tensor

    def __init__(self, elect_every_steps: int = 5000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        count = len(self.modalities)
        self.register_buffer("teachers", torch.arange(count) == 0)
        self.register_buffer("votes", torch.zeros(len(self.regions), count))
        self.add_pass("election", self._elect, every_steps=elect_every_steps, first=1)

    @property
    def max_available(self) -> int:
        return len(self.modalities) - 1  # random draws are never of the complete set

    def terms(self, images: Tensor, mask: Tensor, available: Available) -> dict[str, Tensor]:
        """Loss terms.

        Args:
            images: [B, M, D, H, W].
            mask: [B, R, D, H, W], 0 or 1.
            available: per sample.
        """
        encodings = self.network.encode(images, available)
        logits = self.network.decode(encodings, available)
        features = self.network.raw_features(encodings, available)
        taught = teaching(self.teachers, self.network.flags(available, images.device))
        return {"task": self.losses.task(logits, mask), "distil": self.losses.distil(features, taught)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        teachers = zip(self.modalities, self.teachers.float(), strict=True)
        self.log_dict({f"train/teacher/{name}": teaches for name, teaches in teachers})
        return self.total(self.terms(self.images(batch), batch["mask"], self.drawn(batch)), batch)

    def _elect(self) -> None:
        self.votes = self.data_pass(self._vote, split="val")["dice"].sum(0)
        self.teachers = elect(self.votes)

    def _vote(self, batch: Batch) -> dict[str, Tensor]:
        rows = zip(self.images(batch).split(1), batch["mask"].split(1), strict=True)
        return {"dice": torch.stack([single_modality_dice(self.network, *row, self.window) for row in rows])}
