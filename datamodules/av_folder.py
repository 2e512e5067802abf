"""Image and sound files of one's own, listed in a CSV for training, or just lying in a folder for prediction."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from os.path import isfile  # Path's raises where a name is too long
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from datamodules.avmnist import SAMPLE_RATE
from datamodules.base import Split, ZooDataModule
from datamodules.loading import Loader, Sample
from datamodules.media import SIDE, read_image, read_sound
from datamodules.sample_list import Row, class_names, read_csv, read_folder, split_rows
from zoo.core.errors import DataError, RecipeError
from zoo.core.randomness import global_seed

LIST = "samples.csv"
DEMO_CLASSES = ("eight", "five", "four", "nine", "one", "seven", "six", "three", "two", "zero")


def _refuse_missing(rows: Sequence[Row], root: Path) -> None:
    files = [path for row in rows for path in (row.image, row.audio) if path]
    if missing := [path for path in files if not isfile(path)]:
        raise DataError(
            f"AVFolder: {len(missing):,} of {len(files):,} files are missing under {root} (first: "
            f"{missing[0].relative_to(root)})."
        )


def _refuse_untrained(rows: Sequence[Row], path: Path) -> None:
    """A class that is only tested would be one that no model can know. A list for tests alone is no mistake."""
    trained = {row.label for row in rows if row.part == "train"}
    for row in rows:
        if trained and row.label not in trained:
            raise DataError(f"{path}: the class {row.label!r} occurs in {row.part}, but not in train.")


class AVFolderSource:
    """Samples of one split.

    Args:
        rows: in the order of the samples.
        classes: names of the classes; without, samples have no label.
    """

    def __init__(self, rows: Sequence[Row], classes: Sequence[str] = ()) -> None:
        self.rows, self.numbers = rows, {name: number for number, name in enumerate(classes)}

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See :class:`~datamodules.loading.Source`. There is no augmentation."""
        row = self.rows[index]
        image = read_image(row.image) if row.image else torch.zeros(1, SIDE, SIDE)
        audio = read_sound(row.audio) if row.audio else torch.zeros(1)  # the least that front ends can read
        sample = {
            "modalities": {"image": image, "audio": audio},
            "sample_rate": {"audio": SAMPLE_RATE},
            "present": {"image": torch.tensor(bool(row.image)), "audio": torch.tensor(bool(row.audio))},
            "id": row.id,
        }
        return sample | ({"label": torch.tensor(self.numbers[row.label])} if self.numbers else {})


class AVFolder(ZooDataModule):
    """Data of one's own for classification from an image and a sound, either of which may be missing.

    Batch: :class:`~datamodules.batch.AVClassification`, `image` [B, 1, 28, 28] and `audio` [B, T] at 8 kHz: files are
    converted as :func:`~datamodules.media.read_image` and :func:`~datamodules.media.read_sound` say.

    A CSV lists the samples: `image,audio,label`, and if need be `split` (train, val or test) and `id` (else the path
    without its suffix). Paths are relative to `root` and lie below it; an empty cell is an absent modality. Labels are
    names or whole numbers; the sorted names are the classes, kept in checkpoints, and data with others are refused.
    Without a column `split`, samples are split by a rule of (seed, id), each class evenly: another seed tests on what
    was trained on.

    Without a CSV there is only prediction: of all png, jpg and wav files that lie in `root`, paired by their names,
    in the order of these. With one, prediction reads the test split.

    Args:
        csv: the list; `None`: `samples.csv` in `root`, if there is one.
        val_share, test_share: of all samples, where the CSV has no column `split`.
        root: `None`: the folder of the CSV.
        **base: see :class:`~datamodules.base.ZooDataModule`.
    """

    name: ClassVar[str] = "av_folder"
    task: ClassVar[str] = "av_classification"

    def __init__(
        self,
        *,
        csv: str | Path | None = None,
        val_share: float = 0.1,
        test_share: float = 0.3,
        root: str | Path | None = None,
        **base: Any,
    ) -> None:
        named = Path(csv).expanduser() if csv is not None else None
        super().__init__(root=named.parent if root is None and named else root, **base)
        if named and self.demo:
            raise RecipeError("data.csv and data.demo exclude each other: the demo brings its own list.")
        if not (val_share >= 0 and test_share >= 0 and val_share + test_share < 1):
            raise RecipeError(
                f"data.val_share is {val_share} and data.test_share {test_share}; they are shares of all samples that "
                "leave some for training."
            )
        self.csv, self.val_share, self.test_share = named, val_share, test_share
        self._learned: tuple[str, ...] | None = None  # the classes of the checkpoint

    @property
    def list_file(self) -> Path | None:
        """The CSV, if there is one."""
        default = self.root / LIST
        return self.csv or (default if default.is_file() else None)

    @cached_property
    def _rows(self) -> list[Row]:
        return read_csv(self.list_file, self.root)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, in the order of the model's outputs; `None` if neither CSV nor checkpoint says."""
        if self.list_file:
            return class_names(self._rows)
        return DEMO_CLASSES if self.demo else self._learned

    @property
    def num_classes(self) -> int | None:
        """How many classes the CSV has; `None` without one: then the checkpoint says.

        Raises:
            DataError: if the CSV is broken, or has one class alone.
        """
        if self.classes and len(self.classes) < 2:
            raise DataError(f"{self.list_file} has one class alone, {self.classes[0]!r}.")
        return len(self.classes) if self.classes else None

    def state_dict(self) -> dict[str, Any]:
        return {"classes": list(self.classes)} if self.classes else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._learned = tuple(map(str, state["classes"]))
        if other := sorted({*self.classes} ^ {*self._learned}):
            raise DataError(
                f"{self.list_file} has other classes than the checkpoint was trained on; the first that only one of "
                f"them has is {other[0]!r}."
            )

    def val_dataloader(self) -> Loader | list[Loader]:
        return super().val_dataloader() if len(self._source("val")) else []

    def source(self, split: Split) -> AVFolderSource:
        if self.list_file is None:
            if split != "predict":
                raise DataError(f"AVFolder: there is no {self.root / LIST}. Name a list of samples with --data.csv.")
            return AVFolderSource(read_folder(self.root))
        rows = self._rows
        _refuse_missing(rows, self.root)
        if rows[0].part is None:
            rows = split_rows(rows, self.val_share, self.test_share, global_seed())
        _refuse_untrained(rows, self.list_file)
        part = "test" if split == "predict" else split
        chosen = [row for row in rows if row.part == part]
        if not chosen and split != "val":
            raise DataError(f"{self.list_file} has no samples for {part}.")
        return AVFolderSource(chosen, self.classes)

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        try:
            data = cls(root=root)
            rows = data._rows if data.list_file else read_folder(root)
        except DataError as error:
            yield str(error)
            return
        files = [pair for row in rows for pair in ((row.image, read_image), (row.audio, read_sound))]
        for path, read in files:
            if path and not isfile(path):
                yield f"{path} is missing."
            elif path:
                try:
                    read(path)
                except DataError as error:
                    yield str(error)

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.av_folder import write_demo

        write_demo(root, samples)
