"""Samples of clips with two-ear sound: one window for training, whole clips for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.binaural import frames, windows
from datamodules.binaural.frames import Draws, Frames, Look, Size
from datamodules.binaural.waveforms import StereoFile
from datamodules.binaural.windows import FRAME_RATE, SAMPLE_RATE
from datamodules.loading import Sample
from zoo.core.errors import DataError

SPAN = 9.9  # seconds of a clip that training windows are drawn from
SHORTEST = 1025  # samples of a clip that is evaluated: the longest transform of the metrics mirrors half its length

Protocol = Literal["ccstereo", "mono2binaural"]


@dataclass(frozen=True)
class Clip:
    """Sound and pictures that belong together. `test_frames`: what evaluation sees, if not `frames`."""

    id: str
    sound: StereoFile
    frames: Frames
    test_frames: Frames | None = None


@dataclass(frozen=True)
class Cutting:
    """How windows and frames are cut.

    Args:
        protocol: of evaluation. "ccstereo": overlapping windows to the clip's end and beyond, one of five crops of
            each frame. "mono2binaural": windows of which the last ends with the clip, whole frames.
        frame_size: height and width of what the network sees.
        window: samples at 16 kHz.
        hop: samples from window to window.
        delay: seconds from a window's centre to its frame.
    """

    protocol: Protocol
    frame_size: Size
    window: int
    hop: int
    delay: float

    def windows(self, samples: int) -> tuple[np.ndarray, np.ndarray]:
        """Starts, and frame numbers as published, of the windows over a clip: int64 [N] each."""
        if self.protocol == "mono2binaural":
            starts = windows.flush_starts(samples, self.window, self.hop)
            seconds = round(samples / SAMPLE_RATE, 1)  # 10 for all of FAIR-Play
            return starts, windows.frames_of_a_given_length(starts, samples, seconds, self.delay, self.window)
        starts = windows.regular_starts(samples, self.window, self.hop)
        return starts, windows.frames_by_whole_seconds(starts, samples, self.delay, self.window)

    def look(self, source: Frames, numbers: Sequence[int]) -> Tensor:
        """Frames as evaluation sees them: float32 [F, 3, H, W], in [0, 1]."""
        pictures = zip(source.read(numbers), numbers, strict=True)
        if self.protocol == "mono2binaural":
            return torch.stack([frames.squeeze(picture, self.frame_size) for picture, _ in pictures])
        size = self.frame_size
        return torch.stack(
            [frames.crop(picture, frames.one_of_five(number, size), size) for picture, number in pictures]
        )


def make_sample(
    name: str, audio: np.ndarray, starts: np.ndarray, numbers: Sequence[int], video: Tensor, of_window: np.ndarray
) -> dict[str, Any]:
    """What every sample has.

    Args:
        audio: left + right, [T].
        starts: of the windows, [N].
        numbers, video: of the distinct frames, [F] and [F, 3, H, W].
        of_window: which of the frames belongs to each window, [N].
    """
    return {
        "modalities": {"video": video, "audio": torch.from_numpy(audio)},
        "sample_rate": {"audio": SAMPLE_RATE},
        "present": {"video": torch.tensor(True), "audio": torch.tensor(True)},
        "frame_number": torch.tensor(numbers, dtype=torch.int64),
        "window_start": torch.as_tensor(starts, dtype=torch.int64),
        "window_frame": torch.as_tensor(of_window, dtype=torch.int64),
        "id": name,
    }


class TrainingSource:
    """One window of each clip, with the frame at its centre and the one before.

    Augmented: start, and per frame crop, brightness and saturation are drawn, in this order, the window's own frame
    first; else it is the middle of the clip and of the frames.
    """

    def __init__(self, clips: Sequence[Clip], cutting: Cutting) -> None:
        self.clips, self.cutting = clips, cutting

    def __len__(self) -> int:
        return len(self.clips)

    def load(self, index: int, rng: Draws | None) -> Sample:
        """See :class:`~datamodules.loading.Source`."""
        clip, cutting = self.clips[index], self.cutting
        length, seconds = clip.sound.length(), cutting.window / SAMPLE_RATE
        if length < cutting.window:
            raise DataError(
                f"{clip.sound.path} lasts {length / SAMPLE_RATE:.2f} s, a training window {seconds:.2f} s. Take it out "
                "of the list, or pass over it with --data.on_bad_file=skip."
            )
        latest = min(SPAN, length / SAMPLE_RATE) - seconds
        second = max(0.0, latest / 2 if rng is None else float(rng.uniform(0, latest)))
        number = max(1, round((second + seconds / 2 + cutting.delay) * FRAME_RATE))
        own, before = (self._look(rng) for _ in range(2))
        pictures = clip.frames.read([number - 1, number])
        video = torch.stack(
            [
                frames.crop(picture, look, cutting.frame_size)
                for picture, look in zip(pictures, (before, own), strict=True)
            ]
        )
        start = min(int(second * SAMPLE_RATE), length - cutting.window)
        stereo = clip.sound.read(start, start + cutting.window)
        sample = make_sample(clip.id, stereo.sum(0), np.zeros(1), [number - 1, number], video, of_window=np.ones(1))
        return sample | {"stereo": torch.from_numpy(stereo)}

    def _look(self, rng: Draws | None) -> Look:
        size = self.cutting.frame_size
        return frames.centre(size) if rng is None else frames.draw_look(rng, size)


class EvaluationSource:
    """Whole clips with all windows, each distinct frame once."""

    def __init__(self, clips: Sequence[Clip], cutting: Cutting) -> None:
        self.clips, self.cutting = clips, cutting

    def __len__(self) -> int:
        return len(self.clips)

    def load(self, index: int, rng: Draws | None) -> Sample:
        """See :class:`~datamodules.loading.Source`. There is no augmentation."""
        clip = self.clips[index]
        stereo = np.ascontiguousarray(clip.sound.read())
        if stereo.shape[1] < SHORTEST:
            raise DataError(f"{clip.sound.path} has {stereo.shape[1]:,} samples at 16 kHz; {SHORTEST:,} are the least.")
        starts, of_windows = self.cutting.windows(stereo.shape[1])
        numbers, of_window = np.unique(of_windows, return_inverse=True)
        video = self.cutting.look(clip.test_frames or clip.frames, numbers.tolist())
        sample = make_sample(clip.id, stereo.sum(0), starts, numbers.tolist(), video, of_window)
        return sample | {"stereo": torch.from_numpy(stereo)}
