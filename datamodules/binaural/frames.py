"""Frames of a clip: where they come from, and how they are cut and coloured for a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image, ImageEnhance
from torch import Tensor

from datamodules.binaural.windows import FRAME_RATE
from datamodules.images import read_rgb, to_tensor
from datamodules.video import read_frames
from zoo.core.errors import DataError

Size = tuple[int, int]  # height, width
CROPS = 5  # of a frame in CCStereo's evaluation

# -- where they come from ---------------------------------------------------------------------------------------------


class Frames(Protocol):
    """The pictures of a clip, at 10 per second."""

    path: Path

    def read(self, numbers: Sequence[int]) -> list[Image.Image]:
        """RGB pictures, numbered as the clip's files are. Raises DataError if one is missing or broken."""
        ...

    def problems(self, numbers: Sequence[int]) -> Iterator[str]:
        """What is wrong with these pictures, one line per file."""
        ...


@dataclass(frozen=True)
class FrameFolder:
    """Frames extracted to files, `%06d` and a suffix."""

    path: Path
    suffix: str = ".png"
    first: int = 0  # number of the clip's frame 0, where several clips are cut from one video

    def read(self, numbers: Sequence[int]) -> list[Image.Image]:
        return [read_rgb(self._file(number)) for number in numbers]

    def problems(self, numbers: Sequence[int]) -> Iterator[str]:
        if not self.path.is_dir():
            yield f"{self.path} is missing."
            return
        for number in numbers:
            try:
                read_rgb(self._file(number))
            except DataError as error:
                yield str(error)

    def _file(self, number: int) -> Path:
        return self.path / f"{self.first + number:06d}{self.suffix}"


@dataclass(frozen=True)
class VideoFrames:
    """Frames decoded from a video.

    Args:
        first: number of its first frame; ffmpeg counts the files that it extracts from 1.
        hold: whether the last frame stands for all after it, and the first for all before.
    """

    path: Path
    first: int = 1
    hold: bool = False

    def read(self, numbers: Sequence[int]) -> list[Image.Image]:
        slots = [number - self.first for number in numbers]
        if self.hold:
            slots = [max(0, slot) for slot in slots]
        return read_frames(self.path, slots, FRAME_RATE, hold=self.hold)

    def problems(self, numbers: Sequence[int]) -> Iterator[str]:
        try:
            self.read(numbers)
        except DataError as error:
            yield str(error)


@dataclass(frozen=True)
class StillPicture:
    """One picture for the whole clip."""

    path: Path

    def read(self, numbers: Sequence[int]) -> list[Image.Image]:
        return [read_rgb(self.path)] * len(numbers)

    def problems(self, numbers: Sequence[int]) -> Iterator[str]:
        try:
            read_rgb(self.path)
        except DataError as error:
            yield str(error)


# -- how they are cut and coloured ------------------------------------------------------------------------------------


class Draws(Protocol):
    """The part of NumPy's Generator that augmentation uses."""

    def uniform(self, low: float, high: float) -> float: ...

    def integers(self, low: int, high: int, *, endpoint: bool) -> int: ...


class Look(NamedTuple):
    """Augmentation of one frame: left upper corner of the crop in pixels, factors of brightness and saturation."""

    left: int
    upper: int
    brightness: float = 1.0
    saturation: float = 1.0


def resized(size: Size) -> Size:
    """The size from which crops of `size` are taken: 15/14 of it, 240×480 for 224×448."""
    height, width = size
    return round(height * 15 / 14), round(width * 15 / 14)


def _spare(size: Size) -> Size:
    return resized(size)[0] - size[0], resized(size)[1] - size[1]


def draw_look(rng: Draws, size: Size) -> Look:
    """A crop anywhere, then brightness, then saturation from 0.7 to 1.3 (2.5D Visual Sound)."""
    below, right = _spare(size)
    left = int(rng.integers(0, right, endpoint=True))
    upper = int(rng.integers(0, below, endpoint=True))
    return Look(left, upper, float(rng.uniform(0.7, 1.3)), float(rng.uniform(0.7, 1.3)))


def one_of_five(number: int, size: Size) -> Look:
    """The crop of a frame in CCStereo's evaluation: corners and centre in turn, by the frame's number."""
    below, right = _spare(size)
    left, upper = ((0, 0), (right, 0), (0, below), (right, below), (right // 2, below // 2))[number % CROPS]
    return Look(left, upper)


def centre(size: Size) -> Look:
    below, right = _spare(size)
    return Look(right // 2, below // 2)


def crop(picture: Image.Image, look: Look, size: Size) -> Tensor:
    """Resize to 15/14 of `size` by Pillow's bicubic filter, crop, colour.

    Returns:
        float32 [3, H, W], in [0, 1].
    """
    height, width = resized(size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    picture = picture.crop((look.left, look.upper, look.left + size[1], look.upper + size[0]))
    if look.brightness != 1:
        picture = ImageEnhance.Brightness(picture).enhance(look.brightness)
    if look.saturation != 1:
        picture = ImageEnhance.Color(picture).enhance(look.saturation)
    return to_tensor(picture)


def squeeze(picture: Image.Image, size: Size) -> Tensor:
    """The whole picture at `size` (bilinear, antialiased), as Mono2Binaural evaluates. float32 [3, H, W], in [0, 1]."""
    return to_tensor(picture.resize(size[::-1], Image.Resampling.BILINEAR))
