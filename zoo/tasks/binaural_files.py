"""Two-ear sound on disk: clips put together from their pieces, as WAV files, and pictures of them."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.extras import require
from zoo.core.randomness import derive

LOUDEST = 32_767 / 32_768  # of 16-bit samples
COLUMNS = 800  # of a picture, at most twice as many
HIGHEST = 8_000  # Hz: above, both ears hear the same
FLOOR = 80  # decibels below the loudest that a picture shows
QUIET = 50  # decibels below the loudest at which a level difference means nothing


def file_name(name: str) -> str:
    """A clip's id as the name of a file: no folders, no signs that shells or file systems take for something else."""
    plain = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("._")[:100]
    return plain if plain == name else f"{plain or 'clip'}-{derive(name):x}"


# -- pieces and files -------------------------------------------------------------------------------------------------


def put_piece(folder: Path, name: str, number: int, stereo: Tensor, rate: int, frame: Tensor) -> None:
    """Lay a piece of a clip down until all are there.

    Args:
        folder: of all clips.
        name: the clip's id.
        number: of the piece, from 0.
        stereo: left and right, float [2, T].
        rate: in Hz.
        frame: what was seen, RGB in [0, 1], float [3, H, W].
    """
    clip = folder / file_name(name)
    clip.mkdir(parents=True, exist_ok=True)
    with (clip / f"{number:06d}.npz").open("wb") as file:
        np.savez(file, id=name, stereo=stereo.cpu().numpy(), rate=rate, frame=frame.cpu().numpy())  # sync: prediction


def finish(pieces: Path, out: Path) -> list[dict[str, str | float]]:
    """Make a WAV file and a picture of each clip whose pieces were laid down, and a list of them; remove the pieces.

    A clip that is too loud for a file is scaled down, both ears alike, so that nothing is clipped.

    Args:
        pieces: the folder of :func:`put_piece`.
        out: gets `NAME.wav` (16 bits), `NAME.png` and `predictions.csv`.

    Returns:
        A row per clip: id, file, seconds, sample_rate, scaled (1 if not), level_difference: of left over right in dB.
    """
    rows = [_finish_clip(clip, out) for clip in sorted(pieces.iterdir())] if pieces.is_dir() else []
    if rows:
        with (out / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    shutil.rmtree(pieces, ignore_errors=True)
    return rows


def _finish_clip(clip: Path, out: Path) -> dict[str, str | float]:
    soundfile = require("soundfile", "audio")
    paths = sorted(clip.iterdir())
    scale = min(1.0, LOUDEST / max(max(float(np.abs(piece["stereo"]).max(initial=0)) for piece in _each(paths)), 1e-9))
    with np.load(paths[len(paths) // 2], allow_pickle=False) as middle:
        name, rate, frame = str(middle["id"]), int(middle["rate"]), middle["frame"]
    picture = Picture(rate)
    target = out / f"{clip.name}.wav"
    with soundfile.SoundFile(target, "w", rate, 2, "PCM_16") as file:
        for piece in _each(paths):
            stereo = scale * piece["stereo"]
            file.write(stereo.T)
            picture.add(torch.from_numpy(stereo))
        seconds = file.frames / rate
    picture.draw(target.with_suffix(".png"), name, torch.from_numpy(frame))
    return {
        "id": name,
        "file": target.name,
        "seconds": round(seconds, 6),
        "sample_rate": rate,
        "scaled": round(scale, 4),
        "level_difference": round(picture.level_difference, 3),
    }


def _each(paths: list[Path]) -> Iterator[dict[str, np.ndarray]]:
    for path in paths:
        with np.load(path, allow_pickle=False) as piece:
            yield dict(piece)


# -- pictures ---------------------------------------------------------------------------------------------------------


class Picture:
    """Spectrograms of both ears and their level difference over time, beside a frame; a long clip piece by piece.

    Args:
        rate: in Hz.
    """

    def __init__(self, rate: int) -> None:
        self.rate, self.hop = rate, max(1, rate // 100)
        self.pieces: list[Tensor] = []

    def add(self, stereo: Tensor) -> None:
        """The clip's next part: left and right, float [2, T]."""
        n_fft = 4 * self.hop
        power = torch.stft(
            stereo.float().cpu(),  # sync: a picture
            n_fft, self.hop, window=torch.hann_window(n_fft), pad_mode="constant", return_complex=True,
        )[..., : stereo.shape[-1] // self.hop or 1].abs().square()  # fmt: skip
        self.pieces.append(power[:, : 1 + HIGHEST * n_fft // self.rate])

    @property
    def _power(self) -> Tensor:
        """[2, F, N] with as many columns as a picture has place for."""
        power = torch.cat(self.pieces, dim=-1)
        merged = power.shape[-1] // COLUMNS
        return F.avg_pool1d(power, merged) if merged > 1 else power

    @property
    def level_difference(self) -> float:
        """Of left over right over the whole clip, in decibels; 0 in silence."""
        left, right = (torch.cat(self.pieces, dim=-1).sum((1, 2)) + 1e-12).tolist()
        return float(10 * np.log10(left / right))

    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Times in seconds, and the level difference of left over right in decibels around each; NaN where it is quiet.

        Means over 0.1 s, or over what a column shows if that is more.
        """
        power = self._power.sum(1)
        seconds = sum(piece.shape[-1] for piece in self.pieces) * self.hop / self.rate
        around = max(1, round(0.1 * power.shape[-1] / seconds)) | 1
        power = F.avg_pool1d(power, around, 1, around // 2, count_include_pad=False)
        level = (10 * (power[0] + 1e-12).log10() - 10 * (power[1] + 1e-12).log10()).numpy()
        loud = power.sum(0) > max(float(power.sum(0).max()) * 10 ** (-QUIET / 10), 1e-9)
        times = (np.arange(len(level)) + 0.5) * seconds / len(level)
        return times, np.where(loud.numpy(), level, np.nan)

    def draw(self, path: Path, title: str, frame: Tensor, truth: Picture | None = None) -> None:
        """Write a PNG.

        Args:
            path: the file.
            title: the clip's name.
            frame: RGB in [0, 1], float [3, H, W].
            truth: what the ears really heard, whose level difference is drawn too.
        """
        from matplotlib.figure import Figure  # not at import time: training needs no plots

        figure = Figure(figsize=(11, 5), layout="constrained")
        grid = figure.add_gridspec(3, 2, width_ratios=(1, 2))
        seen = figure.add_subplot(grid[:, 0])
        seen.imshow(frame.clamp(0, 1).permute(1, 2, 0).numpy())
        seen.set(xticks=[], yticks=[], title=title[-40:])

        times, level = self.levels()
        edge = times[-1] + times[0]
        decibels = 10 * (self._power + 1e-12).log10().numpy()
        loudest = max(decibels.max(), -60)  # silence is dark
        for row, ear in enumerate(("left", "right")):
            axes = figure.add_subplot(grid[row, 1])
            axes.imshow(
                decibels[row], origin="lower", aspect="auto", extent=(0, edge, 0, min(HIGHEST, self.rate / 2) / 1000),
                vmin=loudest - FLOOR, vmax=loudest, cmap="magma",
            )  # fmt: skip
            axes.set(ylabel=f"{ear} ear, kHz", xticks=[])
        axes = figure.add_subplot(grid[2, 1])
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.fill_between(times, level, 0, where=level > 0, color="tab:blue", alpha=0.35, linewidth=0)
        axes.fill_between(times, level, 0, where=level < 0, color="tab:orange", alpha=0.35, linewidth=0)
        axes.plot(times, level, color="black", linewidth=1, label="predicted")
        shown = [level]
        if truth is not None:
            shown.append(truth.levels()[1])
            axes.plot(times[: len(shown[1])], shown[1][: len(times)], "--", color="tab:green", label="recorded")
            axes.legend(loc="upper right", fontsize=8)
        reach = max(3.0, 1.1 * np.nanmax(np.abs(np.concatenate([*shown, [0.0]]))))
        axes.set(xlim=(0, edge), ylim=(-reach, reach), xlabel="seconds", ylabel="left - right, dB")
        figure.savefig(path, dpi=100)
