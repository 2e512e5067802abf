"""What papers on missing modalities compare with, on volumes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zoo.core.names import unknown
from zoo.module import Batch
from zoo.networks.unet3d_multimodal import Available
from zoo.tasks.volume_segmentation import VolumeSegmentationModule


class VolumeUNet(VolumeSegmentationModule):
    """The shared encoder and the decoder of ShaSpec, LCKD and MCKD; missing modalities are volumes of zeros.

    Args:
        modality_dropout: train with a random set of modalities per batch, as ShaSpec does; else with all that a sample
            has (zero filling).
        only: look at this modality alone, in training and in tests; where it is absent, all are volumes of zeros.
        kwargs: as of :class:`~zoo.tasks.volume_segmentation.VolumeSegmentationModule`. Slot: `task`.
    """

    def __init__(self, modality_dropout: bool = False, only: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if only is not None and only not in self.modalities:
            raise unknown("modality of the model", only, self.modalities)
        self.modality_dropout, self.only = modality_dropout, only

    def drawn(self, batch: Batch) -> Available:
        return super().drawn(batch) if self.modality_dropout else self.usable(self.present(batch))

    def usable(self, available: Available) -> Available:
        if self.only is None:
            return available
        return [[m for m in there if self.modalities[m] == self.only] for there in available]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self.network(self.images(batch), self.drawn(batch))
        return self.total({"task": self.losses.task(logits, batch["mask"])}, batch)
