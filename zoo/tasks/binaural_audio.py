"""What methods that give a one-channel sound its two ears share: windows, evaluation, stereo files and pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from losses.slots import Slot
from zoo.core.distributed import rank
from zoo.core.errors import DataError, RecipeError
from zoo.core.extras import require
from zoo.metrics.binaural import STFTDistance, binaural_metrics
from zoo.module import Batch, ZooModule
from zoo.networks.binaural import both_ears, cut_windows, overlap_add, scale_to_rms
from zoo.networks.frame_encoder import FrameEncoder
from zoo.networks.normalise import Normalise
from zoo.networks.stft import STFT
from zoo.tasks.binaural_files import Picture, file_name, finish, put_piece

SAMPLE_RATE = 16_000
PIECES = "pieces"  # folder in which a clip's pieces wait for each other
PICTURED = 4  # batches of which a test draws pictures


class BinauralAudioModule(ZooModule):
    """Base of methods whose batch is :class:`datamodules.batch.BinauralAudio`, at 16 kHz.

    A method implements :meth:`see`, :meth:`hear` and `training_step`.

    Args:
        window: seconds that the network hears at once; L samples.
        frame_size: height and width of the frames.
        stft: of the network's input and output.
        chunk_size: windows, or frames, that evaluation gives to a network at once.
        losses: changes to the slots.
    """

    task = "binaural_audio"
    slots: ClassVar[Mapping[str, Slot]] = {}

    def __init__(
        self,
        window: float,
        frame_size: tuple[int, int],
        stft: STFT,
        chunk_size: int,
        losses: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(losses)
        for name, value in (("chunk_size", chunk_size), ("frame_size", min(frame_size))):
            if value < 1:
                raise RecipeError(f"model.{name} is {value}; it must be at least 1.")
        self.window, self.frame_size, self.chunk_size = round(window * SAMPLE_RATE), tuple(frame_size), chunk_size
        self.stft = stft
        self.val_distance, self.test_metrics = STFTDistance(), binaural_metrics("test")
        self.normalise = Normalise("imagenet")

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
        return torch.where(present, self.normalise(video), 0.0)

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

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.trainer.ckpt_path is None:
            for part in self.modules():
                if isinstance(part, FrameEncoder):
                    part.load_pretrained()

    # -- whole clips --------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Left and right of whole clips, float [B, 2, T], as loud as the sound that came in.

        Each window is scaled to a root mean square of 0.1, gets its difference of the ears, and is scaled back; where
        windows overlap, their mean counts. With data that crops each frame at another place, that is the test-time
        dynamic scene simulation of CCStereo. Each frame is looked at once, however many windows see it.
        """
        audio = torch.where(batch["present"]["audio"][:, None], batch["modalities"]["audio"], 0.0)
        return self.render(audio, self.frames(batch), batch)

    def render(self, audio: Tensor, frames: Tensor, batch: Batch) -> Tensor:
        """Float [B, T] and normalised frames [B, F, 3, H, W] to left and right, float [B, 2, T]."""
        mono, normalizer = self.windows(audio, batch)
        difference = self.differences(mono, frames, batch["window_frame"])
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

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.val_distance.update(self(batch), batch["stereo"])
        self.log("val/stft_distance", self.val_distance, prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        predicted = self(batch)
        self.test_metrics.update(predicted, batch["stereo"])
        self.log_dict(self.test_metrics)
        if rank() == 0 and batch_idx < PICTURED:
            self._draw(batch, predicted)

    def _draw(self, batch: Batch, predicted: Tensor) -> None:
        for row, name in enumerate(batch["id"]):
            length = batch["lengths"]["audio"][row]
            pictures = [Picture(SAMPLE_RATE), Picture(SAMPLE_RATE)]
            for picture, stereo in zip(pictures, (predicted, batch["stereo"]), strict=True):
                picture.add(stereo[row, :, :length])  # sync: the first test batches
            made, true = pictures
            made.draw(_folder(self) / f"{file_name(name)}.png", name, _middle_frame(batch, row), truth=true)

    def on_test_epoch_end(self) -> None:
        found = {name.removeprefix("test/"): float(value) for name, value in self.test_metrics.compute().items()}
        if rank() == 0:
            path = _folder(self) / "distances.csv"
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["distance", "value"])
                writer.writerows([name, f"{value:.6g}"] for name, value in found.items())
            rank_zero_info(f"Distances of predicted from recorded ears: {path}; the first clips: *.png beside it.")

    # -- prediction ---------------------------------------------------------------------------------------------------

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """`id`, and left and right of each clip's own part of this piece, float [2, S] at the source's rate.

        What the ears hear differently has no more than 8 kHz; it is put onto the source as it is, so that this keeps
        its rate, its length, and its heights. When all is predicted, the pieces of each clip become `NAME.wav`
        (16 bits, scaled down if it would be clipped), with `NAME.png`, and `predictions.csv` lists them.
        """
        soxr = require("soxr", "audio")
        predicted = self(batch).float()
        difference = (predicted[:, 0] - predicted[:, 1]).cpu().numpy()  # sync: prediction alone
        sources, found = batch["source"].float().cpu(), []  # sync: prediction alone
        for row, (name, rate) in enumerate(zip(batch["id"], batch["source_rate"].tolist(), strict=True)):
            (first, end), (number, _) = batch["keep"][row].tolist(), batch["piece"][row].tolist()
            own = torch.from_numpy(soxr.resample(difference[row], SAMPLE_RATE, rate, quality="HQ"))
            own = F.pad(own, (0, max(0, end - len(own))))[first:end]
            stereo = both_ears(sources[row, None, first:end], own[None])
            put_piece(_folder(self) / PIECES, name, number, stereo, rate, _middle_frame(batch, row))
            found.append(stereo)
        return {"id": batch["id"], "stereo": found}

    def on_predict_epoch_end(self) -> None:
        self.trainer.strategy.barrier()  # all ranks have laid down their pieces
        if rank() == 0:
            rows = finish(_folder(self) / PIECES, _folder(self))
            scaled = sum(row["scaled"] < 1 for row in rows)
            louder = f"; {scaled} would have been clipped and were scaled down" if scaled else ""
            rank_zero_info(f"{len(rows)} clips for two ears: {_folder(self)}/*.wav, with pictures{louder}.")


def _folder(module: ZooModule) -> Path:
    folder = Path(module.trainer.log_dir or module.trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _middle_frame(batch: Batch, row: int) -> Tensor:
    """Float [3, H, W] in [0, 1]."""
    video = batch["modalities"]["video"][row]
    return video[len(video) // 2].float().cpu()  # sync: a picture
