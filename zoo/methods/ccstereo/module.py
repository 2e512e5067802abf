"""CCStereo: binaural sound from one channel and a video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, PolynomialLR

from losses.slots import Slot
from zoo.core.distributed import gather_rows_with_grad
from zoo.core.errors import RecipeError
from zoo.core.randomness import torch_generator
from zoo.methods.ccstereo.network import AudioNet
from zoo.methods.ccstereo.official import OFFICIAL
from zoo.methods.ccstereo.visual import VisualNet
from zoo.module import Batch
from zoo.networks.binaural import both_ears, scale_to_rms
from zoo.networks.frame_encoder import grid
from zoo.networks.mask_unet import complex_product
from zoo.networks.stft import STFT
from zoo.tasks.binaural_windows import BinauralWindowModule


class CCStereo(BinauralWindowModule):
    """CCStereo (Chen et al., ACM MM 2025, arXiv:2501.02786).

    Batch: :class:`~datamodules.batch.BinauralAudio`.

    A complex mask on the spectrogram of left + right gives that of left - right. It comes from a U-Net whose bottleneck
    attends to positions of the frame and whose decoder is normalised by how sound and picture agree (AVAD). The
    contrastive term draws what is fused with the previous frame near, and pushes away what is fused with the same
    frame's positions shuffled: the network must look where things are.

    The defaults are the released weights' (the published code's own defaults are those of
    `recipes/ccstereo/fairplay_code_defaults.yaml`). On several ranks, the contrastive term sees all samples, with
    gradients to all, and the phase term's mean runs over all; batch statistics are each rank's own, unless
    `trainer.sync_batchnorm` is set.

    Args:
        backbone: a ResNet of timm.
        pretrained: "imagenet" (the paper) or `None`: its first weights when training starts, unless others are loaded.
        width: channels of the audio network's first layer; it and the visual network meet in 8 times as many. 16 times
            the published `dim_scale`.
        kwargs: as of :class:`~zoo.tasks.binaural_windows.BinauralWindowModule`. Published inference scales windows by
            the whole level of their sum, so that the network hears them at about half the level that it was trained
            at. The default optimizer is Adam, learning rate 5e-4, weight decay 5e-4; the default schedule, advanced
            every step, polynomial decay over the whole run, power 0.9. Slots: `mse` and `amplitude` (of the
            difference's spectrogram), `phase` (of both ears'), `contrast`.
    """

    official = OFFICIAL
    slots: ClassVar[Mapping[str, Slot]] = {
        "mse": Slot("spectrogram", "spectrogram_mse"),
        "amplitude": Slot("spectrogram", "spectrogram_envelope", weight=0.005),
        "phase": Slot("spectrogram", "spectrogram_phase", settings={"ignore_below": 0.2}),
        "contrast": Slot("triplet", "triplet_info_nce", weight=0.1, settings={"temperature": 0.1}),
    }

    def __init__(
        self,
        backbone: str = "resnet18",
        pretrained: Literal["imagenet"] | None = None,
        width: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        stft = self.stft
        self.reflecting = STFT(stft.n_fft, stft.hop_length, stft.win_length, pad_mode="reflect")  # of the phase term
        self.visual = VisualNet(backbone, pretrained, 8 * width)
        self.audio = AudioNet(width, self.spectrogram_size, grid(self.frame_size))

    def see(self, frames: Tensor) -> Tensor:
        """Float [K, 3, H, W] to [K, 8 width, h, w]."""
        return self.visual(frames)

    def hear(self, mono: Tensor, visual: Tensor) -> Tensor:
        mix = self.stft(mono)
        return self.stft.inverse(complex_product(mix, self.audio(mix, visual)), mono.shape[-1])

    def published_normalizer(self, mono: Tensor, batch: Batch) -> Tensor:
        return scale_to_rms(mono)[1]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        stereo, frames = self.segment(batch)
        previous, current = frames.unbind(1)
        # Two passes, the current frame first: batch statistics are of either alone, and move in this order.
        seen, seen_before = self.visual(current), self.visual(previous)
        positions = seen[0, 0].numel()
        order = torch.randperm(positions, generator=torch_generator(*self.draw_key("shuffle")))
        return self.total(self.terms(stereo, seen, seen_before, order.to(seen.device, non_blocking=True)), batch)

    def terms(self, stereo: Tensor, seen: Tensor, seen_before: Tensor, order: Tensor) -> dict[str, Tensor]:
        """The loss terms, unweighted.

        Args:
            stereo: left and right, float [B, 2, L].
            seen, seen_before: visual features of the current and of the previous frame, [B, D, h, w].
            order: int64 [h·w], the shuffled positions' order, one for the whole batch.
        """
        left, right = stereo.unbind(1)
        mix, target = self.stft(left + right), self.stft(left - right)
        mask, pooled = self.audio.contrasted(mix, seen, seen_before, order)
        predicted = complex_product(mix, mask)
        difference = self.stft.inverse(predicted, self.window)
        ears = both_ears((left + right)[:, None], difference[:, None])
        return {
            "mse": self.losses.mse(predicted, target),
            "amplitude": self.losses.amplitude(predicted, target),
            "phase": self.losses.phase(self.reflecting(ears), self.reflecting(stereo)),
            "contrast": self.losses.contrast(*gather_rows_with_grad(torch.stack(pooled, dim=1)).unbind(1)),
        }

    def configure_optimizers(self) -> Any:
        return self.optimizers_with_slow_sight(5e-4, self._decay, "step")

    def _decay(self, optimizer: Optimizer) -> LRScheduler:
        """Polynomial decay over the whole run."""
        if (steps := self.steps_planned) is None:
            raise RecipeError("The default schedule decays until training ends: set trainer.max_epochs or max_steps.")
        return PolynomialLR(optimizer, steps, power=0.9)
