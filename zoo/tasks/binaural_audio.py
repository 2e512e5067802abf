"""What methods that give a one-channel sound its two ears share: evaluation of clips, stereo files and pictures."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from losses.slots import Slot
from zoo.core.distributed import rank
from zoo.core.errors import DataError
from zoo.core.extras import require
from zoo.metrics.binaural import STFTDistance, binaural_metrics
from zoo.module import Batch, ZooModule
from zoo.networks.binaural import both_ears
from zoo.tasks.binaural_files import Picture, file_name, finish, put_piece

SAMPLE_RATE = 16_000
PIECES = "pieces"  # folder in which a clip's pieces wait for each other
PICTURED = 4  # batches of which a test draws pictures


class BinauralAudioModule(ZooModule):
    """Base of methods whose batch is :class:`datamodules.batch.BinauralAudio`, at 16 kHz.

    A method implements :meth:`render` and `training_step`.

    Args:
        losses: changes to the slots.
    """

    task = "binaural_audio"
    slots: ClassVar[Mapping[str, Slot]] = {}

    def __init__(self, losses: dict[str, Any] | None = None) -> None:
        super().__init__(losses)
        self.val_distance, self.test_metrics = STFTDistance(), binaural_metrics("test")

    def frames(self, batch: Batch) -> Tensor:
        """What is seen, float [B, F, 3, H, W]."""
        return batch["modalities"]["video"]

    def render(self, audio: Tensor, frames: Tensor, batch: Batch) -> Tensor:
        """Sound, float [B, T], and what :meth:`frames` gives to left and right, float [B, 2, T]."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Tensor:
        """Left and right of whole clips, float [B, 2, T], as loud as the sound that came in.

        Raises:
            DataError: if the sound has another rate than 16 kHz.
        """
        check_rate(batch)
        audio = torch.where(batch["present"]["audio"][:, None], batch["modalities"]["audio"], 0.0)
        return self.render(audio, self.frames(batch), batch)

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
            louder = f"; to avoid clipping, {scaled} of them scaled down" if scaled else ""
            rank_zero_info(f"For two ears, with pictures: {_folder(self)}/*.wav, {len(rows)} in all{louder}.")


def check_rate(batch: Batch) -> None:
    """Refuse sound of another rate than 16 kHz, which a network would hear too high or too low.

    Raises:
        DataError: naming the rate.
    """
    if (rate := batch["sample_rate"]["audio"]) != SAMPLE_RATE:
        raise DataError(f"The batch's sound has {rate:,} Hz; {SAMPLE_RATE:,} Hz are needed. Resample it.")


def _folder(module: ZooModule) -> Path:
    folder = Path(module.trainer.log_dir or module.trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _middle_frame(batch: Batch, row: int) -> Tensor:
    """Float [3, H, W] in [0, 1]."""
    video = batch["modalities"]["video"][row]
    return video[len(video) // 2].float().cpu()  # sync: a picture
