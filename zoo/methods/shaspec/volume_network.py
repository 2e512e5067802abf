"""ShaSpec for volumes: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.networks.unet3d import Encoder3d, StandardisedConv3d, initialise
from zoo.networks.unet3d_multimodal import Available, Encodings, MultimodalUNet3d


@dataclass(frozen=True)
class ShaSpecEncodings(Encodings):
    """With what the specific encoders add.

    Attributes:
        fused: [K, C, d, h, w]: of the first K rows, which are not of the zero volume.
        pooled: (sample, modality) to the mean specific feature [C], before pyramid pooling.
    """

    fused: Tensor
    pooled: Mapping[tuple[int, int], Tensor]


class ShaSpecVolumeNet(MultimodalUNet3d):
    """A shared encoder and one specific to each modality, residual fusion of their features, one decoder.

    Args:
        modalities, regions, width, checkpointing: as of :class:`MultimodalUNet3d`.
    """

    def __init__(self, modalities: int, regions: int, width: int = 64, checkpointing: bool = False) -> None:
        super().__init__(modalities, regions, width, checkpointing)
        self.specific_encoders = nn.ModuleList(Encoder3d(width, checkpointing) for _ in range(modalities))
        initialise(self.specific_encoders)
        self.fusion = StandardisedConv3d(8 * width, 4 * width, 3, padding=1)
        self.domain = nn.Linear(4 * width, modalities)

    def fuse(self, shared: Tensor, specific: Tensor) -> Tensor:
        """Residual fusion of two features [N, C, d, h, w]."""
        return shared + self.fusion(torch.cat([shared, specific], 1))

    def encode(self, images: Tensor, available: Available, zero: Encodings | None = None) -> ShaSpecEncodings:
        shared = super().encode(images, available, zero)
        specific: dict[tuple[int, int], Tensor] = {}
        pooled: dict[tuple[int, int], Tensor] = {}
        for m, encoder in enumerate(self.specific_encoders):
            if samples := [n for n, there in enumerate(available) if m in there]:
                reduced, _ = encoder.reduce(torch.stack([images[n, m] for n in samples])[:, None])
                keys = [(n, m) for n in samples]
                specific |= zip(keys, encoder.aspp(reduced), strict=True)
                pooled |= zip(keys, reduced.mean((2, 3, 4)), strict=True)
        fused = shared.features[:0]
        if specific:
            fused = self.fuse(shared.features[: len(specific)], torch.stack([specific[key] for key in shared.rows]))
        return ShaSpecEncodings(**vars(shared), fused=fused, pooled=pooled)

    def fill(self, encodings: ShaSpecEncodings, available: Available) -> Tensor:
        """Fused features; a missing modality takes the shared feature of the first available one."""
        first_shared = len(encodings.fused)
        wanted: list[list[int]] = []
        for n, there in enumerate(available):
            stand_in = first_shared + (encodings.rows[n, there[0]] if there else encodings.zero)
            wanted.append([encodings.rows[n, m] if m in there else stand_in for m in range(self.modalities)])
        return encodings.pick(torch.cat([encodings.fused, encodings.features]), wanted)

    def shared_features(self, encodings: Encodings, available: Available) -> Tensor:
        """[B, M, C, d, h, w], the zero volume's where a modality is missing."""
        return encodings.pick(encodings.features, encodings.wanted(available, self.modalities))

    def domain_logits(self, encodings: ShaSpecEncodings, images: Tensor) -> Tensor:
        """[B, M, M]: to which modality the mean of each specific feature belongs; of missing ones, of a zero volume."""
        samples = range(len(images))
        zero = torch.zeros_like(images[:1, :1])
        rows: dict[tuple[int, int], Tensor] = dict(encodings.pooled)
        for m, encoder in enumerate(self.specific_encoders):
            if missing := [n for n in samples if (n, m) not in rows]:
                feature = encoder.reduce(zero)[0].mean((2, 3, 4))[0]
                rows |= {(n, m): feature for n in missing}
        ordered: Sequence[Tensor] = [rows[n, m] for n in samples for m in range(self.modalities)]
        return self.domain(torch.stack(ordered)).unflatten(0, (len(samples), -1))
