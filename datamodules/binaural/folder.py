"""Clips of one's own, to be predicted: a sound, or a video's own sound track, and a video or one picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from datamodules.binaural.frames import Frames, StillPicture, VideoFrames
from datamodules.binaural.module import BinauralData
from datamodules.binaural.prediction import SOUND_SUFFIXES, Recording
from datamodules.binaural.source import Clip
from datamodules.sample_list import inside, read_table
from zoo.core.errors import DataError, RecipeError

LIST = "clips.csv"
COLUMNS = ("audio", "video", "id")
PICTURES = (".png", ".jpg", ".jpeg")
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")


class BinauralFolder(BinauralData):
    """Clips of one's own, of any length, that are to be heard with two ears. For prediction alone.

    Sound has any rate and any number of channels: what is predicted from is twice their mean, the sum of what both ears
    hear of a sound in front. Pictures come from a video, whose last frame stands for all after it, or are one PNG or
    JPEG. Without a sound file, the video's own sound track is taken.

    Clips are one pair, named by `audio` and `video`; or rows of a CSV, `audio,video` and perhaps `id`, with paths
    relative to `root` and below it; or the files of `root`, paired by their names without suffix, in their order.

    Args:
        audio: one sound file. `None`: the sound track of `video`.
        video: one video or picture.
        csv: a list. `None`: `clips.csv` in `root`, if there is one.
        root: `None`: the folder of the CSV or the video.
        **binaural: see :class:`~datamodules.binaural.module.BinauralData`.
    """

    name: ClassVar[str] = "binaural_folder"

    def __init__(
        self,
        *,
        audio: str | Path | None = None,
        video: str | Path | None = None,
        csv: str | Path | None = None,
        root: str | Path | None = None,
        **binaural: Any,
    ) -> None:
        self.audio, self.video, self.csv = (
            Path(path).expanduser() if path is not None else None for path in (audio, video, csv)
        )
        named = self.csv or self.video
        super().__init__(root=named.parent if root is None and named else root, **binaural)
        if self.audio and not self.video:
            raise RecipeError("data.audio needs data.video: name the video or the picture that goes with it.")
        if sum(map(bool, (self.csv, self.video, self.demo))) > 1:
            raise RecipeError("data.video, data.csv and data.demo exclude each other.")

    def prepare_data(self) -> None:
        if self.video:
            self._check_task()  # no folder is needed: a missing file will be named
        else:
            super().prepare_data()

    def clips(self, split: str) -> Sequence[Clip]:
        raise DataError(
            f"BinauralFolder has no recordings of two ears, so nothing for {split}. Train and test on data in "
            "FAIR-Play's or MUSIC-Stereo's layout."
        )

    def recordings(self) -> list[Recording]:
        if self.video:
            return [_recording((self.audio or self.video).stem, self.audio, self.video)]
        listed = self.csv or (self.root / LIST)
        if self.csv or listed.is_file():
            return list(_of_csv(listed, self.root))
        return list(_of_folder(self.root))

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        try:
            recordings = cls(root=root).recordings()
        except DataError as error:
            yield str(error)
            return
        for recording in recordings:
            try:
                recording.size()
            except DataError as error:
                yield str(error)
            yield from recording.frames.problems([1])

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.fairplay import write_folder

        write_folder(root, samples)


def _recording(name: str, audio: Path | None, video: Path) -> Recording:
    picture = video.suffix.lower() in PICTURES
    if audio is None and picture:
        raise DataError(f"{video} is a picture; name the sound that goes with it.")
    for path in filter(None, (audio, video)):
        if not path.is_file():
            raise DataError(f"{path} is missing.")
    frames: Frames = StillPicture(video) if picture else VideoFrames(video, hold=True)
    return Recording(name, audio or video, frames)


def _of_csv(path: Path, root: Path) -> Iterator[Recording]:
    ids: set[str] = set()
    for place, row in read_table(path, ("video",), COLUMNS):
        if not row["video"]:
            raise DataError(f"{place} names no video or picture.")
        name = row.get("id") or Path(row.get("audio") or row["video"]).stem
        if name in ids:
            raise DataError(f"{place}: the id {name!r} occurs twice. Give each clip its own by a column id.")
        ids.add(name)
        try:
            audio, video = (inside(root, row[key]) if row.get(key) else None for key in ("audio", "video"))
            yield _recording(name, audio, video)
        except DataError as error:
            raise DataError(f"{place}: {error}") from None


def _of_folder(root: Path) -> Iterator[Recording]:
    kinds = {"audio": SOUND_SUFFIXES, "video": (*VIDEOS, *PICTURES)}
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    try:
        files = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}.") from error
    for path in files:
        kind = next((kind for kind, suffixes in kinds.items() if path.suffix.lower() in suffixes), None)
        if kind and (other := found[path.stem].setdefault(kind, inside(root, path.name))) != path:
            raise DataError(f"{other} and {path.name} have the same name. Rename one, or move it away.")
    if not found:
        raise DataError(f"{root} has no videos, pictures or sounds. Name a video with --data.video.")
    for stem, pair in sorted(found.items()):
        if "video" not in pair:
            raise DataError(f"{pair['audio']} has no video or picture of the same name beside it.")
        yield _recording(stem, pair.get("audio"), pair["video"])
