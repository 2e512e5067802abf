"""Data sets of image files with one label each: what they share beside the layout, which is each one's own."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.base import DEMO_RECORD, Split, ZooDataModule
from datamodules.held_out import Validation, refuse_validation, spread_share
from datamodules.images import Step, apply, read_rgb, to_tensor
from datamodules.loading import Loader, Sample
from zoo.core.errors import DataError
from zoo.core.randomness import global_seed, numpy_generator

SUFFIXES = (".jpg", ".jpeg", ".png")

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class ImageList:
    """Images and their labels.

    Attributes:
        folder: that names are relative to.
        names: of the files, with "/" between folders.
        labels: int64 [N].
        source: the file or folder that says so, for messages.
    """

    folder: Path
    names: Sequence[str]
    labels: Tensor
    source: Path

    def __getitem__(self, rows: np.ndarray) -> ImageList:
        """The part of these rows."""
        return ImageList(self.folder, [self.names[row] for row in rows], self.labels[rows], self.source)


ReadList = Callable[[], ImageList]

# -- reading lists ---------------------------------------------------------------------------------------------------


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines that are not empty, each with its place for messages.

    Raises:
        DataError: if the file is missing or no UTF-8 text.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text (byte {error.start:,}).") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def read_labels(path: Path, num_classes: int) -> Iterator[tuple[str, int]]:
    """Pairs of a list with lines "<file> <class>".

    Raises:
        DataError: naming file and line: no such line, a class that is none, a file name that leaves the folder.
    """
    for place, line in read_lines(path):
        name, _, label = line.rpartition(" ")
        if not name or not label.isdecimal() or len(label) > 9:
            raise DataError(f"{place}: {line[:80]!r} is not '<file> <class>'.")
        if int(label) >= num_classes:
            raise DataError(f"{place}: the class is {label}; there are 0 to {num_classes - 1}.")
        yield safe_name(name.strip(), place), int(label)


def safe_name(name: str, place: str) -> str:
    """A relative name that stays in its folder. Raises DataError for any other."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        raise DataError(f"{place}: {name[:200]!r} is no relative path that stays inside the data set's folder.")
    return name


def make_list(folder: Path, pairs: Iterable[tuple[str, int]], source: Path) -> ImageList:
    """Raises DataError if there are no pairs."""
    names, labels = [], []
    for name, label in pairs:
        names.append(name)
        labels.append(label)
    if not names:
        raise DataError(f"{source} has no images.")
    return ImageList(folder, names, torch.tensor(labels), source)


def read_class_folders(folder: Path, classes: Sequence[str]) -> ImageList:
    """The images of `folder/<class>/`, in the order of the classes and then of names.

    Raises:
        DataError: if a class's folder is missing, another folder is there, or there are no images at all.
    """
    found = {entry for entry in _entries(folder) if (folder / entry).is_dir()}
    if other := sorted(found - {*classes}):
        raise DataError(f"{folder / other[0]} is no folder of a class; these are {', '.join(classes)}.")
    pairs = []
    for number, name in enumerate(classes):
        images = (entry for entry in _entries(folder / name) if entry.lower().endswith(SUFFIXES))
        pairs += [(f"{name}/{image}", number) for image in images]
    return make_list(folder, pairs, folder)


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.") from error


def missing_files(images: ImageList) -> list[str]:
    """Names of the list that are no files; each folder is looked at once, for there may be a million."""

    @cache
    def entries(folder: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(images.folder / folder))
        except OSError:
            return frozenset()

    return [name for name in images.names if os.path.basename(name) not in entries(os.path.dirname(name))]


def empty_classes(labels: Tensor, num_classes: int) -> list[int]:
    return (labels.bincount(minlength=num_classes) == 0).nonzero()[:, 0].tolist()


# -- data modules ----------------------------------------------------------------------------------------------------


class ImageListSource:
    """Samples of one split.

    Args:
        images: in the order of the samples.
        augment: what is done to an image in training.
        steps: what is done to it otherwise.
    """

    def __init__(self, images: ImageList, augment: Sequence[Step], steps: Sequence[Step]) -> None:
        self.images, self.augment, self.steps = images, augment, steps

    def __len__(self) -> int:
        return len(self.images.names)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See :class:`~datamodules.loading.Source`."""
        name = self.images.names[index]
        image = apply(self.augment if rng else self.steps, read_rgb(self.images.folder / name), rng)
        return {"image": to_tensor(image), "label": self.images.labels[index], "id": name}


class ImageListData(ZooDataModule):
    """Base of data modules of image files with one label each.

    A subclass says where the lists are (:meth:`lists`) and what is done to images, which are decoded when they are
    asked for. Prediction reads the test split.
    """

    task: ClassVar[str] = "image_classification"
    num_classes: ClassVar[int]
    augment: ClassVar[tuple[Step, ...]]
    steps: ClassVar[tuple[Step, ...]]

    @classmethod
    def lists(cls, root: Path) -> Iterable[tuple[Part, ReadList]]:
        """All lists of a copy, each with its part; reading one raises DataError if it is missing or broken."""
        raise NotImplementedError

    def listing(self, part: Part) -> ImageList:
        """The images of a part. Raises DataError as reading does."""
        return next(read for of_part, read in self.lists(self.root) if of_part == part)()

    @classmethod
    def problems(cls, part: Part, images: ImageList) -> Iterator[str]:
        """What is wrong with a list of a copy that is no demo."""
        if empty := empty_classes(images.labels, cls.num_classes):
            yield f"{images.source} has no images of class {', '.join(map(str, empty))}."

    def source(self, split: Split) -> ImageListSource:
        images = self.whole_listing("test" if split == "predict" else split)
        return ImageListSource(images, self.augment, self.steps)

    def whole_listing(self, part: Part) -> ImageList:
        """The images of a part, all of which are there.

        Raises:
            DataError: as reading does, and if files are missing or a class has none.
        """
        images = self.listing(part)
        if missing := missing_files(images):
            raise DataError(
                f"{type(self).__name__}: of {len(images.names):,} files of {images.source}, {len(missing):,} are "
                f"missing under {images.folder} (first: {missing[0]}). `zoo data check {self.name} {self.root}` lists "
                "all."
            )
        if not (self.root / DEMO_RECORD).exists():
            for problem in self.problems(part, images):
                raise DataError(problem)
        return images

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        seen: dict[Path, set[str]] = defaultdict(set)
        for part, read in cls.lists(root):
            try:
                images = read()
            except DataError as error:
                yield str(error)
                continue
            if not (root / DEMO_RECORD).exists():
                yield from cls.problems(part, images)
            new = [name for name in dict.fromkeys(images.names) if name not in seen[images.folder]]
            seen[images.folder].update(new)
            yield from _unreadable(images.folder, new)


def _unreadable(folder: Path, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if not (folder / name).is_file():
            yield f"{folder / name} is missing."
            continue
        try:
            read_rgb(folder / name)
        except DataError as error:
            yield str(error)


class HeldOutData(ImageListData):
    """Base of those whose download has no images for validation.

    Args:
        validation: share of the training samples, of each given label alike, that is held out to validate on, with the
            labels as given: choosing by it needs no true label. "test" validates on the clean test set, as published
            code does: its best epoch is then chosen on the test set. 0: none, all samples are trained on.
        **base: see :class:`~datamodules.base.ZooDataModule`.
    """

    def __init__(self, *, validation: Validation = 0.0, **base: Any) -> None:
        super().__init__(**base)
        refuse_validation(validation)
        self.validation = validation

    def val_dataloader(self) -> Loader | list[Loader]:
        return [] if self.validation == 0 else super().val_dataloader()

    def source(self, split: Split) -> ImageListSource:
        if split in ("test", "predict") or (split == "val" and self.validation == "test"):
            return super().source("test")
        images = self.whole_listing("train")
        rng = numpy_generator(global_seed(), self.name, "validation")
        held_out = spread_share(images.labels, 0.0 if self.validation == "test" else self.validation, rng)
        rows = np.flatnonzero(held_out if split == "val" else ~held_out)
        return ImageListSource(images[rows], self.augment, self.steps)
