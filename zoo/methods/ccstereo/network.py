"""What CCStereo makes of sound and sight: cross-attention at the bottleneck, AVAD in the decoder."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.networks.mask_unet import MaskDecoder, MaskEncoder, bottleneck_size, initialise, resized

HEADS = 8


def tokens(features: Tensor) -> Tensor:
    """Map [B, D, h, w] to tokens [B, h·w, D], row by row."""
    return features.flatten(2).mT


class Fusion(nn.Module):
    """What is heard asks what is seen (section 3.2): cross-attention, self-attention, two linear layers, all post-norm.

    Args:
        dim: D; a multiple of 8, the number of heads.
        audio_positions, visual_positions: tokens of each.
    """

    def __init__(self, dim: int, audio_positions: int, visual_positions: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.BatchNorm2d(dim), nn.ReLU())
        self.audio_position = nn.Parameter(torch.randn(audio_positions, dim))
        self.visual_position = nn.Parameter(torch.randn(visual_positions, dim))
        self.cross = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.cross_norm = nn.LayerNorm(dim)
        self.own = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.own_norm = nn.LayerNorm(dim)
        self.mix = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.mix_norm = nn.LayerNorm(dim)

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """Audio [B, D, f, n] and visual [B, D, h, w] to [B, D, f, n]."""
        seen, heard = tokens(self.project(visual)), tokens(audio)
        asked = seen + self.visual_position
        found, _ = self.cross(heard + self.audio_position, asked, seen, need_weights=False)
        heard = self.cross_norm(heard + found)
        asked = heard + self.audio_position
        found, _ = self.own(asked, asked, heard, need_weights=False)
        heard = self.own_norm(heard + found)
        heard = self.mix_norm(heard + self.mix(heard))
        return heard.mT.unflatten(2, audio.shape[-2:])


class AVAD(nn.Module):
    """Audio-visual adaptive denormalisation: batch normalisation whose scale and shift follow from how much each
    position of the sound is like each position of the picture (section 3.2).

    Args:
        channels: of the audio features, C.
        audio_size: their height and width.
        visual_channels: of the visual features.
        visual_positions: h·w of these.
        kernel_size: odd.
    """

    def __init__(
        self,
        channels: int,
        audio_size: tuple[int, int],
        visual_channels: int,
        visual_positions: int,
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.audio_position = nn.Parameter(0.02 * torch.randn(1, math.prod(audio_size), channels))
        self.visual_position = nn.Parameter(0.02 * torch.randn(1, visual_positions, channels))
        self.project = nn.Conv2d(visual_channels, channels, 1)
        self.shared = nn.Conv2d(visual_positions, channels, kernel_size, padding="same")
        self.scale = nn.Conv2d(channels, channels, kernel_size, padding="same")
        self.shift = nn.Conv2d(channels, channels, kernel_size, padding="same")

    def forward(self, x: Tensor, visual: Tensor) -> Tensor:
        """Audio features [B, C, f, n] and visual ones [B, V, h, w] to [B, C, f, n]."""
        x = self.norm(x)
        heard = F.normalize(tokens(x) + self.audio_position, dim=-1)
        seen = F.normalize(tokens(self.project(visual)) + self.visual_position, dim=-1)
        likeness = (seen @ heard.mT).unflatten(2, x.shape[-2:])
        hidden = F.relu(self.shared(likeness))
        return x * (1 + self.scale(hidden)) + self.shift(hidden)


class AudioNet(nn.Module):
    """Spectrogram and visual features to a complex mask.

    Args:
        width: channels of the first layer, g; D = 8 g.
        spectrogram_size: bins F and frames N.
        visual_size: height and width of the visual features.
    """

    def __init__(self, width: int, spectrogram_size: tuple[int, int], visual_size: tuple[int, int]) -> None:
        super().__init__()
        self.spectrogram_size = spectrogram_size
        dim, (bins, frames) = 8 * width, bottleneck_size(spectrogram_size)
        positions = math.prod(visual_size)
        self.encoder = MaskEncoder(width)
        self.fusion = Fusion(dim, bins * frames, positions)
        # Only the first of the decoder's norms is AVAD, as in the released weights; the paper does not say so.
        self.decoder = MaskDecoder(dim, width, AVAD(dim, (2 * bins, 2 * frames), dim, positions))
        initialise(self)

    def forward(self, spectrogram: Tensor, visual: Tensor) -> Tensor:
        """Float [B, 2, F, N] and [B, D, h, w] to a complex mask in [-1, 1], [B, 2, F, N]."""
        features = self.encoder(spectrogram)
        return self._decode(self.fusion(features[-1], visual), features, visual)

    def contrasted(
        self, spectrogram: Tensor, visual: Tensor, previous: Tensor, order: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The mask, and what the sound fused with three pictures is on average (section 3.3).

        Args:
            spectrogram: float [B, 2, F, N].
            visual, previous: features of the current and of the previous frame, [B, D, h, w].
            order: int64 [h·w]: the third picture is the current frame with its positions in this order.

        Returns:
            As of :meth:`forward`; anchor, positive and negative, [B, D] each.
        """
        features = self.encoder(spectrogram)
        shuffled = visual.flatten(2)[..., order].view_as(visual)
        # One after the other, in this order: so move the statistics of the BatchNorm in it.
        fused = [self.fusion(features[-1], seen) for seen in (visual, previous, shuffled)]
        anchor, positive, negative = (x.mean((2, 3)) for x in fused)
        return self._decode(fused[0], features, visual), (anchor, positive, negative)

    def _decode(self, fused: Tensor, features: list[Tensor], visual: Tensor) -> Tensor:
        return resized(self.decoder(fused, features[:-1], visual), self.spectrogram_size)
