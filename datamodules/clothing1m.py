"""Clothing1M: clothes from shops' web pages, with labels made from the text around them (Xiao et al., CVPR 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

from datamodules.image_list import (
    ImageList,
    ImageListData,
    Part,
    ReadList,
    make_list,
    read_labels,
    read_lines,
    safe_name,
)
from datamodules.images import CentreCrop, HorizontalFlip, RandomCrop, ResizeShorter, Step
from zoo.core.errors import DataError

PREFIX = "images/"
# Key list and label file of each.
LISTS: dict[Part, tuple[str, str]] = {
    "train": ("noisy_train_key_list.txt", "noisy_label_kv.txt"),
    "val": ("clean_val_key_list.txt", "clean_label_kv.txt"),
    "test": ("clean_test_key_list.txt", "clean_label_kv.txt"),
}


def read_part(root: Path, part: Part) -> ImageList:
    """Raises DataError: naming file and line, if a file is missing or broken or a key has no label."""
    key_file, label_file = (root / file for file in LISTS[part])
    labels = {file.removeprefix(PREFIX): label for file, label in read_labels(label_file, Clothing1M.num_classes)}

    def pairs() -> Iterator[tuple[str, int]]:
        for place, line in read_lines(key_file):
            file = safe_name(line, place).removeprefix(PREFIX)
            if file not in labels:
                raise DataError(f"{place}: {line[:200]!r} has no label in {label_file}.")
            yield file, labels[file]

    # Some keep the annotations in the folder of images itself.
    folder = root / PREFIX if (root / PREFIX).is_dir() else root
    return make_list(folder, pairs(), key_file)


class Clothing1M(ImageListData):
    """Clothing1M: 14 classes, a million training images, about 38 % of them under wrong labels.

    Batch: :class:`~datamodules.batch.ImageClassification`, `image` [B, 3, 224, 224]. Shorter side to 256 pixels; in
    training a crop at a drawn place and a flip, else the middle.

    `root` holds `{noisy,clean}_label_kv.txt`, whose lines are "images/0/….jpg <class>",
    `{noisy_train,clean_val,clean_test}_key_list.txt`, and `images/0` to `images/9`; or these files beside `0` to `9`.
    Lists may leave "images/" out. Validation and test are on the published clean sets.

    Args:
        **base: see :class:`~datamodules.base.ZooDataModule`.
    """

    name: ClassVar[str] = "clothing1m"
    folder: ClassVar[str] = "clothing1m"
    num_classes: ClassVar[int] = 14
    augment: ClassVar[tuple[Step, ...]] = (ResizeShorter(256), RandomCrop(224), HorizontalFlip())
    steps: ClassVar[tuple[Step, ...]] = (ResizeShorter(256), CentreCrop(224))

    @classmethod
    def lists(cls, root: Path) -> Iterable[tuple[Part, ReadList]]:
        return [(part, partial(read_part, root, part)) for part in LISTS]

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.image_lists import write_clothing1m

        write_clothing1m(root, samples)
