"""FAIR-Play, and MUSIC-Stereo in the same layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from datamodules.base import Split
from datamodules.binaural.frames import FrameFolder, VideoFrames
from datamodules.binaural.module import BinauralData, problems, refuse_missing
from datamodules.binaural.source import Clip
from datamodules.binaural.text_list import checked, read_text
from datamodules.binaural.waveforms import StereoFile
from datamodules.loading import Loader
from zoo.core.errors import DataError, RecipeError
from zoo.core.extras import require
from zoo.core.names import unknown

SOUNDS, FRAMES, VIDEOS = "binaural_audios", "frames", "videos"
PARTS = ("train", "val", "test")

Splits = Literal["clean", "original"]
FOLDS: dict[Splits, int] = {"clean": 5, "original": 10}
FOLDERS: dict[Splits, tuple[str, ...]] = {"clean": ("five_splits", "new_splits"), "original": ("splits",)}


def read_list(path: Path) -> list[str]:
    """The clips of a split: last components, without suffix, of the paths in it.

    Args:
        path: text, one path per line, or HDF5 (`.h5`) with one data set `audio` of paths.

    Raises:
        DataError: naming the file: missing, of another kind, no clips, a clip twice.
    """
    if path.suffix == ".h5":
        entries = _h5_entries(path)
    else:
        entries = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    # Where the authors' machine had them does not matter, so that no entry leads out of the root.
    names = (PurePosixPath(entry.replace("\\", "/")).name for entry in entries)
    return checked((name.rpartition(".")[0] or name for name in names), path)


def _h5_entries(path: Path) -> list[str]:
    h5py = require("h5py", "video")
    other = DataError(f"{path} holds no list of paths named 'audio', as FAIR-Play's splits do.")
    try:
        with h5py.File(path, "r") as file:
            # Only a data set of this very file: a link may lead into another one, and so may its storage.
            if not isinstance(file.get("audio", getlink=True), h5py.HardLink):
                raise other
            entries = file["audio"]
            if not isinstance(entries, h5py.Dataset) or entries.ndim != 1 or entries.is_virtual or entries.external:
                raise other
            names = [name.decode("utf-8") if isinstance(name, bytes) else name for name in entries[()].tolist()]
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not all(isinstance(name, str) for name in names):
        raise other
    return names


class PairedFiles(BinauralData):
    """Base of data sets with FAIR-Play's folders of sounds, frames and videos; a subclass says where its lists are.

    Args:
        validation: split that validation sees, and so checkpoints are selected on: "val"; or "test", as published code
            does, whose test numbers are then the best of many looks at the test split.
        **binaural: see :class:`~datamodules.binaural.module.BinauralData`.
    """

    def __init__(self, *, validation: Literal["val", "test"] = "val", **binaural: Any) -> None:
        super().__init__(**binaural)
        if validation not in ("val", "test"):
            raise unknown("value of data.validation", validation, ("val", "test"))
        self.validation: Split = validation

    def val_dataloader(self) -> Loader:
        return self.loader(self.validation)

    def list_file(self, split: str) -> Path:
        """The split's list, by its suffix a text file or HDF5."""
        raise NotImplementedError

    @classmethod
    def list_files(cls, root: Path) -> Sequence[Path]:
        """All lists that there are."""
        raise NotImplementedError

    def clips(self, split: str) -> list[Clip]:
        clips = [self._clip(name) for name in read_list(self.list_file(split))]
        refuse_missing(self, clips, split)
        return clips

    def _clip(self, name: str) -> Clip:
        sound = StereoFile(self.root / SOUNDS / f"{name}.wav", self.cache)
        extracted, video = FrameFolder(self.root / FRAMES / f"{name}.mp4"), self.root / VIDEOS / f"{name}.mp4"
        decoded = not extracted.path.is_dir() and video.is_file()
        return Clip(name, sound, VideoFrames(video) if decoded else extracted)

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        names = {path.stem for path in (root / SOUNDS).glob("*.wav")}
        lists = cls.list_files(root)
        if not lists:
            yield f"{root} holds no lists of clips."
        for path in lists:
            try:
                names.update(read_list(path))
            except DataError as error:
                yield str(error)
        data = cls(root=root)
        yield from problems([data._clip(name) for name in sorted(names)], data.cutting)


class FAIRPlay(PairedFiles):
    """FAIR-Play: 1,871 clips of 10 s of music in a room, recorded with two ears (Gao & Grauman, CVPR 2019).

    `root` holds `binaural_audios/000001.wav`, …, and either `frames/000001.mp4/000001.png`, …, extracted at 10 per
    second and counted from 1, or `videos/000001.mp4`, from which the same frames are decoded (slower); and split
    files: `splits/split1/train.h5`, … for the ten original random splits, `five_splits/split1/train.txt`, … (or
    `new_splits`, as PseudoBinaural has it) for the five that keep scenes apart.

    Args:
        splits: "clean", the five of PseudoBinaural (CVPR 2021), or "original", the ten of the paper; numbers of the
            two do not compare.
        fold: which of them, from 1.
        **binaural: see :class:`PairedFiles` and :class:`~datamodules.binaural.module.BinauralData`.
    """

    name: ClassVar[str] = "fairplay"
    folder: ClassVar[str] = "FAIR-Play"

    def __init__(self, *, splits: Splits = "clean", fold: int = 1, **binaural: Any) -> None:
        super().__init__(**binaural)
        if splits not in FOLDS:
            raise unknown("value of data.splits", splits, FOLDS)
        if not 1 <= fold <= FOLDS[splits]:
            raise RecipeError(f"data.fold is {fold}; the {splits} splits have folds 1 to {FOLDS[splits]}.")
        self.kind, self.fold = splits, fold

    def list_file(self, split: str) -> Path:
        folders = [self.root / name for name in FOLDERS[self.kind]]
        folder = next((found for found in folders if found.is_dir()), folders[0])
        return folder / f"split{self.fold}" / f"{split}.{'txt' if self.kind == 'clean' else 'h5'}"

    @classmethod
    def list_files(cls, root: Path) -> Sequence[Path]:
        found = [
            cls(root=root, splits=splits, fold=fold).list_file(part)
            for splits, folds in FOLDS.items()
            for fold in range(1, folds + 1)
            for part in PARTS
        ]
        return [path for path in found if path.parent.is_dir()]

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.fairplay import write_fairplay

        write_fairplay(root, samples)


class MUSICStereo(PairedFiles):
    """MUSIC-Stereo: the stereo videos of MUSIC(21), cut into clips of 10 s (PseudoBinaural, CVPR 2021).

    No list of the clips is published. `root` holds `binaural_audios`, and `frames` or `videos`, as FAIR-Play's does,
    and `splits/train.txt`, `val.txt` and `test.txt`, one clip per line.

    Args:
        **binaural: see :class:`PairedFiles` and :class:`~datamodules.binaural.module.BinauralData`.
    """

    name: ClassVar[str] = "music_stereo"
    folder: ClassVar[str] = "MUSIC-Stereo"

    def __init__(self, **binaural: Any) -> None:
        super().__init__(**binaural)

    def list_file(self, split: str) -> Path:
        return self.root / "splits" / f"{split}.txt"

    @classmethod
    def list_files(cls, root: Path) -> Sequence[Path]:
        return [cls(root=root).list_file(part) for part in PARTS]

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.fairplay import write_music_stereo

        write_music_stereo(root, samples)
