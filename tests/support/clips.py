"""Small clips in FAIR-Play's layout, and videos whose frames tell their number by their brightness."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

STEP = 2  # of brightness from frame to frame


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (channels, samples)).astype(np.float32)


def write_wav(path: Path, waveform: np.ndarray, rate: int = 16_000, subtype: str = "FLOAT") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform.T, rate, subtype)
    return path


def write_frames(
    folder: Path, count: int, size: tuple[int, int] = (16, 32), first: int = 1, suffix: str = ".png"
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        Image.new("RGB", size[::-1], (STEP * number,) * 3).save(folder / f"{number:06d}{suffix}")


def write_video(
    path: Path,
    seconds: float = 2,
    rate: Fraction | int = 30,
    waveform: np.ndarray | None = None,
    sound_rate: int = 16_000,
) -> Path:
    """An mp4 of 32×16 pixels, with stereo sound [2, T] if there is any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=rate, options={"crf": "0", "g": "12"})
        picture.width, picture.height, picture.pix_fmt = 32, 16, "yuv444p"
        sound = container.add_stream("aac", rate=sound_rate, layout="stereo") if waveform is not None else None
        for number in range(round(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), STEP * number % 256, np.uint8), "rgb24")
            container.mux(picture.encode(frame))
        container.mux(picture.encode())
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform, np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = sound_rate, 0, Fraction(1, sound_rate)
            container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def brightness(picture: Image.Image) -> int:
    return round(float(np.asarray(picture, float).mean()))


def write_fairplay(
    root: Path,
    clips: int = 3,
    seconds: float = 1.0,
    rate: int = 16_000,
    splits: tuple[str, ...] = ("train", "val", "test"),
) -> Path:
    """Clips 000001, …, in all splits of the first clean fold."""
    names = [f"{number:06d}" for number in range(1, clips + 1)]
    for number, name in enumerate(names):
        write_wav(root / "binaural_audios" / f"{name}.wav", noise(2, round(seconds * rate), seed=number), rate)
        write_frames(root / "frames" / f"{name}.mp4", round(seconds * 10))
    for split in splits:
        path = root / "five_splits" / "split1" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}.mp3\n" for name in names))
    return root
