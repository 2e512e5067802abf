"""ShaSpec for volumes: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.networks.unet3d import Encoder3d, StandardisedConv3d, initialise
from zoo.networks.unet3d_multimodal import Available, Encodings, MultimodalUNet3d, Pair


@dataclass(frozen=True)
class ShaSpecEncodings(Encodings):
    """With what the specific encoders add.

    Attributes:
        fused: [K, C, d, h, w], of what was available, in the order of `rows`.
        pooled: (sample, modality) to the mean specific feature [C], before pyramid pooling.
    """

    fused: Tensor
    pooled: Mapping[Pair, Tensor]


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
        fused: dict[Pair, Tensor] = {}
        pooled: dict[Pair, Tensor] = {}
        for m, encoder in enumerate(self.specific_encoders):
            if keys := [(n, m) for n, there in enumerate(available) if m in there]:
                reduced, _ = encoder.reduce(torch.stack([images[key] for key in keys])[:, None])
                beside = torch.stack([shared.features[shared.rows[key]] for key in keys])
                fused |= zip(keys, self.fuse(beside, encoder.aspp(reduced)), strict=True)
                pooled |= zip(keys, reduced.mean((2, 3, 4)), strict=True)
        rows = [fused[key] for key in shared.rows]
        return ShaSpecEncodings(**vars(shared), fused=torch.stack(rows) if rows else shared.features[:0], pooled=pooled)

    def fill(self, encodings: ShaSpecEncodings, available: Available) -> Tensor:
        """Fused features; a missing modality takes the shared feature of the first available one."""
        fused = {pair: row for row, pair in enumerate(encodings.rows)}
        wanted: list[list[int]] = []
        for n, there in enumerate(available):
            first = encodings.rows[n, there[0]] if there else encodings.zeros[n, 0]
            stand_in = len(fused) + first
            wanted.append([fused[n, m] if m in there else stand_in for m in range(self.modalities)])
        return encodings.pick(torch.cat([encodings.fused, encodings.features]), wanted)

    def shared_features(self, encodings: Encodings, available: Available) -> Tensor:
        """[B, M, C, d, h, w], the zero volume's where a modality is missing."""
        return encodings.pick(encodings.features, encodings.wanted(available, self.modalities))

    def domain_logits(self, encodings: ShaSpecEncodings, images: Tensor) -> Tensor:
        """[B, M, M]: to which modality the mean of each specific feature belongs; of missing ones, of a zero volume."""
        samples = range(len(images))
        rows: dict[Pair, Tensor] = dict(encodings.pooled)
        for m, encoder in enumerate(self.specific_encoders):
            if missing := [(n, m) for n in samples if (n, m) not in rows]:
                zeros = torch.zeros_like(images[: 1 if self.share_zero else len(missing), :1])
                features = encoder.reduce(zeros)[0].mean((2, 3, 4))
                rows |= zip(missing, features.expand(len(missing), -1), strict=True)
        ordered: Sequence[Tensor] = [rows[n, m] for n in samples for m in range(self.modalities)]
        return self.domain(torch.stack(ordered)).unflatten(0, (len(samples), -1))
