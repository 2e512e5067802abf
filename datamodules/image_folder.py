"""Image files of one's own, in a folder for each class or listed in a CSV; for prediction, just lying in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch

from datamodules.images import (
    CentreCrop,
    HorizontalFlip,
    RandomResizedCrop,
    ResizeShorter,
    Step,
    apply,
    read_rgb,
    to_tensor,
)
from datamodules.loading import Sample
from datamodules.own_data import OwnData
from datamodules.sample_list import SUFFIXES, Part, Row
from zoo.core.errors import DataError, RecipeError


class ImageFolderSource:
    """Samples of one split.

    Args:
        rows: in the order of the samples.
        classes: names of the classes; without, samples have no label.
        size: of the images, in pixels.
    """

    def __init__(self, rows: Sequence[Row], classes: Sequence[str], size: int) -> None:
        self.rows, self.numbers = rows, {name: number for number, name in enumerate(classes)}
        self.augment: tuple[Step, ...] = (RandomResizedCrop(size), HorizontalFlip())
        self.steps: tuple[Step, ...] = (ResizeShorter(round(size / 0.875)), CentreCrop(size))

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See :class:`~datamodules.loading.Source`."""
        row = self.rows[index]
        image = apply(self.augment if rng else self.steps, read_rgb(row.image), rng)
        sample = {"image": to_tensor(image), "id": row.id}
        return sample | ({"label": torch.tensor(self.numbers[row.label])} if self.numbers else {})


class ImageFolder(OwnData):
    """Data of one's own for classification of images.

    Batch: :class:`~datamodules.batch.ImageClassification`, `image` [B, 3, size, size]: in training a part of drawn size
    and proportions and a flip, else the middle 7/8 of the shorter side, as is usual for ImageNet.

    Samples are listed by a CSV, `image,label`, and if need be `split` (train, val or test) and `id` (else the path
    without its suffix), with paths relative to `root` and below it; or lie in folders `train/<class>/`,
    `test/<class>/` and, if need be, `val/<class>/`. The sorted names of the classes are kept in checkpoints, and data
    with others are refused. Without a column `split`, samples are split by a rule of (seed, id), each class evenly:
    another seed tests on what was trained on.

    With neither there is only prediction: of all png and jpg files that lie in `root`, in the order of their names.
    With one, prediction reads the test split.

    Args:
        size: of the images that models get, in pixels.
        **base: see :class:`~datamodules.own_data.OwnData`.
    """

    name: ClassVar[str] = "image_folder"
    task: ClassVar[str] = "image_classification"
    readers: ClassVar[Mapping[str, Callable[[Path], Any]]] = {"image": read_rgb}

    def __init__(self, *, size: int = 224, **base: Any) -> None:
        super().__init__(**base)
        if size < 1:
            raise RecipeError(f"data.size is {size}; it must be at least 1.")
        self.size = size

    @property
    def list_file(self) -> Path | None:
        return super().list_file or (self.root if (self.root / "train").is_dir() else None)

    def read_list(self) -> list[Row]:
        return list(read_class_folders(self.root)) if self.list_file == self.root else super().read_list()

    def source_of(self, rows: Sequence[Row], classes: Sequence[str] = ()) -> ImageFolderSource:
        return ImageFolderSource(rows, classes, self.size)

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.image_lists import write_image_folder

        write_image_folder(root, samples)


def read_class_folders(root: Path) -> Iterator[Row]:
    """The images of `root/<part>/<class>/`, in the order of their names.

    Raises:
        DataError: naming a class without images, or a folder that cannot be read.
    """
    try:
        for part in (part for part in get_args(Part) if (root / part).is_dir()):
            for folder in sorted(path for path in (root / part).iterdir() if path.is_dir()):
                names = sorted(name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES["image"]))
                if not names:
                    raise DataError(f"{folder} has no png or jpg files.")
                for name in names:
                    yield Row(f"{part}/{folder.name}/{name}", folder / name, None, folder.name, part)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
