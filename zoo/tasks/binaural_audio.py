"""What methods that give a one-channel sound its two ears share: windows, evaluation, stereo files and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from losses.slots import Slot
from zoo.core.errors import DataError, RecipeError
from zoo.module import Batch, ZooModule
from zoo.networks.binaural import both_ears, cut_windows, overlap_add, scale_to_rms
from zoo.networks.stft import STFT

SAMPLE_RATE = 16_000
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BinauralAudioModule(ZooModule):
    """Base of methods whose batch is :class:`datamodules.batch.BinauralAudio`, at 16 kHz.

    A method implements :meth:`see`, :meth:`hear` and `training_step`.

    Args:
        window: samples per window, L.
        frame_size: height and width of the frames.
        stft: of the network's input and output.
        chunk_size: windows, or frames, that evaluation gives to a network at once.
        losses: changes to the slots.
    """

    task = "binaural_audio"
    slots: ClassVar[Mapping[str, Slot]] = {}

    def __init__(
        self,
        window: int,
        frame_size: tuple[int, int],
        stft: STFT,
        chunk_size: int,
        losses: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(losses)
        for name, value in (("window", window), ("chunk_size", chunk_size), ("frame_size", min(frame_size))):
            if value < 1:
                raise RecipeError(f"model.{name} is {value}; it must be at least 1.")
        self.window, self.frame_size, self.chunk_size = window, tuple(frame_size), chunk_size
        self.stft = stft
        self.register_buffer("frame_mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("frame_std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    # -- a method's own -----------------------------------------------------------------------------------------------

    def see(self, frames: Tensor) -> Tensor:
        """Normalised frames, float [K, 3, H, W], to visual features [K, …]."""
        raise NotImplementedError

    def hear(self, mono: Tensor, visual: Tensor) -> Tensor:
        """Windows of sound, float [K, L], and their visual features to left - right, float [K, L]."""
        raise NotImplementedError

    # -- training -----------------------------------------------------------------------------------------------------

    def segment(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A training batch's sound and pictures, as networks take them.

        Returns:
            Left and right, float [B, 2, L], scaled to a root mean square of 0.1 over both; normalised frames,
            float [B, 2, 3, H, W], the previous one and the window's own.

        Raises:
            DataError: if windows or frames are of another size than the model's.
        """
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
        return torch.where(present, (video - self.frame_mean) / self.frame_std, 0.0)

    def optimizers_with_slow_sight(
        self,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable,
        visual: nn.Module,
        share: float,
        interval: str,
    ) -> Any:
        """One optimizer, whose learning rate for the parameters of `visual` is a share of that for all others."""
        seen = {id(parameter) for parameter in visual.parameters()}
        groups = [
            {"params": [p for p in self.parameters() if (id(p) in seen) == wanted and p.requires_grad]}
            for wanted in (True, False)
        ]

        def made(parameters: list[dict[str, Any]]) -> Optimizer:
            found = optimizer(parameters)
            found.param_groups[0]["lr"] *= share
            return found

        return self.optimizers_from(made, scheduler, groups, interval)

    # -- whole clips --------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Left and right of whole clips, float [B, 2, T], as loud as the sound that came in.

        Each window is scaled to a root mean square of 0.1, gets its difference of the ears, and is scaled back; where
        windows overlap, their mean counts. With data that crops each frame at another place, that is the test-time
        dynamic scene simulation of CCStereo. Each frame is looked at once, however many windows see it.
        """
        audio = torch.where(batch["present"]["audio"][:, None], batch["modalities"]["audio"], 0.0)
        mono, normalizer = self.windows(audio, batch)
        difference = self.differences(mono, self.frames(batch), batch["window_frame"])
        return overlap_add(self.ears(mono, difference) * normalizer, batch["window_start"], audio.shape[-1])

    def windows(self, audio: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Float [B, T] to scaled windows [B, N, 1, L], and what to multiply by to undo it, [B, N, 1, 1]."""
        return scale_to_rms(cut_windows(audio[:, None], batch["window_start"], self.window))

    def differences(self, mono: Tensor, frames: Tensor, window_frame: Tensor) -> Tensor:
        """Left - right of each window.

        Args:
            mono: scaled windows, float [B, N, 1, L].
            frames: normalised, float [B, F, 3, H, W].
            window_frame: int64 [B, N], which frame a window sees.

        Returns:
            Float [B, N, 1, L].
        """
        visual = self._in_chunks(self.see, frames.flatten(0, 1))
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
