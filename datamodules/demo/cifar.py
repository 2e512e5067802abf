"""Writes small CIFAR-10 and CIFAR-100 of scikit-learn's digits, with labels as if people had given them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch

from datamodules.cifar_files import FAMILIES, Family
from datamodules.demo.digits import Digits, class_names, draw_digits
from datamodules.label_noise import instance_noise
from zoo.core.errors import RecipeError

SMALLEST, LARGEST = 20, 1700
# How many of the human labels are wrong, in the order of the families' label sets (Wei et al. 2022, table 1).
WRONG = (0.09, 0.17, 0.18, 0.18, 0.40)
COARSE = 20  # classes of CIFAR-100's second kind


def write_demo(root: Path, samples: int) -> None:
    """Write `samples` digits, 7 of 10 for training, once as CIFAR-10 and once, on ten colours, as CIFAR-100.

    Raises:
        RecipeError: if that is too few or too many.
    """
    if not SMALLEST <= samples <= LARGEST:
        raise RecipeError(f"A demo of CIFAR has from {SMALLEST} to {LARGEST:,} samples, not {samples}.")
    train_count = 7 * samples // 10
    for family in FAMILIES.values():
        train, test = draw_digits(train_count, samples - train_count, family.num_classes)
        folder = root / family.folder
        folder.mkdir()
        rows = np.array_split(np.arange(len(train.labels)), len(family.train))
        for name, part in zip(family.train, rows, strict=True):
            _write_batch(folder / name, family, Digits(train.images[part], train.labels[part]))
        _write_batch(folder / family.test[0], family, test)
        file, key = family.names
        (folder / file).write_bytes(pickle.dumps({key: class_names(family.num_classes)}, protocol=2))
        _write_human_labels(root / family.human_file, family, train)


def _write_batch(path: Path, family: Family, digits: Digits) -> None:
    content = {
        "batch_label": path.name,
        family.label_key: digits.labels.tolist(),
        "data": np.ascontiguousarray(digits.images.transpose(0, 3, 1, 2)).reshape(len(digits.labels), -1),
        "filenames": [f"{label}_{number:05}.png" for number, label in enumerate(digits.labels)],
    }
    if family.num_classes == 100:
        content["coarse_labels"] = (digits.labels * COARSE // family.num_classes).tolist()
    path.write_bytes(pickle.dumps(content, protocol=2))


def _write_human_labels(path: Path, family: Family, train: Digits) -> None:
    clean, images = torch.from_numpy(train.labels), torch.from_numpy(train.images)
    content = {"clean_label": train.labels}
    wrong = dict(zip(family.human_labels.values(), WRONG if len(family.human_labels) > 1 else WRONG[-1:], strict=True))
    for number, (key, rate) in enumerate(wrong.items()):
        rng = np.random.RandomState(number)
        content[key] = instance_noise(images, clean, family.num_classes, rate, rng).labels.numpy()
    torch.save(content, path)
