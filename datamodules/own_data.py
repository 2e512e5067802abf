"""Data of one's own: what modules share that read lists and folders that users make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from os.path import isfile  # Path's raises where a name is too long
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base import Split, ZooDataModule
from datamodules.loading import Loader, Source
from datamodules.sample_list import Row, class_names, read_csv, read_folder, split_rows
from zoo.core.errors import DataError, RecipeError
from zoo.core.randomness import global_seed

LIST = "samples.csv"
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DEMO_CLASSES = tuple(sorted(DIGIT_NAMES))


class OwnData(ZooDataModule):
    """Base of data modules for data of one's own.

    A subclass names its signals, which are the CSV's columns beside the label, and makes a source of rows.

    Args:
        csv: the list; `None`: `samples.csv` in `root`, if there is one.
        val_share, test_share: of all samples, where the list does not say what is for validation and test.
        root: `None`: the folder of the CSV.
        **base: see :class:`~datamodules.base.ZooDataModule`.
    """

    readers: ClassVar[Mapping[str, Callable[[Path], Any]]]
    """How the file of each signal is read."""

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

    def source_of(self, rows: Sequence[Row], classes: Sequence[str] = ()) -> Source:
        """Samples of these rows; without classes they have no label."""
        raise NotImplementedError

    @property
    def list_file(self) -> Path | None:
        """What lists the samples with their labels, if there is such a thing."""
        default = self.root / LIST
        return self.csv or (default if default.is_file() else None)

    @cached_property
    def _rows(self) -> list[Row]:
        return self.read_list()

    def read_list(self) -> list[Row]:
        """What :attr:`list_file` says. Raises DataError if that is broken."""
        return read_csv(self.list_file, self.root, tuple(self.readers))

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, in the order of the model's outputs; `None` if neither list nor checkpoint says."""
        if self.list_file:
            return class_names(self._rows)
        return DEMO_CLASSES if self.demo else self._learned

    @property
    def num_classes(self) -> int | None:
        """How many classes the list has; `None` without one: then the checkpoint says.

        Raises:
            DataError: if the list is broken, or has one class alone.
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

    def source(self, split: Split) -> Source:
        if self.list_file is None:
            if split != "predict":
                raise DataError(
                    f"{type(self).__name__}: there is no {self.root / LIST}. Name a list of samples with --data.csv."
                )
            return self.source_of(read_folder(self.root, tuple(self.readers)))
        rows = self._rows
        self._refuse_missing(rows)
        if rows[0].part is None:
            rows = split_rows(rows, self.val_share, self.test_share, global_seed())
        _refuse_untrained(rows, self.list_file)
        part = "test" if split == "predict" else split
        chosen = [row for row in rows if row.part == part]
        if not chosen and split != "val":
            raise DataError(f"{self.list_file} has no samples for {part}.")
        return self.source_of(chosen, self.classes)

    def _refuse_missing(self, rows: Sequence[Row]) -> None:
        files = [path for row in rows for path in (row.image, row.audio) if path]
        if missing := [path for path in files if not isfile(path)]:
            raise DataError(
                f"{type(self).__name__}: {len(missing):,} of {len(files):,} files are missing under {self.root} "
                f"(first: {missing[0].relative_to(self.root)})."
            )

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        try:
            data = cls(root=root)
            rows = data._rows if data.list_file else read_folder(root, tuple(cls.readers))
        except DataError as error:
            yield str(error)
            return
        for row in rows:
            for signal, read in cls.readers.items():
                path = getattr(row, signal)
                if path and not isfile(path):
                    yield f"{path} is missing."
                elif path:
                    try:
                        read(path)
                    except DataError as error:
                        yield str(error)


def _refuse_untrained(rows: Sequence[Row], path: Path) -> None:
    """A class that is only tested would be one that no model can know. A list for tests alone is no mistake."""
    trained = {row.label for row in rows if row.part == "train"}
    for row in rows:
        if trained and row.label not in trained:
            raise DataError(f"{path}: the class {row.label!r} occurs in {row.part}, but not in train.")
