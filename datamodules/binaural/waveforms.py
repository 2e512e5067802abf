"""Sound files of clips: two channels at 16 kHz for training, any channels and rate for prediction."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.binaural.windows import SAMPLE_RATE
from datamodules.wav import refuse_cut
from zoo.core.errors import DataError
from zoo.core.extras import require

SAMPLE_RATES = range(1000, 384_001)  # in Hz; beyond, the header is wrong or meant to exhaust the memory


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A sound file of a kind that libsndfile reads. Whatever is wrong with it becomes one DataError that names it."""
    soundfile = require("soundfile", "audio")
    try:
        if path.suffix.lower() == ".wav":
            refuse_cut(path)
        with soundfile.SoundFile(path) as sound:
            if sound.samplerate not in SAMPLE_RATES:
                raise DataError(f"{path} has {sound.samplerate:,} Hz; from 1,000 to 384,000 can be read.")
            if not sound.frames:
                raise DataError(f"{path} holds no sound.")
            yield sound
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_part(path: Path, sound: Any, start: int, stop: int) -> np.ndarray:
    """Samples from `start` to `stop` of an opened file: float32 [C, stop - start]."""
    sound.seek(start)
    channels = sound.read(stop - start, dtype="float32", always_2d=True).T
    if channels.shape[1] < stop - start:
        raise DataError(f"{path} is cut: it ends at sample {start + channels.shape[1]:,} of {sound.frames:,}.")
    if not np.isfinite(channels).all():
        raise DataError(f"{path} has samples that are no numbers.")
    return channels


def resample(waveform: np.ndarray, rate: int, wanted: int = SAMPLE_RATE) -> np.ndarray:
    """Float32 [..., T] at another rate, as `librosa.load(sr=wanted)` gives it: soxr's HQ, ceil(T * wanted / rate)."""
    if rate == wanted:
        return waveform
    length = math.ceil(waveform.shape[-1] * wanted / rate)
    along = np.moveaxis(np.atleast_2d(waveform), -1, 0)
    found = np.moveaxis(require("soxr", "audio").resample(along, rate, wanted, quality="HQ"), 0, -1)[..., :length]
    found = np.pad(found, ((0, 0), (0, length - found.shape[-1])))
    return found.reshape(*waveform.shape[:-1], length)


@dataclass(frozen=True)
class StereoFile:
    """A clip's two-channel sound, at 16 kHz whatever rate it has.

    Files of another rate are resampled whole, once, into `cache`; from then on only the samples that are asked for
    are read.

    Args:
        path: the data set's file.
        cache: folder for resampled files.
    """

    path: Path
    cache: Path

    def length(self) -> int:
        """Samples at 16 kHz, without reading or resampling them. Raises DataError if the file has not two channels."""
        with opened(self.path) as sound:
            self._refuse_channels(sound)
            return math.ceil(sound.frames * SAMPLE_RATE / sound.samplerate)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples from `start` to `stop`, to the end without: float32 [2, T].

        Raises:
            DataError: naming the file: missing, cut, broken, not of two channels; or the cache, if it cannot be
                written.
        """
        path = self._at_16_khz()
        with opened(path) as sound:
            self._refuse_channels(sound)
            return read_part(path, sound, start, sound.frames if stop is None else stop)

    def _refuse_channels(self, sound: Any) -> None:
        if sound.channels != 2:
            raise DataError(
                f"{self.path} has {sound.channels} channel{'s' * (sound.channels > 1)}; the sound of both ears, two, "
                "is needed here. Prediction takes any."
            )

    def _at_16_khz(self) -> Path:
        with opened(self.path) as sound:
            if sound.samplerate == SAMPLE_RATE:
                return self.path
            self._refuse_channels(sound)
            cached = self.cache / f"{self.path.stem}.wav"
            try:
                if cached.stat().st_mtime >= self.path.stat().st_mtime:
                    return cached
            except OSError:
                pass
            waveform = resample(read_part(self.path, sound, 0, sound.frames), sound.samplerate)
        self._write(cached, waveform)
        return cached

    def _write(self, cached: Path, waveform: np.ndarray) -> None:
        """Whole or not at all: several processes may do so at once."""
        soundfile = require("soundfile", "audio")
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            handle, unfinished = tempfile.mkstemp(dir=cached.parent, prefix=f".{cached.stem}-", suffix=".wav")
            os.close(handle)
            try:
                soundfile.write(unfinished, waveform.T, SAMPLE_RATE, "FLOAT", format="WAV")
                os.replace(unfinished, cached)
            finally:
                Path(unfinished).unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{cached.parent} cannot be written ({error}). Name another folder with --data.cache."
            ) from error
