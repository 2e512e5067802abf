"""YT-Clean: 360° videos whose sound field was rendered for two ears."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from datamodules.binaural.frames import FrameFolder
from datamodules.binaural.module import BinauralData, problems, refuse_missing
from datamodules.binaural.source import Clip
from datamodules.binaural.text_list import read_lines
from datamodules.binaural.waveforms import StereoFile
from datamodules.binaural.windows import FRAME_RATE
from zoo.core.errors import DataError, RecipeError
from zoo.core.names import unknown
from zoo.core.randomness import derive

FOLDS = 3

Validation = Literal["held_out", "test"]
TestFrames = Literal["own", "first_seconds"]


class YTClean(BinauralData):
    """YT-Clean (Morgado et al., NeurIPS 2018), with sound rendered for two ears as CCStereo's loader expects it.

    `root` holds `YT-Clean.train.1.lst` and `YT-Clean.test.1.lst`, a video per line; and for each video
    `frames/<video>/video/000000.jpg`, …, at 10 per second, counted from 0, and
    `frames/<video>/cipic_subj3/<second>.wav`, two channels, named by the second of the video at which they start. As
    published, a video's last sound (by name) is left out, and videos that were not downloaded are passed over.

    Args:
        fold: of the three lists; CCStereo uses the first.
        validation: "held_out": a tenth of the training videos, chosen by their names, which then are not trained on.
            "test": the test list, as published.
        test_frames: "own": those of the clip. "first_seconds": those at the video's beginning, wherever the clip lies,
            as published.
        **binaural: see :class:`~datamodules.binaural.module.BinauralData`.
    """

    name: ClassVar[str] = "yt_clean"
    folder: ClassVar[str] = "YT-Clean"
    published_delay: ClassVar[float] = 0.05

    def __init__(
        self, *, fold: int = 1, validation: Validation = "held_out", test_frames: TestFrames = "own", **binaural: Any
    ) -> None:
        super().__init__(**binaural)
        if not 1 <= fold <= FOLDS:
            raise RecipeError(f"data.fold is {fold}; there are folds 1 to {FOLDS}.")
        for key, value, options in (("validation", validation, Validation), ("test_frames", test_frames, TestFrames)):
            if value not in get_args(options):
                raise unknown(f"value of data.{key}", value, get_args(options))
        self.fold, self.validation, self.test_frames = fold, validation, test_frames

    def clips(self, split: str) -> list[Clip]:
        clips = [clip for video in self._videos(split) for clip in self._clips_of(video)]
        if not clips:
            raise DataError(f"YTClean: of the videos of the split {split}, none is there under {self.root / 'frames'}.")
        refuse_missing(self, clips, split)
        return clips

    def _videos(self, split: str) -> list[str]:
        if split == "test" or (split == "val" and self.validation == "test"):
            return self._listed("test")
        videos = self._listed("train")
        if self.validation == "test":
            return videos
        drawn = sorted(videos, key=lambda video: derive("yt_clean", "validation", video))
        held_out = set(drawn[: -(-len(drawn) // 10)])
        return [video for video in videos if (video in held_out) == (split == "val")]

    def _listed(self, part: str) -> list[str]:
        return read_lines(self.root / f"YT-Clean.{part}.{self.fold}.lst")

    def _clips_of(self, video: str) -> Iterator[Clip]:
        folder = self.root / "frames" / video
        for sound in sorted((folder / "cipic_subj3").glob("*.wav"), key=lambda path: path.name)[:-1]:
            if not sound.stem.isdecimal():
                raise DataError(f"{sound} is not named by the second at which it starts.")
            start = int(sound.stem)
            frames = FrameFolder(folder / "video", ".jpg", first=start * FRAME_RATE)
            seen = FrameFolder(folder / "video", ".jpg") if self.test_frames == "first_seconds" else None
            name = f"{video}_{start}"
            yield Clip(name, StereoFile(sound, self.cache / video), frames, seen)

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        data = cls(root=root)
        videos: dict[str, None] = {}
        for part in ("train", "test"):
            try:
                videos |= dict.fromkeys(data._listed(part))
            except DataError as error:
                yield str(error)
        for video in videos:
            if not (root / "frames" / video).is_dir():
                yield f"{root / 'frames' / video} is missing."
                continue
            try:
                clips: Sequence[Clip] = list(data._clips_of(video))
            except DataError as error:
                yield str(error)
            else:
                yield from problems(clips, data.cutting)

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.fairplay import write_yt_clean

        write_yt_clean(root, samples)
