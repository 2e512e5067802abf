"""Writes small copies of data sets with two-ear sound: clips of 2 s at 16 kHz with frames of 64×128 pixels."""

from __future__ import annotations

from pathlib import Path

from datamodules.binaural.fairplay import FRAMES, PARTS, SOUNDS
from datamodules.demo.two_ears import FRAME_RATE, SAMPLE_RATE, SECONDS, render_scene
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


def write_yt_clean(root: Path, samples: int) -> None:
    """Write videos of 6 s with three sounds of 2 s each, of which the reader leaves the last one out."""
    soundfile = require("soundfile", "audio")
    sounds = 3
    parts = parts_of(samples)
    videos = {"train": [*parts["train"], *parts["val"]], "test": parts["test"]}
    for part, names in videos.items():
        count = -(-len(names) // (sounds - 1))
        called = [f"{part}{number:03d}" for number in range(count)]
        (root / f"YT-Clean.{part}.1.lst").write_text("".join(f"{name}\n" for name in called), encoding="utf-8")
        for name in called:
            seen, heard = root / "frames" / name / "video", root / "frames" / name / "cipic_subj3"
            seen.mkdir(parents=True)
            heard.mkdir()
            for start in range(0, sounds * SECONDS, SECONDS):
                stereo, pictures = render_scene(numpy_generator("two-ear demo", "YT-Clean", part, name, start))
                soundfile.write(heard / f"{start}.wav", stereo.T, SAMPLE_RATE, "PCM_16")
                for number, picture in enumerate(pictures, start=start * FRAME_RATE):
                    picture.save(seen / f"{number:06d}.jpg", quality=92)


def write_folder(root: Path, samples: int) -> None:
    """Write mono sounds, each with a picture of its name."""
    soundfile = require("soundfile", "audio")
    for number in range(samples):
        name = f"clip{number:03d}"
        stereo, pictures = render_scene(numpy_generator("two-ear demo", "folder", name))
        soundfile.write(root / f"{name}.wav", stereo.mean(0), SAMPLE_RATE, "PCM_16")
        pictures[len(pictures) // 2].save(root / f"{name}.png")
