"""Animal-10N: animals that are easily confused, with labels by people (Song et al., ICML 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

from datamodules.image_list import SUFFIXES, HeldOutData, ImageList, Part, ReadList, make_list, read_class_folders
from datamodules.images import HorizontalFlip, Resize, Step
from zoo.core.errors import DataError

CLASSES = ("cat", "lynx", "wolf", "coyote", "cheetah", "jaguar", "chimpanzee", "orangutan", "hamster", "guinea pig")
FOLDERS: dict[Part, tuple[str, int]] = {"train": ("training", 50_000), "test": ("testing", 5_000)}
NUMBERS = tuple(map(str, range(len(CLASSES))))


def read_flat(folder: Path) -> ImageList:
    """Images `<class>_<serial>.jpg`, in the order of their names.

    Raises:
        DataError: if the folder has no images or one whose name does not begin with a class.
    """
    pairs = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES):
        label, line, _ = path.name.partition("_")
        if label not in NUMBERS or not line:
            raise DataError(f"{path}: the name does not begin with a class, 0_ to 9_.")
        pairs.append((path.name, int(label)))
    return make_list(folder, pairs, folder)


def read_part(folder: Path) -> ImageList:
    """Either layout: flat, as it is downloaded, or a folder for each class, 0 to 9.

    Raises:
        DataError: if the folder is missing or has neither.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is missing.")
    foldered = any(path.is_dir() for path in folder.iterdir())
    return read_class_folders(folder, NUMBERS) if foldered else read_flat(folder)


class Animal10N(HeldOutData):
    """Animal-10N: 50,000 training images of ten animals, about 8 % of the labels wrong, and 5,000 clean test images.

    Batch: :class:`~datamodules.batch.ImageClassification`, `image` [B, 3, 64, 64]. Augmentation: flip; the published
    recipe's crop of 64 pixels leaves images of 64 pixels as they are.

    `root` holds `training/` and `testing/`, with images `<class>_<serial>.jpg` as downloaded, or in folders 0 to 9.

    Args:
        **base: see :class:`~datamodules.image_list.HeldOutData`.
    """

    name: ClassVar[str] = "animal10n"
    folder: ClassVar[str] = "animal10n"
    classes: ClassVar[tuple[str, ...]] = CLASSES
    num_classes: ClassVar[int] = len(CLASSES)
    augment: ClassVar[tuple[Step, ...]] = (Resize(64), HorizontalFlip())
    steps: ClassVar[tuple[Step, ...]] = (Resize(64),)

    @classmethod
    def lists(cls, root: Path) -> Iterable[tuple[Part, ReadList]]:
        return [(part, partial(read_part, root / folder)) for part, (folder, _) in FOLDERS.items()]

    @classmethod
    def problems(cls, part: Part, images: ImageList) -> Iterator[str]:
        yield from super().problems(part, images)
        if len(images.names) != (count := FOLDERS[part][1]):
            yield f"{images.folder} has {len(images.names):,} images; {count:,} belong there."

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.image_lists import write_animal10n

        write_animal10n(root, samples)
