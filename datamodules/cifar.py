"""CIFAR-10 and CIFAR-100 with labels that are partly wrong: drawn ones, and those of people (CIFAR-N)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules import label_noise
from datamodules.base import DEMO_RECORD, Split, ZooDataModule
from datamodules.cifar_files import (
    FAMILIES,
    SIDE,
    Family,
    Pictures,
    read_batch,
    read_class_names,
    read_human_labels,
    read_part,
)
from datamodules.held_out import Validation, ranks_within_classes, refuse_validation, spread_share
from datamodules.images import HorizontalFlip, RandomCrop, Step, apply, to_tensor
from datamodules.loading import Loader, Sample
from zoo.core.errors import DataError, RecipeError
from zoo.core.names import unknown
from zoo.core.randomness import global_seed, numpy_generator

KEPT = "noisy_labels"  # folder of drawn labels
GENERATED = ("symmetric", "asymmetric", "instance")
# Truck to automobile, bird to airplane, deer to horse, cat and dog to each other (Patrini et al. 2017).
TAKEN_FOR = (0, 1, 0, 5, 7, 3, 6, 7, 8, 1)

AUGMENT: tuple[Step, ...] = (RandomCrop(SIDE, padding=4), HorizontalFlip())


class CIFARSource:
    """Samples of one split.

    Args:
        pictures: of the part, with the true labels.
        given: int64, the labels to train on, of the whole part.
        rows: of the part that are in the split, in its order.
        part: "train" or "test", for the ids.
    """

    def __init__(self, pictures: Pictures, given: Tensor, rows: Sequence[int] | np.ndarray, part: str) -> None:
        self.pictures, self.given, self.rows, self.part = pictures, given, np.asarray(rows), part

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See :class:`~datamodules.loading.Source`. Augmentation: crop of the zero-padded image, flip."""
        row = int(self.rows[index])
        image = Image.fromarray(self.pictures.images[row])
        return {
            "image": to_tensor(apply(AUGMENT, image, rng) if rng else image),
            "label": self.given[row],
            "clean_label": self.pictures.labels[row],
            "id": f"{self.part}/{row}",
        }


class CIFAR(ZooDataModule):
    """CIFAR-10 or CIFAR-100, python version (Krizhevsky 2009), with true or wrong training labels.

    Batch: :class:`~datamodules.batch.ImageClassification`, `image` [B, 3, 32, 32]; `clean_label` is the true label and
    for analysis alone. Test labels are true. Prediction reads the test split.

    `root` holds `cifar-10-batches-py/` or `cifar-100-python/`, and for human labels `CIFAR-10_human.pt` or
    `CIFAR-100_human.pt` of the repository UCSC-REAL/cifar-10-100n. Drawn labels are kept in `root/noisy_labels`, with a
    fingerprint of what they were drawn for, and used again; a checkpoint refuses to go on with others.

    Args:
        dataset: "cifar10" or "cifar100".
        noise: "none"; "symmetric", any class; "asymmetric", the class that is easily taken for the true one (CIFAR-10
            alone); "instance", a class that the image itself suggests; or labels of people: "human_aggregate",
            "human_random1" to "human_random3", "human_worse" of CIFAR-10N, "human" of CIFAR-100N.
        noise_rate: of drawn noise, in [0, 1]. As published, some samples draw their true label: of symmetric noise
            `noise_rate` (C - 1) / C is wrong, of asymmetric noise half of `noise_rate`.
        noise_seed: of drawn noise; `None`: the run's seed. The first version of the published loader has 123.
        validation: share of the training samples, of each given label alike, that is held out to validate on, with the
            labels as given: choosing by it needs no true label. "test" validates on the clean test set, as the
            published code does: its best epoch is then chosen on the test set. 0: none, all samples are trained on.
        samples_per_class: of each true class, train on so many drawn samples; `None`: all. Fewer are part of more.
            Noise is drawn for the whole training set; the test set stays whole.
        **base: see :class:`~datamodules.base.ZooDataModule`.
    """

    name: ClassVar[str] = "cifar"
    task: ClassVar[str] = "image_classification"

    def __init__(
        self,
        *,
        dataset: Literal["cifar10", "cifar100"] = "cifar10",
        noise: str = "none",
        noise_rate: float | None = None,
        noise_seed: int | None = None,
        validation: Validation = 0.0,
        samples_per_class: int | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if dataset not in FAMILIES:
            raise unknown("value of data.dataset", dataset, FAMILIES)
        self.dataset, self.family = dataset, FAMILIES[dataset]
        drawn = [kind for kind in GENERATED if dataset == "cifar10" or kind != "asymmetric"]
        if noise not in (kinds := ("none", *drawn, *self.family.human_labels)):
            raise unknown(f"value of data.noise for {dataset}", noise, kinds)
        if (noise in GENERATED) != (noise_rate is not None):
            raise RecipeError(
                f"data.noise is {noise}, which needs a data.noise_rate."
                if noise in GENERATED
                else f"data.noise_rate is {noise_rate}, but data.noise {noise} has no rate. Drop one of them."
            )
        if noise_rate is not None and not 0 <= noise_rate <= 1:
            raise RecipeError(f"data.noise_rate is {noise_rate}; it is a share, from 0 to 1.")
        if noise_seed is not None and not 0 <= noise_seed < 2**32:
            raise RecipeError(f"data.noise_seed is {noise_seed}; it must be from 0 to 2**32 - 1.")
        refuse_validation(validation)
        if samples_per_class is not None and samples_per_class < 1:
            raise RecipeError(f"data.samples_per_class is {samples_per_class}; it must be at least 1.")
        self.noise, self.noise_rate, self.noise_seed = noise, noise_rate, noise_seed
        self.validation, self.samples_per_class = validation, samples_per_class
        self._expected_labels: str | None = None  # fingerprint, of the checkpoint

    @property
    def num_classes(self) -> int:
        return self.family.num_classes

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, if the data set's file of them is there."""
        return read_class_names(self.root, self.family)

    def prepare_data(self) -> None:
        super().prepare_data()
        if not (self.root / self.family.folder).is_dir():
            raise DataError(
                f"CIFAR: there is no folder {self.family.folder} in {self.root}. Name the folder that holds it with "
                "--data.root or ZOO_DATA, or try generated data with --data.demo=200."
            )
        evaluates = self.trainer is not None and (self.trainer.testing or self.trainer.predicting)
        if self.noise in GENERATED and not evaluates:
            _ = self._given  # drawn and written by one process, before the others read them

    def val_dataloader(self) -> Loader | list[Loader]:
        return [] if self.validation == 0 else super().val_dataloader()

    # -- splits --------------------------------------------------------------------------------------------------------

    def source(self, split: Split) -> CIFARSource:
        if split in ("test", "predict") or (split == "val" and self.validation == "test"):
            pictures = self._read("test")
            return CIFARSource(pictures, pictures.labels, range(len(pictures.labels)), "test")
        self._refuse_other_labels()
        return CIFARSource(self._training, self._given, self._rows[split], "train")

    @cached_property
    def _training(self) -> Pictures:
        return self._read("train")

    def _read(self, part: Literal["train", "test"]) -> Pictures:
        return read_part(self.root, self.family, part, self._whole)

    @property
    def _whole(self) -> bool:
        """Whether there must be as many samples as published; a demo has fewer of each class than recipes ask for."""
        return not (self.root / DEMO_RECORD).exists()

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        """Rows of the training files for "train" and "val", ascending."""
        clean, rows = self._training.labels, np.arange(len(self._given))
        if self.samples_per_class is not None:
            if self._whole and (fewest := int(clean.bincount().min())) < self.samples_per_class:
                raise DataError(
                    f"data.samples_per_class is {self.samples_per_class}, but a class under {self.root} has {fewest}."
                )
            ranks = ranks_within_classes(clean, numpy_generator(global_seed(), "cifar", "subset"))
            rows = rows[ranks < self.samples_per_class]
        if self.validation in (0, "test"):
            return {"train": rows, "val": rows[:0]}
        rng = numpy_generator(global_seed(), "cifar", "validation")
        held_out = spread_share(self._given[rows], self.validation, rng)
        return {"train": rows[~held_out], "val": rows[held_out]}

    # -- labels --------------------------------------------------------------------------------------------------------

    @cached_property
    def _given(self) -> Tensor:
        clean = self._training.labels
        if self.noise == "none":
            return clean
        if self.noise in self.family.human_labels:
            return read_human_labels(self.root, self.family, self.noise, clean)
        seed = global_seed() if self.noise_seed is None else self.noise_seed
        path = self.root / KEPT / f"{self.dataset}_{self.noise}_{self.noise_rate}_seed{seed}.safetensors"
        data = label_noise.fingerprint(self._training.images, clean)
        return label_noise.kept_labels(path, data, self.num_classes, len(clean), lambda: self._draw(seed))

    def _draw(self, seed: int) -> Tensor:
        images, clean = self._training
        if self.noise == "symmetric":
            return label_noise.symmetric_noise(clean, self.num_classes, self.noise_rate, random.Random(seed))
        if self.noise == "asymmetric":
            return label_noise.asymmetric_noise(clean, TAKEN_FOR, self.noise_rate, random.Random(seed))
        rng = np.random.RandomState(seed)
        pixels = torch.from_numpy(images)
        return label_noise.instance_noise(pixels, clean, self.num_classes, self.noise_rate, rng).labels

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    @cached_property
    def _fingerprint(self) -> str:
        """Of which samples are trained on, with which labels."""
        rows = self._rows["train"]
        return label_noise.fingerprint(rows, self._given[rows])

    def state_dict(self) -> dict[str, Any]:
        return {"training_labels": self._fingerprint} if "train" in self._sources else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._expected_labels = str(state["training_labels"])
        if "train" in self._sources:
            self._refuse_other_labels()

    def _refuse_other_labels(self) -> None:
        if self._expected_labels not in (None, self._fingerprint):
            raise DataError(
                f"CIFAR: the checkpoint was trained on other samples or other labels than these of {self.root}: see "
                "data.noise, its rate and seed, data.validation, data.samples_per_class and seed_everything."
            )

    # -- copies --------------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        there = [family for family in FAMILIES.values() if (root / family.folder).is_dir()]
        if not there:
            yield f"{root} holds neither {' nor '.join(family.folder for family in FAMILIES.values())}."
        for family in there:
            yield from _problems(root, family, whole=not (root / DEMO_RECORD).exists())

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.cifar import write_demo

        write_demo(root, samples)


def _problems(root: Path, family: Family, whole: bool) -> Iterator[str]:
    try:
        read_class_names(root, family)
    except DataError as error:
        yield str(error)
    labels: list[Tensor] | None = []
    for name in (*family.train, *family.test):
        part = "train" if name in family.train else "test"
        try:
            batch = read_batch(root / family.folder / name, family, family.counts[part] if whole else None)
        except DataError as error:
            yield str(error)
            labels = None
        else:
            if labels is not None and part == "train":
                labels.append(batch.labels)
    if labels is not None and (root / family.human_file).exists():
        for name in family.human_labels:
            try:
                read_human_labels(root, family, name, torch.cat(labels))
            except DataError as error:
                yield str(error)
