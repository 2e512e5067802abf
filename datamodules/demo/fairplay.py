"""Writes small copies of FAIR-Play and MUSIC-Stereo: clips of 2 s at 16 kHz with frames of 64×128 pixels."""

from __future__ import annotations

from pathlib import Path

from datamodules.binaural.fairplay import FRAMES, PARTS, SOUNDS
from datamodules.demo.two_ears import SAMPLE_RATE, render_scene
from zoo.core.errors import RecipeError
from zoo.core.extras import require
from zoo.core.randomness import numpy_generator

SMALLEST = 10


def parts_of(samples: int) -> dict[str, list[str]]:
    """Clip names per part: about 70 % for training, 10 % for validation, 20 % for testing.

    Raises:
        RecipeError: if that is too few.
    """
    if samples < SMALLEST:
        raise RecipeError(f"A demo of clips with two-ear sound has at least {SMALLEST} samples, not {samples}.")
    names = [f"{number:06d}" for number in range(1, samples + 1)]
    val, test = samples // 10, samples // 5
    train = samples - val - test
    return dict(zip(PARTS, (names[:train], names[train : train + val], names[train + val :]), strict=True))


def _write_clips(root: Path, parts: dict[str, list[str]]) -> None:
    """Every clip is drawn from a seed of its own, in which its part of the data is named."""
    soundfile = require("soundfile", "audio")
    (root / SOUNDS).mkdir(parents=True)
    for part, names in parts.items():
        for name in names:
            stereo, pictures = render_scene(numpy_generator("two-ear demo", part, name))
            soundfile.write(root / SOUNDS / f"{name}.wav", stereo.T, SAMPLE_RATE, "PCM_16")
            folder = root / FRAMES / f"{name}.mp4"
            folder.mkdir(parents=True)
            for number, picture in enumerate(pictures, start=1):
                picture.save(folder / f"{number:06d}.png", compress_level=1)


def write_fairplay(root: Path, samples: int) -> None:
    """Write the clips and, of either kind of splits, the first."""
    h5py = require("h5py", "video")
    parts = parts_of(samples)
    _write_clips(root, parts)
    clean, original = root / "five_splits" / "split1", root / "splits" / "split1"
    clean.mkdir(parents=True)
    original.mkdir(parents=True)
    for part, names in parts.items():
        (clean / f"{part}.txt").write_text("".join(f"{name}.mp3\n" for name in names), encoding="utf-8")
        with h5py.File(original / f"{part}.h5", "w") as file:
            paths = [f"/somewhere/FAIR-Play/{SOUNDS}/{name}.wav" for name in names]
            file["audio"] = [path.encode() for path in paths]


def write_music_stereo(root: Path, samples: int) -> None:
    parts = parts_of(samples)
    _write_clips(root, parts)
    (root / "splits").mkdir()
    for part, names in parts.items():
        (root / "splits" / f"{part}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
