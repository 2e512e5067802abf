"""Writes a small AV-MNIST: digits drawn with a shaky pen and spoken by three synthetic voices."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from datamodules.avmnist import IMAGES, RECORDINGS, SAMPLE_RATE, MNISTFile, Pair
from datamodules.idx import write_idx
from zoo.core.extras import require
from zoo.core.randomness import numpy_generator

# -- images -----------------------------------------------------------------------------------------------------------

# Strokes of each digit: points (x, y) that a smooth line runs through, in percent of its box, y downwards.
STROKES: tuple[tuple[tuple[tuple[int, int], ...], ...], ...] = (
    (((50, 4), (24, 25), (22, 70), (48, 96), (76, 72), (77, 27), (50, 4)),),
    (
        ((34, 25), (55, 5)),
        ((55, 5), (51, 95)),
    ),
    (
        ((20, 25), (42, 5), (74, 12), (76, 38), (50, 66), (20, 94)),
        ((20, 94), (84, 92)),
    ),
    (
        ((20, 14), (50, 4), (76, 20), (64, 42), (42, 48)),
        ((42, 48), (74, 56), (78, 82), (50, 97), (18, 88)),
    ),
    (
        ((50, 5), (16, 60)),
        ((16, 60), (88, 58)),
        ((70, 28), (64, 97)),
    ),
    (
        ((80, 6), (32, 8)),
        ((32, 8), (27, 46)),
        ((27, 46), (56, 39), (80, 60), (70, 88), (42, 97), (18, 87)),
    ),
    (((68, 5), (38, 27), (22, 62), (32, 92), (58, 95), (76, 75), (60, 54), (36, 60), (24, 74)),),
    (
        ((18, 9), (82, 7)),
        ((82, 7), (56, 50), (42, 96)),
    ),
    (((50, 48), (26, 27), (50, 5), (74, 27), (50, 48), (22, 74), (50, 96), (78, 74), (50, 48)),),
    (((74, 28), (50, 50), (27, 30), (50, 6), (75, 24), (72, 60), (58, 96)),),
)


def draw_digit(digit: int, rng: np.random.Generator) -> np.ndarray:
    """A digit as a person in a hurry writes it, partly smeared.

    Returns:
        uint8 [28, 28], ink bright.
    """
    angle, slant = np.radians(rng.normal(0, 7)), rng.normal(0, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = np.array([15.0, 20.0]) * rng.uniform(0.85, 1.1, 2)
    centre = 13.5 + rng.normal(0, 1.0, 2)
    starts, ends = [], []
    for stroke in STROKES[digit]:
        points = np.array(stroke) / 100 - 0.5 + rng.normal(0, 0.03, (len(stroke), 2))
        points[:, 0] -= slant * points[:, 1]
        line = _smooth(points * scale @ turn.T + centre)
        starts.append(line[:-1])
        ends.append(line[1:])
    ink = _distance(np.concatenate(starts), np.concatenate(ends))
    image = np.clip(rng.uniform(0.6, 1.6) + 0.5 - ink, 0, 1)
    if rng.random() < 0.25:
        top, left = rng.integers(4, 18, 2)
        image[top : top + 7, left : left + 7] = 0
    image += rng.normal(0, rng.uniform(0.02, 0.15), image.shape)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _smooth(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """A Catmull-Rom line through points [N, 2]: [(N - 1) * steps + 1, 2]."""
    before, after = np.vstack([points[:1], points[:-1]])[:-1], np.vstack([points[2:], points[-1:]])
    a, b = points[:-1], points[1:]
    t = (np.arange(steps) / steps)[:, None, None]
    line = 0.5 * (
        2 * a + (b - before) * t + (2 * before - 5 * a + 4 * b - after) * t**2 + (3 * (a - b) + after - before) * t**3
    )
    return np.vstack([line.transpose(1, 0, 2).reshape(-1, 2), points[-1:]])


def _distance(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest of the segments [S, 2], in pixels: [28, 28]."""
    x, y = np.meshgrid(np.arange(28), np.arange(28))
    pixels = np.stack([x, y], axis=-1)[:, :, None]
    along = ends - starts
    share = ((pixels - starts) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9)
    nearest = starts + np.clip(share, 0, 1)[..., None] * along
    return np.sqrt(((pixels - nearest) ** 2).sum(-1)).min(-1)


# -- sounds -----------------------------------------------------------------------------------------------------------

# Three resonances in Hz, loudness of voice and of breath, relative duration.
PHONES: dict[str, tuple[float, ...]] = {
    "ah": (640, 1200, 2400, 1.0, 0.0, 1.0),
    "aa": (730, 1100, 2450, 1.0, 0.0, 0.9),
    "ao": (570, 850, 2400, 1.0, 0.0, 1.1),
    "eh": (550, 1800, 2500, 1.0, 0.0, 1.0),
    "ih": (390, 2000, 2550, 1.0, 0.0, 0.8),
    "iy": (290, 2300, 3000, 1.0, 0.0, 1.3),
    "ow": (450, 880, 2300, 1.0, 0.0, 1.1),
    "uw": (320, 900, 2200, 1.0, 0.0, 1.3),
    "r": (420, 1250, 1650, 0.8, 0.0, 0.7),
    "w": (300, 700, 2200, 0.6, 0.0, 0.6),
    "n": (280, 1300, 2500, 0.4, 0.0, 0.8),
    "v": (260, 1100, 2300, 0.4, 0.1, 0.5),
    "z": (300, 2600, 3500, 0.2, 0.5, 0.7),
    "s": (2900, 3400, 3800, 0.0, 0.7, 0.9),
    "f": (1400, 2300, 3300, 0.0, 0.3, 0.8),
    "th": (1500, 2500, 3500, 0.0, 0.2, 0.7),
    "k": (1500, 2000, 2600, 0.0, 0.5, 0.3),
    "t": (2400, 3200, 3700, 0.0, 0.5, 0.3),
    "-": (500, 1500, 2500, 0.0, 0.0, 0.4),
}
WORDS = (
    "z ih r ow",
    "w ah n",
    "t uw",
    "th r iy",
    "f ao r",
    "f aa ih v",
    "s ih - k s",
    "s eh v ah n",
    "eh ih - t",
    "n aa ih n",
)
# Pitch in Hz and length of the throat that scales the resonances.
VOICES = {"jackson": (105.0, 1.0), "nicolas": (150.0, 1.1), "theo": (125.0, 0.92)}

WINDOW, HOP = 256, 64


def speak_digit(digit: int, speaker: str, rng: np.random.Generator) -> np.ndarray:
    """A digit spoken by a source of pulses and breath behind three moving resonances, in some noise.

    Returns:
        float [T], in [-1, 1], 0.35 to 0.6 s at 8 kHz.
    """
    pitch, throat = VOICES[speaker]
    phones = np.array([PHONES[phone] for phone in WORDS[digit].split()])
    length = int(rng.uniform(0.35, 0.6) * SAMPLE_RATE)
    frames = length // HOP + 1
    ends = np.cumsum(phones[:, 5] * rng.lognormal(0, 0.15, len(phones)))
    tracks = phones[np.searchsorted(ends / ends[-1], np.linspace(0, 1, frames), side="left").clip(0, len(phones) - 1)]
    padded = np.pad(tracks[:, :5], ((3, 3), (0, 0)), mode="edge")
    tracks = np.lib.stride_tricks.sliding_window_view(padded, 7, axis=0).mean(-1)  # the mouth takes 50 ms to move
    resonances = tracks[:, :3] * throat * rng.normal(1, 0.04, 3)

    time = np.arange(length) / SAMPLE_RATE
    melody = pitch * rng.normal(1, 0.08) * (1 + 0.15 * np.cos(np.pi * time / time[-1]) + 0.02 * rng.normal())
    pulses = np.diff(np.floor(np.cumsum(melody) / SAMPLE_RATE), prepend=0.0)
    voice, breath = (np.interp(np.arange(length) / HOP, np.arange(frames), tracks[:, i]) for i in (3, 4))
    source = 3 * voice * pulses + breath * rng.normal(0, 0.3, length)

    sound = _through(source, resonances)
    sound *= np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
    sound += np.abs(sound).max() * rng.uniform(0.005, 0.05) * rng.normal(0, 1, length)
    return rng.uniform(0.3, 0.9) * sound / np.abs(sound).max()


def _through(source: np.ndarray, resonances: np.ndarray) -> np.ndarray:
    """Filter a sound [T] by resonances [frames, 3] in Hz that change every `HOP` samples (overlap and add)."""
    away = np.fft.rfftfreq(2 * WINDOW, 1 / SAMPLE_RATE) - resonances[..., None]
    width = 50 + 0.06 * resonances[..., None]
    gain = (np.array([1.0, 0.7, 0.4])[:, None] / (1 + (away / width) ** 2)).sum(1)
    padded = np.pad(source, (WINDOW // 2, 2 * WINDOW))
    starts = np.arange(len(resonances)) * HOP
    pieces = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    filtered = np.fft.irfft(np.fft.rfft(pieces, 2 * WINDOW) * gain)
    sound = np.zeros(len(padded) + 2 * WINDOW)
    np.add.at(sound, starts[:, None] + np.arange(2 * WINDOW), filtered)
    return sound[WINDOW // 2 :][: len(source)]


# -- files ------------------------------------------------------------------------------------------------------------


def write_demo(root: Path, pairs: Sequence[Pair]) -> None:
    """Write these pairs in the layout of the downloads: gzipped idx files and 16-bit WAV files.

    Every image and sound is drawn from a seed of its own, in which the part of the data is named: equal pairs give
    equal files, and what is tested on was never trained on.
    """
    soundfile = require("soundfile", "audio")
    (root / IMAGES).mkdir(parents=True)
    (root / RECORDINGS).mkdir(parents=True)
    for file in get_args(MNISTFile):
        there = [pair for pair in pairs if pair.file == file]
        images = [
            draw_digit(pair.digit, numpy_generator("avmnist demo", "image", pair.part, pair.id)) for pair in there
        ]
        write_idx(root / IMAGES / f"{file}-images-idx3-ubyte.gz", np.stack(images))
        labels = np.array([pair.digit for pair in there], np.uint8)
        write_idx(root / IMAGES / f"{file}-labels-idx1-ubyte.gz", labels)
    for pair in pairs:
        sound = speak_digit(pair.digit, pair.speaker, numpy_generator("avmnist demo", "sound", pair.part, pair.id))
        soundfile.write(root / RECORDINGS / f"{pair.id}.wav", sound, SAMPLE_RATE, "PCM_16")
