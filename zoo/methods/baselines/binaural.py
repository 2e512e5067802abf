"""What papers on binaural sound compare with: Mono2Binaural, and no network at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from losses.slots import Slot
from zoo.checkpoints import Official, Rule
from zoo.module import Batch
from zoo.networks.binaural import cut_windows, scale_to_rms
from zoo.networks.frame_encoder import FrameEncoder, grid
from zoo.networks.mask_unet import MaskDecoder, MaskEncoder, bottleneck_size, complex_product, initialise
from zoo.tasks.binaural_audio import BinauralAudioModule
from zoo.tasks.binaural_windows import BinauralWindowModule

SEEN = 8  # channels of the visual features beside the bottleneck


class TiledUNet(nn.Module):
    """The U-Net of Mono2Binaural: the whole frame's features stand beside the sound's at each of its positions.

    Args:
        width: channels of the first layer.
        in_channels: of the visual features.
        spectrogram_size: bins F and frames N.
        visual_size: height and width of the visual features.
    """

    def __init__(
        self, width: int, in_channels: int, spectrogram_size: tuple[int, int], visual_size: tuple[int, int]
    ) -> None:
        super().__init__()
        bottleneck_size(spectrogram_size)
        self.project = nn.Sequential(nn.Conv2d(in_channels, SEEN, 1), nn.BatchNorm2d(SEEN), nn.ReLU())
        self.encoder = MaskEncoder(width)
        self.decoder = MaskDecoder(SEEN * math.prod(visual_size) + 8 * width, width)
        initialise(self)

    def forward(self, spectrogram: Tensor, visual: Tensor) -> Tensor:
        """Float [B, 2, F, N] and [B, C, h, w] to a complex mask in (-1, 1), [B, 2, F', N'].

        F' and N' are F and N rounded down to multiples of 32.
        """
        *skips, bottleneck = self.encoder(spectrogram)
        seen = self.project(visual).flatten(1)[..., None, None].expand(-1, -1, *bottleneck.shape[-2:])
        return self.decoder(torch.cat([seen, bottleneck], dim=1), skips)


class Mono2Binaural(BinauralWindowModule):
    """Mono2Binaural (Gao & Grauman, 2.5D Visual Sound, CVPR 2019, arXiv:1812.04204).

    Batch: :class:`~datamodules.batch.BinauralAudio`; previous frames are not looked at.

    The highest of the 257 frequencies has no mask: it stays mono, and the loss leaves it out.

    Args:
        backbone: a ResNet of timm.
        pretrained: "imagenet" (the paper) or `None`: its first weights when training starts, unless others are loaded.
        width: channels of the audio network's first layer.
        pad_mode: the paper's librosa mirrors.
        kwargs: as of :class:`~zoo.tasks.binaural_windows.BinauralWindowModule`. In published inference the true level
            of both ears scales a window, which needs stereo; the difference is resynthesised with a transform that is
            two samples short, which detunes it; the last window's difference is added to the sum of the window before.
            The default optimizer is Adam, learning rate 1e-3, weight decay 5e-4; the default schedule, advanced every
            epoch, 0.94 times after every 10 epochs. Slot: `mse`.
    """

    official = Official(
        (
            # One file of both networks with these prefixes, or a folder of the two published files without.
            Rule(r"^net_(visual|audio)\.", "", optional=True),
            Rule(r"^feature_extraction\.0\.", "visual.layers.conv1."),
            Rule(r"^feature_extraction\.1\.", "visual.layers.bn1."),
            *(Rule(rf"^feature_extraction\.{n + 3}\.", f"visual.layers.layer{n}.") for n in range(1, 5)),
            Rule(r"^conv1x1\.", "audio.project."),
            *(Rule(rf"^audionet_convlayer{n + 1}\.", f"audio.encoder.layers.{n}.") for n in range(5)),
            *(Rule(rf"^audionet_upconvlayer{n + 1}\.0\.", f"audio.decoder.layers.{n}.") for n in range(5)),
            *(Rule(rf"^audionet_upconvlayer{n + 1}\.1\.", f"audio.decoder.norms.{n}.") for n in range(4)),
        ),
        version=1,
    )
    slots: ClassVar[Mapping[str, Slot]] = {"mse": Slot("spectrogram", "spectrogram_mse")}

    def __init__(
        self,
        backbone: str = "resnet18",
        pretrained: Literal["imagenet"] | None = None,
        width: int = 64,
        pad_mode: Literal["constant", "reflect"] = "reflect",
        **kwargs: Any,
    ) -> None:
        super().__init__(pad_mode=pad_mode, **kwargs)
        self.visual = FrameEncoder(backbone, pretrained)
        self.audio = TiledUNet(width, self.visual.num_features, self.spectrogram_size, grid(self.frame_size))

    def see(self, frames: Tensor) -> Tensor:
        """Float [K, 3, H, W] to [K, C, h, w]."""
        return self.visual(frames)

    def predicted(self, mix: Tensor, visual: Tensor) -> Tensor:
        """Spectrogram of left + right, [B, 2, F, N], to that of left - right, [B, 2, F', N']: all that has a mask."""
        mask = self.audio(mix, visual)
        return complex_product(mix[..., : mask.shape[-2], : mask.shape[-1]], mask)

    def hear(self, mono: Tensor, visual: Tensor) -> Tensor:
        mix = self.stft(mono)
        found = self.predicted(mix, visual)
        if not self.published_inference:
            found = F.pad(found, (0, mix.shape[-1] - found.shape[-1], 0, mix.shape[-2] - found.shape[-2]))
        return self.stft.inverse(found, mono.shape[-1])

    def published_normalizer(self, mono: Tensor, batch: Batch) -> Tensor:
        return scale_to_rms(cut_windows(batch["stereo"], batch["window_start"], self.window))[1]

    def ears(self, mono: Tensor, difference: Tensor) -> Tensor:
        if self.published_inference:
            mono = torch.cat([mono[:, :-1], mono[:, -2:-1]], dim=1)
        return super().ears(mono, difference)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        stereo, frames = self.segment(batch)
        return self.total({"mse": self.error(stereo, self.visual(frames[:, -1]))}, batch)

    def error(self, stereo: Tensor, visual: Tensor) -> Tensor:
        """The loss, from left and right, float [B, 2, L], and visual features [B, C, h, w]."""
        left, right = stereo.unbind(1)
        found = self.predicted(self.stft(left + right), visual)
        return self.losses.mse(found, self.stft(left - right)[..., : found.shape[-2], : found.shape[-1]])

    def configure_optimizers(self) -> Any:
        return self.optimizers_with_slow_sight(1e-3, partial(StepLR, step_size=10, gamma=0.94), "epoch")


class MonoMono(BinauralAudioModule):
    """Both ears hear half of the sum. There is no network, and nothing to train."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters()

    def render(self, audio: Tensor, frames: Tensor, batch: Batch) -> Tensor:
        return torch.stack([audio, audio], dim=1) / 2

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing to do: `fit` only validates."""

    def configure_optimizers(self) -> None:
        """None."""
