"""Video files by PyAV: frames at a given rate, numbered as ffmpeg's `fps` filter numbers them, and the sound track."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.core.errors import DataError
from zoo.core.extras import require

# Playlists and scripts, which may name other files, are none of these.
FORMATS = "mov,matroska,avi,mpegts,mpeg,ogg,flv,asf,wav,mp3,aac,flac"
LARGEST = 8192 * 4320  # pixels
BLOCK = 4096  # samples: no sound codec has longer ones


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A container of PyAV. Whatever is wrong with the file becomes one DataError that names it."""
    av = require("av", "video")
    try:
        with open(path, "rb") as file, av.open(file, options={"format_whitelist": FORMATS}) as container:
            yield container
    except (OSError, av.error.FFmpegError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {str(reason).rstrip('.')}.") from error


def _picture_stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise DataError(f"{path} holds no pictures.")
    stream = container.streams.video[0]
    if stream.width * stream.height > LARGEST:
        raise DataError(f"{path} has frames of {stream.width}×{stream.height} pixels; {LARGEST:,} pixels can be read.")
    return stream


@dataclass(frozen=True)
class _Slots:
    """At which place of a sequence of constant rate a moment of the file falls."""

    rate: Fraction
    origin: Fraction  # of the file's clock, in seconds
    first: int  # slot of the first frame

    @classmethod
    def of(cls, container: Any, stream: Any, rate: float) -> _Slots:
        slots = cls(Fraction(rate), Fraction(container.start_time or 0, 1_000_000), 0)
        return cls(slots.rate, slots.origin, slots.at((stream.start_time or 0) * stream.time_base))

    def at(self, seconds: Fraction) -> int:
        return math.floor((seconds - self.origin) * self.rate + Fraction(1, 2)) - self.first

    def seconds(self, slot: int) -> Fraction:
        return (slot + self.first) / self.rate + self.origin


def read_frames(path: Path, numbers: Sequence[int], rate: float = 10, *, hold: bool = False) -> list[Image.Image]:
    """Frames of a video as if it had been extracted at a constant rate (`ffmpeg -vf fps=rate`), first frame 0.

    Args:
        path: the file.
        numbers: which frames, in any order, also twice.
        rate: frames per second.
        hold: whether the last frame stands for all after it.

    Returns:
        RGB, turned upright, of the video's own size.

    Raises:
        DataError: naming the file: missing, broken, without pictures, or too short for a number.
    """
    wanted = sorted(set(numbers))
    with opened(path) as container:
        stream = _picture_stream(container, path)
        slots = _Slots.of(container, stream, rate)
        found, count = {}, 0
        if wanted[0] > rate:  # a second of decoding and more can be saved
            container.seek(math.floor(slots.seconds(wanted[0]) / stream.time_base), stream=stream)
            found, count = _pick(_decoded(container, stream, slots), wanted, hold)
            container.seek(container.start_time or 0)
        if len(found) < len(wanted):  # not sought, or too far, as it may happen in files without an index
            found, count = _pick(_decoded(container, stream, slots), wanted, hold)
    if missing := [number for number in wanted if number not in found]:
        there = f"has {count} frames at {rate:g} per second" if count else "holds no frame that can be read"
        raise DataError(f"{path} {there}; number {missing[0]} (the first is 0) is asked for.")
    return [found[number] for number in numbers]


def _decoded(container: Any, stream: Any, slots: _Slots) -> Iterator[tuple[int, int, Any]]:
    """Slot of each frame, slot of its end, and the frame."""
    usual = 1 / stream.average_rate if stream.average_rate else Fraction(0)
    for frame in container.decode(stream):
        if frame.pts is not None:
            start = frame.pts * frame.time_base
            duration = frame.duration * frame.time_base if frame.duration else usual
            yield slots.at(start), slots.at(start + duration), frame


def _pick(
    frames: Iterator[tuple[int, int, Any]], wanted: Sequence[int], hold: bool
) -> tuple[dict[int, Image.Image], int]:
    """For each slot the last frame that does not begin after it; and, if the end was reached, how many slots there are.

    What lies before the first frame is not found.
    """
    waiting, found = list(wanted), {}
    last, end = None, 0
    for slot, ends, frame in frames:
        due = [number for number in waiting if number < slot]
        if due and last is not None:
            found |= dict.fromkeys(due, _upright(last))
        waiting, last, end = waiting[len(due) :], frame, ends
        if not waiting:
            return found, end
    due = [number for number in waiting if number < end or hold]
    if due and last is not None:
        found |= dict.fromkeys(due, _upright(last))
    return found, end


def _upright(frame: Any) -> Image.Image:
    image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def read_sound_track(path: Path) -> tuple[np.ndarray, int]:
    """The sound of a video or sound file.

    Returns:
        float32 [C, T], and the sample rate in Hz.

    Raises:
        DataError: naming the file: missing, broken, without sound.
    """
    av = require("av", "video")
    with opened(path) as container:
        if not container.streams.audio:
            raise DataError(f"{path} has no sound track.")
        stream, resampler = container.streams.audio[0], av.AudioResampler(format="fltp")
        seconds = stream.duration * stream.time_base if stream.duration else Fraction(0)
        pieces, rate = [], 0
        for frame in container.decode(audio=0):
            for even in resampler.resample(frame):
                pieces.append(even.to_ndarray())
                rate = even.sample_rate
    if not pieces:
        raise DataError(f"{path} has a sound track without a sound.")
    waveform = np.concatenate(pieces, axis=1)
    stated = round(seconds * rate)
    # Codecs fill their last block with silence.
    return waveform[:, :stated] if 0 < waveform.shape[1] - stated < BLOCK else waveform, rate
