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

Pair = tuple[int, int]
"""Sample and modality."""

MULTIPLES = (16, 32, 32)  # of depth, height and width: the strides


@dataclass(frozen=True)
class Encodings:
    """Features of the volumes of a batch, each encoded once, and of the zero volume of missing modalities.

    Attributes:
        features: [V, C, d, h, w].
        skips: [V, c, …] each.
        rows: (sample, modality) to its row of these, for what was available.
        zeros: (sample, modality) to the row of the zero volume that stands for it where it is missing.
    """

    features: Tensor
    skips: Sequence[Tensor]
    rows: Mapping[Pair, int]
    zeros: Mapping[Pair, int]

    def pick(self, volumes: Tensor, wanted: Sequence[Sequence[int]]) -> Tensor:
        """Rows [V, …] of `features` or one of `skips`, as :meth:`wanted` lists them: [B, M, …]."""
        flat = [row for rows in wanted for row in rows]
        if flat != list(range(len(volumes))):  # else a view will do
            volumes = volumes.index_select(0, torch.tensor(flat).to(volumes.device, non_blocking=True))
        return volumes.unflatten(0, (len(wanted), -1))

    def wanted(self, available: Available, modalities: int) -> list[list[int]]:
        """Rows of every sample and modality, [B, M]; of the zero volume where it is not available."""
        return [
            [(self.rows if m in there else self.zeros)[n, m] for m in range(modalities)]
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

    Attributes:
        share_zero: whether one zero volume stands for all missing modalities of a batch. Else each has its own, as in
            the released code: the same but for rounding, which float32 gradients of zero volumes blow up.
    """

    share_zero = True

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
        everything = [(n, m) for n in range(len(images)) for m in range(self.modalities)]
        pairs = [(n, m) for n, m in everything if m in available[n]]
        missing = [pair for pair in everything if pair not in pairs] if zero is None else []
        encoded = sorted([*pairs, *(missing[:1] if self.share_zero else missing)])
        rows = {pair: row for row, pair in enumerate(encoded)}
        of_missing = {pair: rows.pop(pair) for pair in encoded if pair in missing}
        shared_row = len(encoded) if zero is not None else next(iter(of_missing.values()), None)
        zeros = (dict.fromkeys(everything, shared_row) if shared_row is not None else {}) | of_missing
        if not encoded:
            return Encodings(zero.features, zero.skips, rows, zeros)
        blank = torch.zeros_like(images[0, 0])
        volumes = [images[pair] if pair in rows else blank for pair in encoded]
        features, skips = self.shared_encoder(torch.stack(volumes)[:, None])
        if zero is not None:
            features = torch.cat([features, zero.features])
            skips = [torch.cat(pair) for pair in zip(skips, zero.skips, strict=True)]
        return Encodings(features, skips, rows, zeros)

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
