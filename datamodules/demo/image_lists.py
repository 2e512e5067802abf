"""Writes small data sets of image files, in the layouts of five data modules.

All show scikit-learn's digits, on coloured paper where there are more than ten classes; a fifth of the training labels
is replaced by drawn ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image

from datamodules.animal10n import FOLDERS
from datamodules.demo.digits import Digits, draw_digits
from datamodules.label_noise import symmetric_noise
from datamodules.own_data import DIGIT_NAMES
from datamodules.red_mini_imagenet import FOLDER, RATES, TEST, train_file
from datamodules.webvision import CLASSES, IMAGENET
from zoo.core.errors import RecipeError

SMALLEST, LARGEST = 20, 1000
RATE = 0.2


def _parts(samples: int, num_classes: int, size: int) -> tuple[Digits, Digits, list[int]]:
    """Training and test digits, 7 to 3, and the labels given to the former.

    Raises:
        RecipeError: if that is too few or too many.
    """
    if not SMALLEST <= samples <= LARGEST:
        raise RecipeError(f"A demo of image files has from {SMALLEST} to {LARGEST:,} samples, not {samples}.")
    train, test = draw_digits(7 * samples // 10, samples - 7 * samples // 10, num_classes, size)
    return train, test, _given(train, num_classes, RATE)


def _given(digits: Digits, num_classes: int, rate: float) -> list[int]:
    return symmetric_noise(torch.from_numpy(digits.labels), num_classes, rate, random.Random(0)).tolist()


def _save(digits: Digits, folder: Path, names: Iterable[str]) -> None:
    for image, name in zip(digits.images, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name, quality=95)


def _write_list(path: Path, names: Iterable[str], labels: Iterable[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} {label}\n" for name, label in zip(names, labels, strict=True)))


def write_animal10n(root: Path, samples: int) -> None:
    """The flat layout."""
    train, test, given = _parts(samples, 10, 64)
    for digits, labels, (folder, _) in ((train, given, FOLDERS["train"]), (test, test.labels, FOLDERS["test"])):
        _save(digits, root / folder, (f"{label}_{number:05}.jpg" for number, label in enumerate(labels)))


def write_red_mini_imagenet(root: Path, samples: int) -> None:
    """With all noise rates."""
    train, test, _ = _parts(samples, 100, 48)
    names = [f"{number:08}.jpg" for number in range(samples)]
    _save(train, root / FOLDER / "all_images", names[: len(train.labels)])
    for rate in RATES:
        _write_list(train_file(root, rate), names[: len(train.labels)], _given(train, 100, rate))
    of_test = names[len(train.labels) :]
    paths = (f"{label}/{name}" for label, name in zip(test.labels, of_test, strict=True))
    _save(test, root / FOLDER / "validation", paths)
    _write_list(root / FOLDER / "split" / TEST, of_test, test.labels)


def write_clothing1m(root: Path, samples: int) -> None:
    """A third of the test digits is for validation."""
    train, test, given = _parts(samples, 14, 64)
    keys = [f"images/{number % 10}/{number:010}.jpg" for number in range(samples)]
    of_train, of_test = keys[: len(train.labels)], keys[len(train.labels) :]
    _save(train, root, of_train)
    _save(test, root, of_test)
    _write_list(root / "noisy_label_kv.txt", of_train, given)
    _write_list(root / "clean_label_kv.txt", of_test, test.labels)
    third = len(of_test) // 3
    for name, part in (("noisy_train", of_train), ("clean_val", of_test[:third]), ("clean_test", of_test[third:])):
        (root / f"{name}_key_list.txt").write_text("".join(f"{key}\n" for key in part))


def write_webvision(root: Path, samples: int) -> None:
    """The test digits are WebVision's and ImageNet's alike."""
    train, test, given = _parts(samples, CLASSES, 64)
    of_train = [f"google/q{label:04}/{number:06}.jpg" for number, label in enumerate(given)]
    _save(train, root, of_train)
    _write_list(root / "info/train_filelist_google.txt", of_train, given)
    of_test = [f"val{number:06}.jpg" for number in range(len(test.labels))]
    _save(test, root / "val_images_256", of_test)
    _write_list(root / "info/val_filelist.txt", of_test, test.labels)
    for label in range(CLASSES):
        (root / IMAGENET / str(label)).mkdir(parents=True)
    _save(test, root / IMAGENET, (f"{label}/{name}" for label, name in zip(test.labels, of_test, strict=True)))


def write_image_folder(root: Path, samples: int) -> None:
    """A folder for each class; a seventh of the training digits is for validation."""
    train, test, _ = _parts(samples, 10, 32)
    seventh = len(train.labels) // 7
    parts = {
        "train": Digits(train.images[seventh:], train.labels[seventh:]),
        "val": Digits(train.images[:seventh], train.labels[:seventh]),
        "test": test,
    }
    for part, digits in parts.items():
        names = (f"{DIGIT_NAMES[label]}/{number:05}.png" for number, label in enumerate(digits.labels))
        _save(digits, root / part, names)
