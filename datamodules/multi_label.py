"""Data sets of pictures with any of C findings each, the last class being that there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.base import Split, ZooDataModule
from datamodules.held_out import Validation, refuse_validation
from datamodules.images import Resize, read_rgb, to_tensor
from datamodules.loading import Loader, Sample
from datamodules.paired_views import Views, mild_turned_views, mild_views
from datamodules.sample_list import read_folder
from zoo.core.errors import DataError, RecipeError
from zoo.core.names import unknown
from zoo.core.randomness import global_seed, numpy_generator

Augmentation = Literal["published", "mild", "mild_turned"]
Sampling = Literal["weighted", "uniform"]


@dataclass(frozen=True)
class FindingsList:
    """Pictures and what was found in them.

    Attributes:
        paths: of the files.
        ids: for messages and predictions.
        labels: 0 or 1, float32 [N, C].
        patients: a number for each person, int64 [N].
        boxes: class, x, y, width, height, as shares of the picture's width and height; unused rows -1; float32
            [N, K, 5].
    """

    paths: Sequence[Path]
    ids: Sequence[str]
    labels: Tensor
    patients: np.ndarray
    boxes: Tensor | None = None

    def __getitem__(self, rows: np.ndarray) -> FindingsList:
        """The part of these rows."""
        paths, ids = ([values[row] for row in rows] for values in (self.paths, self.ids))
        boxes = None if self.boxes is None else self.boxes[rows]
        return FindingsList(paths, ids, self.labels[rows], self.patients[rows], boxes)


def multi_hot(classes: Sequence[Sequence[int]], num_classes: int) -> Tensor:
    """Label vectors: row n is 1 at the classes of sample n; float32 [N, C]."""
    labels = torch.zeros(len(classes), num_classes)
    rows = torch.tensor([row for row, own in enumerate(classes) for _ in own], dtype=torch.int64)
    columns = torch.tensor([column for own in classes for column in own], dtype=torch.int64)
    labels[rows, columns] = 1
    return labels


def class_weights(labels: Tensor) -> Tensor:
    """Of each class: how many labels there are in all, over how many are of it, at least 1.

    Args:
        labels: 0 or 1 [N, C].

    Returns:
        float64 [C].
    """
    return labels.sum().double() / labels.sum(dim=0).double().clamp(min=1)


def sample_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """Mean weight of the classes that a sample has; float64 [N].

    Args:
        labels: 0 or 1 [N, C], at least one per sample.
        weights: [C].
    """
    return labels.double() @ weights.double() / labels.sum(dim=1).double()


class FindingsSource:
    """Samples of one split.

    Args:
        images: in the order of the samples.
        read: decodes a picture as RGB.
        size: of the square that models get.
        views: what is done to a picture in training.
        pairs_from_epoch: first epoch whose training samples have a second view and a partner; `None`: none has.
        labelled: whether samples tell `label` and `boxes`.
    """

    def __init__(
        self,
        images: FindingsList,
        read: Callable[[Path], Image.Image],
        size: int,
        views: Views,
        pairs_from_epoch: int | None = None,
        labelled: bool = True,
    ) -> None:
        self.images, self.read, self.size, self.views = images, read, size, views
        self.pairs_from_epoch, self.labelled, self.pairs = pairs_from_epoch, labelled, False

    def __len__(self) -> int:
        return len(self.images.paths)

    def in_epoch(self, epoch: int) -> FindingsSource:
        """See :class:`~datamodules.loading.EpochSource`."""
        return self._paired if self.pairs_from_epoch is not None and epoch >= self.pairs_from_epoch else self

    @cached_property
    def _paired(self) -> FindingsSource:
        paired = FindingsSource(self.images, self.read, self.size, self.views, self.pairs_from_epoch, self.labelled)
        paired.pairs = True
        return paired

    @cached_property
    def _with_label(self) -> list[np.ndarray]:
        """Of each class, the samples that have it."""
        return [np.flatnonzero(column) for column in self.images.labels.numpy().T]

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See :class:`~datamodules.loading.Source`. `boxes` and `size` come without augmentation alone."""
        if rng is None:
            return self._whole(index)
        if not self.pairs:
            image = self.views.one(self.read(self.images.paths[index]), rng)
            return {"image": to_tensor(image), "label": self.images.labels[index], "id": self.images.ids[index]}
        partner = self._draw_partner(index, rng)
        views = {"index": torch.tensor(partner), **self._two_views(partner, rng)}
        return self._two_views(index, rng) | {"partner": views}

    def _whole(self, index: int) -> Sample:
        image = self.read(self.images.paths[index])
        sample: Sample = {
            "image": to_tensor(Resize(self.size)(image, None)),
            "size": torch.tensor([image.height, image.width]),
            "id": self.images.ids[index],
        }
        if self.labelled:
            sample["label"] = self.images.labels[index]
        if self.labelled and self.images.boxes is not None:
            pixels = self.images.boxes[index] * torch.tensor([1, *image.size, *image.size])
            sample["boxes"] = torch.where(self.images.boxes[index, :, :1] >= 0, pixels, -1.0)
        return sample

    def _two_views(self, index: int, rng: np.random.Generator) -> Sample:
        one, two = self.views.two(self.read(self.images.paths[index]), rng)
        return {
            "image": to_tensor(one),
            "second_view": to_tensor(two),
            "label": self.images.labels[index],
            "id": self.images.ids[index],
        }

    def _draw_partner(self, index: int, rng: np.random.Generator) -> int:
        """One of the sample's labels, each as likely; then one of the samples that have it, itself among them."""
        label = rng.choice(np.flatnonzero(self.images.labels[index].numpy()))
        return int(rng.choice(self._with_label[label]))


class MultiLabelData(ZooDataModule):
    """Base of data sets of pictures with findings, as CIPL is trained on them.

    Batch: :class:`~datamodules.batch.MultiLabelClassification`, `image` [B, 3, size, size] RGB, the proportions lost;
    without augmentation with `size`, and with `boxes` where there are any. Training draws samples with replacement,
    rare findings more often (:func:`sample_weights`). From `pairs_from_epoch` on it gives, as CIPL's second stage asks,
    a second view and a partner: a label of the sample is drawn, then a sample among all that have it.

    Args:
        image_size: of the square input, in pixels.
        validation: share of the patients of the training part that is held out to validate on, by a rule of the seed;
            "test" validates on the test part, as the published code does: its best epoch is then chosen there. 0: none.
        pairs_from_epoch: `None`: training samples stay single pictures with one view.
        sampling: "weighted", or "uniform": each sample once an epoch.
        augmentation: "published", or "mild", for small pictures and short trainings, or "mild_turned", which also
            turns half of the pictures upside down, as the published one does.
        images: a file or a folder of one's own pictures to predict; `None`: the test part.
        **base: see :class:`~datamodules.base.ZooDataModule`.
    """

    task: ClassVar[str] = "multi_label_classification"
    classes: ClassVar[tuple[str, ...]]
    """Names of the findings; the last says that there is none."""
    weight_limits: ClassVar[Mapping[str, float]] = {}
    """Published weights, of classes too rare for the weights that counts give them."""
    normal_factors: ClassVar[tuple[float, float]]
    """What the weight of the last class is multiplied by, before pairs and with them."""
    views: ClassVar[Callable[[int], Views]]

    def __init__(
        self,
        *,
        image_size: int,
        validation: Validation = 0.0,
        pairs_from_epoch: int | None = None,
        sampling: Sampling = "weighted",
        augmentation: Augmentation = "published",
        images: str | Path | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        refuse_validation(validation)
        if image_size < 8:
            raise RecipeError(f"data.image_size is {image_size}; it must be at least 8.")
        if pairs_from_epoch is not None and pairs_from_epoch < 0:
            raise RecipeError(f"data.pairs_from_epoch is {pairs_from_epoch}; it must be at least 0, or null.")
        for key, value, options in (("sampling", sampling, Sampling), ("augmentation", augmentation, Augmentation)):
            if value not in get_args(options):
                raise unknown(f"value of data.{key}", value, get_args(options))
        self.image_size, self.validation, self.pairs_from_epoch = image_size, validation, pairs_from_epoch
        self.sampling, self.augmentation = sampling, augmentation
        self.images = Path(images).expanduser() if images is not None else None

    # -- to be implemented ---------------------------------------------------------------------------------------------

    def listing(self, part: Literal["train", "test"]) -> FindingsList:
        """A part of the data set. Raises DataError if its lists are broken or files are missing."""
        raise NotImplementedError

    @staticmethod
    def read(path: Path) -> Image.Image:
        """Decode a picture. Raises DataError if that fails."""
        return read_rgb(path)

    # -- shared --------------------------------------------------------------------------------------------------------

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def prepare_data(self) -> None:
        if self._own_images("predict") and self.trainer is not None and self.trainer.state.fn == "predict":
            self._check_task()
        else:
            super().prepare_data()

    def val_dataloader(self) -> Loader | list[Loader]:
        return [] if self.validation == 0 else super().val_dataloader()

    def source(self, split: Split) -> FindingsSource:
        if self._own_images(split):
            return self._source_of(own_pictures(self.images, self.num_classes), labelled=False)
        if split in ("test", "predict") or (split == "val" and self.validation == "test"):
            return self._source_of(self.listing("test"))
        images = self.listing("train")
        held_out = self._held_out(images.patients)
        return self._source_of(images[np.flatnonzero(held_out if split == "val" else ~held_out)])

    def _own_images(self, split: Split) -> bool:
        return split == "predict" and self.images is not None

    def _source_of(self, images: FindingsList, labelled: bool = True) -> FindingsSource:
        views = {"published": type(self).views, "mild": mild_views, "mild_turned": mild_turned_views}
        made = views[self.augmentation](self.image_size)
        return FindingsSource(images, self.read, self.image_size, made, self.pairs_from_epoch, labelled)

    def _held_out(self, patients: np.ndarray) -> np.ndarray:
        """Whether a training picture is of a patient of the validation part; bool [N]."""
        share = 0.0 if self.validation == "test" else self.validation
        known = np.unique(patients)
        order = numpy_generator(global_seed(), self.name, "validation").permutation(known)
        return np.isin(patients, order[: round(share * len(known))])

    def sampling_weights(self, epoch: int) -> Tensor | None:
        """See :meth:`~datamodules.base.ZooDataModule.sampling_weights`."""
        if self.sampling == "uniform":
            return None
        labels = self._source("train").images.labels
        weights = class_weights(labels)
        for name, limit in self.weight_limits.items():
            number = self.classes.index(name)
            weights[number] = weights[number].clamp(max=limit)
        pairs = self.pairs_from_epoch is not None and epoch >= self.pairs_from_epoch
        weights[-1] *= self.normal_factors[pairs]
        return sample_weights(labels, weights)

    @classmethod
    def unreadable(cls, paths: Sequence[Path]) -> Iterator[str]:
        """A line for each picture that cannot be decoded."""
        for path in paths:
            try:
                cls.read(path)
            except DataError as error:
                yield str(error)


def own_pictures(path: Path, num_classes: int) -> FindingsList:
    """A picture, or the PNG and JPEG files that lie in a folder, without labels.

    Raises:
        DataError: if there is none.
    """
    found = {path.stem: path} if path.is_file() else {row.id: row.image for row in read_folder(path, ("image",))}
    none = torch.zeros(len(found), num_classes)
    return FindingsList([*found.values()], [*found], none, np.arange(len(found)))
