"""Samples for prediction: sound of any rate, channels and length, with a video, extracted frames or one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.binaural.frames import CROPS, Frames, StillPicture
from datamodules.binaural.source import Cutting, make_sample
from datamodules.binaural.waveforms import opened, read_part, resample
from datamodules.binaural.windows import SAMPLE_RATE, frames_by_time, regular_starts
from datamodules.loading import Sample
from datamodules.video import read_sound_track
from zoo.core.errors import DataError

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")  # by libsndfile; other files by PyAV

PIECE = 10  # seconds that a piece gives to the result
CONTEXT = 1  # seconds around it: no window is longer


@lru_cache(maxsize=1)  # all pieces of a clip come one after another
def _track(path: Path, changed: int) -> tuple[np.ndarray, int]:
    return read_sound_track(path)


@dataclass(frozen=True)
class Recording:
    """A sound, or the sound track of a video, and what was seen with it."""

    id: str
    sound: Path
    frames: Frames

    def size(self) -> tuple[int, int]:
        """Samples and rate. Raises DataError if the sound cannot be read."""
        if self.sound.suffix.lower() in SOUND_SUFFIXES:
            with opened(self.sound) as sound:
                return sound.frames, sound.samplerate
        track, rate = self._decoded()
        return track.shape[1], rate

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples from `start` to `stop` as the sum of what both ears hear, float32 [T]; all channels count alike."""
        if self.sound.suffix.lower() in SOUND_SUFFIXES:
            with opened(self.sound) as sound:
                channels = read_part(self.sound, sound, start, stop)
        else:
            channels = self._decoded()[0][:, start:stop]
        return 2 * channels.mean(0)

    def _decoded(self) -> tuple[np.ndarray, int]:
        try:
            changed = self.sound.stat().st_mtime_ns
        except OSError:
            raise DataError(f"{self.sound} is missing.") from None
        return _track(self.sound, changed)


class PredictionSource:
    """Pieces of recordings, about 10 s each, a long recording's one after another.

    A piece has a second of sound more on either side, so that all windows that touch it are whole; windows and frames
    are those of the whole recording, and so is the result.
    """

    def __init__(self, recordings: Sequence[Recording], cutting: Cutting) -> None:
        self.cutting = cutting
        self.pieces: list[tuple[Recording, int, int, int, int]] = []
        for recording in recordings:
            samples, rate = recording.size()
            count = max(1, math.ceil(samples / rate / PIECE - 0.2))  # no piece of less than 2 s beside another
            self.pieces += [(recording, number, count, samples, rate) for number in range(count)]

    def __len__(self) -> int:
        return len(self.pieces)

    def load(self, index: int, rng: Any) -> Sample:
        """See :class:`~datamodules.loading.Source`. There is no augmentation."""
        recording, number, count, samples, rate = self.pieces[index]
        # Whole seconds are whole samples at both rates.
        first = max(0, number * PIECE - CONTEXT)
        last = number + 1 == count
        begin, end = first * rate, samples if last else min(samples, ((number + 1) * PIECE + CONTEXT) * rate)
        source = recording.read(begin, end)
        keep = number * PIECE * rate - begin, (samples if last else (number + 1) * PIECE * rate) - begin
        audio = resample(source, rate)

        total = math.ceil(samples * SAMPLE_RATE / rate)
        starts = regular_starts(total, self.cutting.window, self.cutting.hop)
        reach = starts + self.cutting.window > number * PIECE * SAMPLE_RATE
        starts = starts[reach & (last | (starts < (number + 1) * PIECE * SAMPLE_RATE))]
        of_windows = np.maximum(1, frames_by_time(starts, self.cutting.delay, self.cutting.window))
        if isinstance(recording.frames, StillPicture):
            of_windows %= CROPS  # the others are the same
        numbers, of_window = np.unique(of_windows, return_inverse=True)
        video = self.cutting.look(recording.frames, numbers.tolist())
        sample = make_sample(recording.id, audio, starts - first * SAMPLE_RATE, numbers.tolist(), video, of_window)
        return sample | {
            "piece": torch.tensor([number, count]),
            "source": torch.from_numpy(source),
            "source_rate": rate,
            "keep": torch.tensor(keep),
        }
