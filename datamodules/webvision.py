"""mini-WebVision: the first 50 classes of what Google's image search found for ImageNet's names (Li et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from datamodules.image_list import (
    HeldOutData,
    ImageList,
    Part,
    ReadList,
    make_list,
    read_class_folders,
    read_labels,
)
from datamodules.images import CentreCrop, HorizontalFlip, RandomResizedCrop, ResizeShorter, Step
from zoo.core.names import unknown

CLASSES = 50
ALL_CLASSES = 1000  # that lists name
IMAGENET = Path("imagenet/val")

TestSet = Literal["webvision", "imagenet"]


def read_list(path: Path, folder: Path) -> ImageList:
    """The images of the first 50 classes. Raises DataError if the list is missing or broken."""

    def pairs() -> Iterator[tuple[str, int]]:
        yield from ((name, label) for name, label in read_labels(path, ALL_CLASSES) if label < CLASSES)

    return make_list(folder, pairs(), path)


def read_imagenet(root: Path) -> ImageList:
    """Raises DataError if a class's folder is missing."""
    return read_class_folders(root / IMAGENET, tuple(map(str, range(CLASSES))))


class WebVision(HeldOutData):
    """mini-WebVision: about 66,000 images from Google under 50 of ImageNet's classes (DivideMix's protocol).

    Batch: :class:`~datamodules.batch.ImageClassification`, `image` [B, 3, 299, 299]. Shorter side to 320 pixels; in
    training a part of drawn size and proportions and a flip, else the middle.

    `root` holds `info/train_filelist_google.txt` and `info/val_filelist.txt`, whose lines are "<file> <class>",
    training images where the former says, and `val_images_256/`; for a test on ImageNet `imagenet/val/0` to `49`,
    classes in WebVision's order.

    Args:
        test_set: "webvision", its own validation images, or "imagenet".
        **base: see :class:`~datamodules.image_list.HeldOutData`.
    """

    name: ClassVar[str] = "webvision"
    folder: ClassVar[str] = "webvision"
    num_classes: ClassVar[int] = CLASSES
    augment: ClassVar[tuple[Step, ...]] = (ResizeShorter(320), RandomResizedCrop(299), HorizontalFlip())
    steps: ClassVar[tuple[Step, ...]] = (ResizeShorter(320), CentreCrop(299))

    def __init__(self, *, test_set: TestSet = "webvision", **base: Any) -> None:
        super().__init__(**base)
        if test_set not in get_args(TestSet):
            raise unknown("value of data.test_set", test_set, get_args(TestSet))
        self.test_set = test_set

    @classmethod
    def lists(cls, root: Path) -> Iterable[tuple[Part, ReadList]]:
        lists: list[tuple[Part, ReadList]] = [
            ("train", partial(read_list, root / "info/train_filelist_google.txt", root)),
            ("test", partial(read_list, root / "info/val_filelist.txt", root / "val_images_256")),
        ]
        return [*lists, ("test", partial(read_imagenet, root))] if (root / IMAGENET).is_dir() else lists

    def listing(self, part: Part) -> ImageList:
        return read_imagenet(self.root) if (part, self.test_set) == ("test", "imagenet") else super().listing(part)

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.image_lists import write_webvision

        write_webvision(root, samples)
