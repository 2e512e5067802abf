"""The U-Net that predicts a complex mask on a spectrogram (Gao & Grauman, CVPR 2019), in pieces.

Between encoder and decoder a method joins what it sees to what it hears.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.errors import RecipeError

LEVELS = 5


class MaskEncoder(nn.Module):
    """Five convolutions, each of which halves both axes (rounding down): width, 2, 4, 8 and 8 times width channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [2, width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 4, stride=2, padding=1), nn.BatchNorm2d(b), nn.LeakyReLU(0.2))
            for a, b in pairwise(channels)
        )

    def forward(self, spectrogram: Tensor) -> list[Tensor]:
        """Real and imaginary part, float [B, 2, F, N], to the outputs of all layers, the bottleneck last."""
        features = [spectrogram]
        for layer in self.layers:
            features.append(layer(features[-1]))
        return features[1:]


class MaskDecoder(nn.Module):
    """Five transposed convolutions, each of which doubles both axes, and the encoder's features beside theirs.

    Args:
        in_channels: of the bottleneck.
        width: as of the encoder.
        first_norm: normalises the first layer's output, 8 times width channels, and gets the condition too; `None` is
            BatchNorm, without a condition.
    """

    def __init__(self, in_channels: int, width: int, first_norm: nn.Module | None = None) -> None:
        super().__init__()
        into = [in_channels, 16 * width, 8 * width, 4 * width, 2 * width]
        out = [8 * width, 4 * width, 2 * width, width, 2]
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in zip(into, out, strict=True)
        )
        self.norms = nn.ModuleList(
            [first_norm if first_norm is not None else nn.BatchNorm2d(out[0]), *map(nn.BatchNorm2d, out[1:-1])]
        )

    def forward(self, bottleneck: Tensor, skips: Sequence[Tensor], *condition: Tensor) -> Tensor:
        """Decode.

        Args:
            bottleneck: float [B, in_channels, f, n].
            skips: the encoder's outputs but its last.
            condition: what the first norm gets beside the features.

        Returns:
            Complex mask in (-1, 1), its real and imaginary part, float [B, 2, 32 f, 32 n].
        """
        x = F.relu(self.norms[0](self.layers[0](bottleneck), *condition))
        for layer, norm, skip in zip(self.layers[1:-1], self.norms[1:], skips[:0:-1], strict=True):
            x = F.relu(norm(layer(joined(x, skip))))
        return 2 * self.layers[-1](joined(x, skips[0])).sigmoid() - 1


def joined(decoded: Tensor, skip: Tensor) -> Tensor:
    """Both side by side, the encoder's features resized where halving has rounded."""
    return torch.cat([decoded, resized(skip, decoded.shape[-2:])], dim=1)


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, corner on corner, as the published networks resize: float [B, C, *, *] to [B, C, *size]."""
    if x.shape[-2:] == torch.Size(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def bottleneck_size(spectrogram_size: tuple[int, int]) -> tuple[int, int]:
    """Bins and frames of the bottleneck for a spectrogram of F bins and N frames.

    Raises:
        RecipeError: if the spectrogram is too small to be halved five times.
    """
    bins, frames = (size >> LEVELS for size in spectrogram_size)
    if min(bins, frames) < 1:
        raise RecipeError(
            f"Windows give spectrograms of {spectrogram_size[0]} bins and {spectrogram_size[1]} frames; the U-Net "
            f"needs at least {2**LEVELS} of each: make model.window longer."
        )
    return bins, frames


def complex_product(spectrogram: Tensor, mask: Tensor) -> Tensor:
    """Product of two spectrograms whose real and imaginary parts are channels, float [B, 2, F, N] each."""
    (a, b), (c, d) = spectrogram.unbind(1), mask.unbind(1)
    return torch.stack([a * c - b * d, a * d + b * c], dim=1)


def initialise(module: nn.Module) -> None:
    """Draw weights as Gao & Grauman do: convolutions and linear layers N(0, 0.02²), scales of BatchNorm N(1, 0.02²).

    Biases of BatchNorm become 0; all others stay.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(part.weight, 0.0, 0.02)
        elif isinstance(part, nn.BatchNorm2d) and part.affine:
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
