"""What networks that hear windows of a sound, and see a frame with each, share: windows, levels, training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from zoo.core.errors import DataError, RecipeError
from zoo.module import Batch
from zoo.networks.binaural import both_ears, cut_windows, overlap_add, scale_to_rms
from zoo.networks.frame_encoder import FrameEncoder
from zoo.networks.normalise import Normalise
from zoo.networks.stft import STFT
from zoo.tasks.binaural_audio import SAMPLE_RATE, BinauralAudioModule, check_rate


class BinauralWindowModule(BinauralAudioModule):
    """Base of methods that find the difference of the ears window by window.

    A method makes a network `visual`, and implements :meth:`see`, :meth:`hear`, :meth:`published_normalizer`,
    `training_step` and `configure_optimizers`.

    Args:
        window: seconds that the network hears at once.
        frame_size: height and width of the frames, in pixels.
        n_fft, hop_length, win_length: of the spectrograms, in samples.
        pad_mode: what the spectrograms see beyond a window's ends: zeros ("constant") or its mirror image ("reflect").
        published_inference: evaluate as the published code, whose ways are part of its numbers. Else a window is scaled
            by the level of its sum, halved, since training knows sums of two ears.
        visual_lr_share: learning rate of the visual network as a share of the audio network's.
        chunk_size: windows, or frames, that evaluation gives to a network at once.
        optimizer, scheduler: factories; `None` takes the paper's.
        losses: changes to the slots.
    """

    visual: nn.Module
    window: int
    """Samples."""

    def __init__(
        self,
        window: float = 0.63,
        frame_size: tuple[int, int] = (224, 448),
        n_fft: int = 512,
        hop_length: int = 160,
        win_length: int = 400,
        pad_mode: Literal["constant", "reflect"] = "constant",
        published_inference: bool = False,
        visual_lr_share: float = 0.1,
        chunk_size: int = 32,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        losses: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(losses)
        self.save_hyperparameters()
        for name, value in (("chunk_size", chunk_size), ("frame_size", min(frame_size))):
            if value < 1:
                raise RecipeError(f"model.{name} is {value}; it must be at least 1.")
        self.window, self.frame_size, self.chunk_size = round(window * SAMPLE_RATE), tuple(frame_size), chunk_size
        self.published_inference, self.visual_lr_share = published_inference, visual_lr_share
        self.optimizer, self.scheduler = optimizer, scheduler
        self.stft = STFT(n_fft, hop_length, win_length, pad_mode)
        self.normalise = Normalise("imagenet")

    @property
    def spectrogram_size(self) -> tuple[int, int]:
        """Bins F and frames N of a window."""
        return self.stft.n_fft // 2 + 1, 1 + self.window // self.stft.hop_length

    # -- a method's own -----------------------------------------------------------------------------------------------

    def see(self, frames: Tensor) -> Tensor:
        """Normalised frames, float [K, 3, H, W], to visual features [K, …]."""
        raise NotImplementedError

    def hear(self, mono: Tensor, visual: Tensor) -> Tensor:
        """Windows of sound, float [K, L], and their visual features to left - right, float [K, L]."""
        raise NotImplementedError

    def published_normalizer(self, mono: Tensor, batch: Batch) -> Tensor:
        """What published inference divides windows, float [B, N, 1, L], by: [B, N, 1, 1]."""
        raise NotImplementedError

    # -- training -----------------------------------------------------------------------------------------------------

    def segment(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A training batch's sound and pictures, as networks take them.

        Returns:
            Left and right, float [B, 2, L], scaled to a root mean square of 0.1 over both; normalised frames,
            float [B, 2, 3, H, W], the previous one and the window's own.

        Raises:
            DataError: if windows or frames are of another size than the model's, or the sound of another rate.
        """
        check_rate(batch)
        stereo = batch["stereo"]
        if stereo.shape[-1] != self.window:
            raise DataError(
                f"Training windows have {stereo.shape[-1]:,} samples, the model's {self.window:,}: "
                "make data.window and model.window equal."
            )
        return scale_to_rms(stereo)[0], self.frames(batch)

    def frames(self, batch: Batch) -> Tensor:
        """Normalised frames, float [B, F, 3, H, W]; those of an absent video are ImageNet's mean colour.

        Raises:
            DataError: if they are not of the model's size.
        """
        video = batch["modalities"]["video"]
        if tuple(video.shape[-2:]) != self.frame_size:
            raise DataError(
                f"Frames have {video.shape[-2]}×{video.shape[-1]} pixels, the model's {self.frame_size[0]}×"
                f"{self.frame_size[1]}: make data.frame_size and model.frame_size equal."
            )
        present = batch["present"]["video"][:, None, None, None, None]
        return torch.where(present, self.normalise(video), 0.0)

    def optimizers_with_slow_sight(self, lr: float, scheduler: LRSchedulerCallable, interval: str) -> Any:
        """One optimizer, whose learning rate for the visual network is a share of that for all else.

        Args:
            lr: of Adam, with weight decay 5e-4, where the recipe names no optimizer.
            scheduler: where it names none.
            interval: "step" or "epoch": when the schedule advances.
        """
        seen = {id(parameter) for parameter in self.visual.parameters()}
        groups = [
            {"params": [p for p in self.parameters() if (id(p) in seen) == wanted and p.requires_grad]}
            for wanted in (True, False)
        ]

        def made(parameters: list[dict[str, Any]]) -> Optimizer:
            found = (self.optimizer or partial(Adam, lr=lr, weight_decay=5e-4))(parameters)
            found.param_groups[0]["lr"] *= self.visual_lr_share
            return found

        return self.optimizers_from(made, self.scheduler or scheduler, groups, interval)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.trainer.ckpt_path is None:
            for part in self.modules():
                if isinstance(part, FrameEncoder):
                    part.load_pretrained()

    # -- whole clips --------------------------------------------------------------------------------------------------

    def render(self, audio: Tensor, frames: Tensor, batch: Batch) -> Tensor:
        """Float [B, T] and normalised frames [B, F, 3, H, W] to left and right, float [B, 2, T].

        Each window is scaled, gets its difference of the ears, and is scaled back; where windows overlap, their mean
        counts. With data that crops each frame at another place, that is the test-time dynamic scene simulation of
        CCStereo. Each frame is looked at once, however many windows see it.
        """
        mono, normalizer = self.windows(audio, batch)
        difference = self.differences(mono, frames, batch["window_frame"])
        return overlap_add(self.ears(mono, difference) * normalizer, batch["window_start"], audio.shape[-1])

    def windows(self, audio: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Float [B, T] to scaled windows [B, N, 1, L], and what to multiply by to undo it, [B, N, 1, 1]."""
        mono = cut_windows(audio[:, None], batch["window_start"], self.window)
        normalizer = self.published_normalizer(mono, batch) if self.published_inference else scale_to_rms(mono / 2)[1]
        return mono / normalizer, normalizer

    def differences(self, mono: Tensor, frames: Tensor, window_frame: Tensor) -> Tensor:
        """Left - right of each window.

        Args:
            mono: scaled windows, float [B, N, 1, L].
            frames: normalised, float [B, F, 3, H, W].
            window_frame: int64 [B, N], which frame a window sees.

        Returns:
            Float [B, N, 1, L].
        """
        # Channels last, convolutions are faster: by a third on CPUs.
        visual = self._in_chunks(self.see, frames.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        offset = torch.arange(len(frames), device=frames.device)[:, None] * frames.shape[1]
        return self._in_chunks(
            lambda sound, place: self.hear(sound, visual[place]), mono.flatten(0, 2), (window_frame + offset).flatten()
        ).view_as(mono)

    def _in_chunks(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        chunks = zip(*(x.split(self.chunk_size) for x in inputs), strict=True)
        return torch.cat([function(*chunk) for chunk in chunks])

    def ears(self, mono: Tensor, difference: Tensor) -> Tensor:
        """Left and right, float [B, N, 2, L], from their sum and their difference, [B, N, 1, L]."""
        return both_ears(mono, difference)
