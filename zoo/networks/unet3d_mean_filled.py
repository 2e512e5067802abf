"""The 3-D U-Net of LCKD and MCKD, which fills what is missing with the mean of what is there."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.networks.availability import fill_with_mean
from zoo.networks.unet3d_multimodal import Available, Encodings, MultimodalUNet3d


class MeanFilledUNet3d(MultimodalUNet3d):
    """One encoder for all modalities; a missing one has the mean of the available ones' features for its own.

    Args:
        modalities, regions, width, checkpointing: as of :class:`MultimodalUNet3d`.
    """

    def fill(self, encodings: Encodings, available: Available) -> Tensor:
        features = self.raw_features(encodings, available)
        return fill_with_mean(features, self.flags(available, features.device)).transpose(0, 1)

    def raw_features(self, encodings: Encodings, available: Available) -> Tensor:
        """Bottleneck features before filling, [M, B, C, d, h, w]; the zero volume's where a modality is missing."""
        return super().fill(encodings, available).transpose(0, 1)

    def skips(self, encodings: Encodings, available: Available) -> list[Tensor]:
        """The decoder's skips, [B, M·c, …]."""
        wanted = encodings.wanted(available, self.modalities)
        return [encodings.pick(skip, wanted).flatten(1, 2) for skip in encodings.skips]

    def flags(self, available: Available, device: torch.device) -> Tensor:
        """Bool [M, B]: which modalities of each sample are available."""
        rows = [[m in there for there in available] for m in range(self.modalities)]
        return torch.tensor(rows).to(device, non_blocking=True)
