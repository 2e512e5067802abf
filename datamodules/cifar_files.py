"""CIFAR-10 and CIFAR-100 in the layout of their python version, and the human labels CIFAR-10N and CIFAR-100N."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.label_noise import refuse_labels
from zoo.core.errors import DataError
from zoo.core.names import did_you_mean
from zoo.core.reading import read_pickle

Part = Literal["train", "test"]

SIDE = 32  # pixels


@dataclass(frozen=True)
class Family:
    """What differs between CIFAR-10 and CIFAR-100.

    Attributes:
        folder: of the pickles.
        train, test: their names, in the order in which samples are counted.
        counts: samples in each pickle of the two parts.
        label_key: of the labels in a pickle.
        names: the pickle with the classes' names, and their key.
        human_file: of CIFAR-N.
        human_labels: our names of its label sets, and theirs.
    """

    num_classes: int
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    counts: dict[Part, int]
    label_key: str
    names: tuple[str, str]
    human_file: str
    human_labels: dict[str, str]

    def files(self, part: Part) -> tuple[str, ...]:
        return self.train if part == "train" else self.test


FAMILIES: dict[str, Family] = {
    "cifar10": Family(
        num_classes=10,
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test=("test_batch",),
        counts={"train": 10_000, "test": 10_000},
        label_key="labels",
        names=("batches.meta", "label_names"),
        human_file="CIFAR-10_human.pt",
        human_labels={
            "human_aggregate": "aggre_label",
            "human_random1": "random_label1",
            "human_random2": "random_label2",
            "human_random3": "random_label3",
            "human_worse": "worse_label",
        },
    ),
    "cifar100": Family(
        num_classes=100,
        folder="cifar-100-python",
        train=("train",),
        test=("test",),
        counts={"train": 50_000, "test": 10_000},
        label_key="fine_labels",
        names=("meta", "fine_label_names"),
        human_file="CIFAR-100_human.pt",
        human_labels={"human": "noisy_label"},
    ),
}


class Pictures(NamedTuple):
    """`images`: uint8 [N, 32, 32, 3], RGB. `labels`: int64 [N]."""

    images: np.ndarray
    labels: Tensor


def read_part(root: Path, family: Family, part: Part, whole: bool) -> Pictures:
    """The pictures of one part, counted through its files.

    Args:
        root: holds the family's folder.
        whole: whether files must have as many samples as the published ones.

    Raises:
        DataError: naming the file that is missing, cut, of another kind, or not whole; one that names code to run.
    """
    found = [
        read_batch(root / family.folder / name, family, family.counts[part] if whole else None)
        for name in family.files(part)
    ]
    return Pictures(np.concatenate([batch.images for batch in found]), torch.cat([batch.labels for batch in found]))


def read_batch(path: Path, family: Family, count: int | None = None) -> Pictures:
    """One pickle.

    Args:
        count: how many samples it must have; `None`: any number.

    Raises:
        DataError: as :func:`read_part`.
    """
    content = _texts(read_pickle(path), path)
    planes = content.get("data")
    if not isinstance(planes, np.ndarray) or planes.dtype != np.uint8 or planes.shape[1:] != (3 * SIDE**2,):
        raise DataError(f"{path} is no batch of CIFAR: its entry 'data' is not uint8 [N, {3 * SIDE**2}].")
    if count is not None and len(planes) != count:
        raise DataError(f"{path} has {len(planes):,} images; {count:,} belong there, in the order of the download.")
    labels = _labels(content, family.label_key, path)
    refuse_labels(labels, family.num_classes, len(planes), f"{path}: the labels")
    return Pictures(planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels)


def read_class_names(root: Path, family: Family) -> tuple[str, ...] | None:
    """The names of the classes; `None` if the file that has them was not kept.

    Raises:
        DataError: if the file is broken or names other than one text per class.
    """
    file, key = family.names
    path = root / family.folder / file
    if not path.exists():
        return None
    names = _texts(read_pickle(path), path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"{path}: its entry {key!r} is no list of names.")
    if len(names) != family.num_classes:
        raise DataError(f"{path} names {len(names)} classes; there are {family.num_classes}.")
    return tuple(name.decode("latin-1") if isinstance(name, bytes) else name for name in names)


def read_human_labels(root: Path, family: Family, name: str, clean: Tensor) -> Tensor:
    """Labels that people gave to the training images (Wei et al., ICLR 2022).

    Args:
        root: holds `CIFAR-10_human.pt` or `CIFAR-100_human.pt`.
        name: key of the family's `human_labels`.
        clean: the true labels, int64 [N].

    Returns:
        int64 [N].

    Raises:
        DataError: if the file is missing or broken, names code to run, has other classes or counts, or is in another
            order than the images.
    """
    path = root / family.human_file
    content = _texts(read_pickle(path), path)
    theirs, given = (_labels(content, key, path) for key in ("clean_label", family.human_labels[name]))
    for labels in (theirs, given):
        refuse_labels(labels, family.num_classes, len(clean), f"{path}: the labels")
    if wrong := int((theirs != clean).sum()):
        raise DataError(
            f"{path}: its true labels differ from the images' in {wrong:,} places. It is for another data set, or in "
            "another order, as TensorFlow's copy of CIFAR is."
        )
    return given


def _texts(content: Any, path: Path) -> dict[str, Any]:
    """A dictionary with texts for keys, which some writers of pickles make bytes."""
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__} where a dictionary belongs.")
    return {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in content.items()}


def _labels(content: dict[str, Any], key: str, path: Path) -> Tensor:
    if key not in content:
        raise DataError(f"{path} has no entry {key!r}. {did_you_mean(key, map(str, content))}")
    try:
        labels = np.asarray(content[key])
    except (ValueError, OverflowError):  # lists of different lengths
        labels = np.empty(0)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"{path}: its entry {key!r} is no list of whole numbers.")
    return torch.from_numpy(labels.astype(np.int64))
