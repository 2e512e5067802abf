"""The 3-D U-Net on several modalities, any of which may be missing: every volume is encoded once, and none in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.core.errors import RecipeError
from zoo.networks.unet3d import Decoder3d, Encoder3d, initialise

Available = Sequence[Sequence[int]]
"""Per sample its available modalities; some methods look at their order."""

MULTIPLES = (16, 32, 32)  # of depth, height and width: the strides


@dataclass(frozen=True)
class Encodings:
    """Features of the volumes of a batch, each encoded once, the zero volume of all missing modalities once.

    Attributes:
        features: [V, C, d, h, w].
        skips: [V, c, …] each.
        rows: (sample, modality) to its row of these.
        zero: row of the zero volume; `None` if nothing is missing.
    """

    features: Tensor
    skips: Sequence[Tensor]
    rows: Mapping[tuple[int, int], int]
    zero: int | None

    def pick(self, volumes: Tensor, wanted: Sequence[Sequence[int]]) -> Tensor:
        """Rows [V, …] of `features` or one of `skips`, as :meth:`wanted` lists them: [B, M, …]."""
        flat = [row for rows in wanted for row in rows]
        if flat != list(range(len(volumes))):  # else a view will do
            volumes = volumes.index_select(0, torch.tensor(flat).to(volumes.device, non_blocking=True))
        return volumes.unflatten(0, (len(wanted), -1))

    def wanted(self, available: Available, modalities: int) -> list[list[int]]:
        """Rows of every sample and modality, [B, M]; of the zero volume where it is not available."""
        return [
            [self.rows[n, m] if m in there else self.zero for m in range(modalities)]
            for n, there in enumerate(available)
        ]


class MultimodalUNet3d(nn.Module):
    """One encoder for all modalities, one decoder of all of them together.

    A missing modality is a volume of zeros, whose features are what :meth:`fill` leaves in its place; methods override
    it. Its skips are those of the zero volume. What stands in a missing modality's images is never looked at.

    Args:
        modalities: M.
        regions: R.
        width: channels of the encoder's stem, even; 64 as published.
        checkpointing: whether training recomputes activations in the backward pass instead of keeping them.
    """

    def __init__(self, modalities: int, regions: int, width: int = 64, checkpointing: bool = False) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise RecipeError(f"model.width is {width}; it must be even and at least 2.")
        self.modalities = modalities
        self.shared_encoder = Encoder3d(width, checkpointing)
        self.decoder = Decoder3d(modalities, regions, width)
        initialise(self)

    def encode(self, images: Tensor, available: Available, zero: Encodings | None = None) -> Encodings:
        """Encode what is available.

        Args:
            images: [B, M, D, H, W].
            available: per sample.
            zero: what :meth:`encode_zero` gave for this size; `None` encodes a zero volume if anything is missing.

        Raises:
            RecipeError: if the sizes are no multiples of 16, 32 and 32.
        """
        if any(size % multiple for size, multiple in zip(images.shape[2:], MULTIPLES, strict=True)):
            raise RecipeError(
                f"The network cannot take volumes of {'×'.join(map(str, images.shape[2:]))} voxels: depth must be a "
                "multiple of 16, height and width of 32. Choose such a crop."
            )
        pairs = [(n, m) for n, there in enumerate(available) for m in sorted(there)]
        rows = {pair: row for row, pair in enumerate(pairs)}
        volumes = [images[n, m] for n, m in pairs]
        missing = len(pairs) < images.shape[0] * self.modalities
        if missing and zero is None:
            volumes.append(torch.zeros_like(images[0, 0]))
        if volumes:
            features, skips = self.shared_encoder(torch.stack(volumes)[:, None])
        if zero is not None:
            if not volumes:
                return Encodings(zero.features, zero.skips, {}, 0)
            features = torch.cat([features, zero.features])
            skips = [torch.cat(pair) for pair in zip(skips, zero.skips, strict=True)]
        return Encodings(features, skips, rows, len(pairs) if missing or zero is not None else None)

    def encode_zero(self, size: Sequence[int], like: Tensor) -> Encodings:
        """Encodings of the zero volume alone, to be reused as long as the weights stay.

        Args:
            size: D, H, W.
            like: a tensor of the device and dtype.
        """
        return self.encode(like.new_empty(1, self.modalities, *size), [[]])

    def fill(self, encodings: Encodings, available: Available) -> Tensor:
        """Bottleneck features that the decoder sees, [B, M, C, d, h, w]."""
        return encodings.pick(encodings.features, encodings.wanted(available, self.modalities))

    def decode(self, encodings: Encodings, available: Available) -> Tensor:
        """Logits [B, R, D, H, W] from some of the modalities that were encoded."""
        wanted = encodings.wanted(available, self.modalities)
        skips = [encodings.pick(skip, wanted).flatten(1, 2) for skip in encodings.skips]
        return self.decoder(self.fill(encodings, available).flatten(1, 2), skips)

    def forward(self, images: Tensor, available: Available) -> Tensor:
        """Images [B, M, D, H, W] to logits [B, R, D, H, W]."""
        return self.decode(self.encode(images, available), available)
