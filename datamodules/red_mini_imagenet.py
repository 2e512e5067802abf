"""Red Mini-ImageNet: Mini-ImageNet with web images under wrong labels (Jiang et al., ICML 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from datamodules.image_list import HeldOutData, ImageList, Part, ReadList, make_list, read_labels
from datamodules.images import HorizontalFlip, RandomCrop, Resize, Step
from zoo.core.errors import RecipeError

FOLDER = Path("mini-imagenet")
TEST = "clean_validation"
RATES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


class RedMiniImageNet(HeldOutData):
    """Red Mini-ImageNet: 100 classes, a known share of the training images being web images with wrong labels.

    Batch: :class:`~datamodules.batch.ImageClassification`, `image` [B, 3, 32, 32]: resized whatever the proportions,
    bilinear. Augmentation: crop of the zero-padded image, flip. Test: the 5,000 images of `clean_validation`.

    `root` holds `mini-imagenet/` with `split/red_noise_nl_<rate>` and `split/clean_validation`, whose lines are
    "<file> <class>", `all_images/<file>` (web images and ImageNet's together) and `validation/<class>/<file>`.

    Args:
        noise_rate: one of the published 0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8.
        **base: see :class:`~datamodules.image_list.HeldOutData`.
    """

    name: ClassVar[str] = "red_mini_imagenet"
    folder: ClassVar[str] = "red_mini_imagenet"
    num_classes: ClassVar[int] = 100
    augment: ClassVar[tuple[Step, ...]] = (Resize(32), RandomCrop(32, padding=4), HorizontalFlip())
    steps: ClassVar[tuple[Step, ...]] = (Resize(32),)

    def __init__(self, *, noise_rate: float = 0.2, **base: Any) -> None:
        super().__init__(**base)
        if noise_rate not in RATES:
            raise RecipeError(f"data.noise_rate is {noise_rate}; published are {', '.join(map(str, RATES))}.")
        self.noise_rate = float(noise_rate)

    @classmethod
    def lists(cls, root: Path) -> Iterable[tuple[Part, ReadList]]:
        there = [rate for rate in RATES if train_file(root, rate).exists()]  # copies need not have all
        return [
            *(("train", partial(read_train, root, rate)) for rate in there or (0.2,)),
            ("test", partial(read_test, root)),
        ]

    def listing(self, part: Part) -> ImageList:
        return read_train(self.root, self.noise_rate) if part == "train" else super().listing(part)

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.image_lists import write_red_mini_imagenet

        write_red_mini_imagenet(root, samples)


def train_file(root: Path, rate: float) -> Path:
    return root / FOLDER / "split" / f"red_noise_nl_{rate}"


def read_train(root: Path, rate: float) -> ImageList:
    """Raises DataError if the list is missing or broken."""
    path = train_file(root, rate)
    return make_list(root / FOLDER / "all_images", read_labels(path, RedMiniImageNet.num_classes), path)


def read_test(root: Path) -> ImageList:
    """Raises DataError if the list is missing or broken."""
    path = root / FOLDER / "split" / TEST

    def pairs() -> Iterator[tuple[str, int]]:
        for name, label in read_labels(path, RedMiniImageNet.num_classes):
            yield f"{label}/{name}", label

    return make_list(root / FOLDER / "validation", pairs(), path)
