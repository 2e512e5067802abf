"""Fine-grained image classification: CUB-200-2011, Stanford Cars, Stanford Dogs, Oxford-IIIT Pets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch

from datamodules import images, warps
from datamodules.base import Split, ZooDataModule
from datamodules.demo.birds import NUM_CLASSES as DEMO_CLASSES
from datamodules.fine_grained_lists import Picture, read_cars, read_cub, read_dogs, read_part_names, read_pets
from datamodules.held_out import Validation, refuse_validation
from datamodules.image_list import SUFFIXES
from datamodules.loading import Loader, Sample
from zoo.core.errors import DataError, RecipeError
from zoo.core.names import unknown
from zoo.core.randomness import global_seed, numpy_generator

Fitting = Literal["squash", "crop"]
Augmentation = Literal["strong", "light", "none"]
Reader = Callable[[Path], tuple[list[Picture], tuple[str, ...]]]
OOD = "out_of_distribution"  # folder of a demo


def training_steps(size: int, augmentation: Augmentation) -> tuple[images.Step, ...]:
    """ "strong": MGProto's; "light": a crop of at least 80 % and a flip; "none": the whole picture."""
    if augmentation == "light":
        return images.HorizontalFlip(), images.RandomResizedCrop(size, scale=(0.80, 1.0))
    if augmentation == "none":
        return evaluation_steps(size, "squash")
    return (
        warps.RandomPerspective(distortion=0.2, p=0.5),
        images.ColourJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.02),
        images.HorizontalFlip(),
        warps.RandomAffine(degrees=25, shear=(15, 0), translate=0.05),
        images.RandomResizedCrop(size, scale=(0.60, 1.0)),
    )


def evaluation_steps(size: int, fitting: Fitting) -> tuple[images.Step, ...]:
    """ "crop": the middle of the image, of 256 pixels where the input has 224; "squash": all of it."""
    if fitting == "crop":
        return images.ResizeShorter(round(size * 256 / 224)), images.CentreCrop(size)
    return (images.Resize(size),)


class PictureSource:
    """Samples of one split.

    Args:
        pictures: in the order of the samples.
        augmentation, plain: steps with and without augmentation.
        crop_to_box: whether all but the object's box is cut off first.
        annotated: whether samples tell `parts` and `size`; their places are those of the whole picture (or its box).
        labelled: whether they tell `label`.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        augmentation: Sequence[images.Step],
        plain: Sequence[images.Step],
        crop_to_box: bool = False,
        annotated: bool = False,
        labelled: bool = True,
    ) -> None:
        self.pictures, self.augmentation, self.plain = pictures, augmentation, plain
        self.crop_to_box, self.annotated, self.labelled = crop_to_box, annotated, labelled

    def __len__(self) -> int:
        return len(self.pictures)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See :class:`~datamodules.loading.Source`."""
        picture = self.pictures[index]
        image, corner = images.read_rgb(picture.path), (0, 0)
        if self.crop_to_box and picture.box is not None:
            left, top, width, height = picture.box
            corner = (max(int(left), 0), max(int(top), 0))
            far = (min(round(left + width), image.width), min(round(top + height), image.height))
            if not (corner[0] < far[0] and corner[1] < far[1]):
                raise DataError(
                    f"{picture.path} of {image.width}×{image.height} pixels has an empty box {picture.box}."
                )
            image = image.crop((*corner, *far))
        fitted = images.apply(self.plain if rng is None else self.augmentation, image, rng)
        sample: Sample = {"image": images.to_tensor(fitted), "id": picture.id}
        if self.labelled:
            sample["label"] = torch.tensor(picture.label)
        if self.annotated:
            sample["size"] = torch.tensor([image.height, image.width])
            if picture.parts is not None:
                sample["parts"] = torch.from_numpy(picture.parts - np.float32([*corner, 0])).float()
        return sample


class FineGrained(ZooDataModule):
    """Base of the four data sets. Batch: :class:`~datamodules.batch.ImageClassification`, images RGB.

    Training pictures are augmented on the fly. The official training split trains; `validation`
    takes a share of it, or is the test split itself, as published: then `best.ckpt` is chosen by test accuracy.
    Prediction reads the test split, or `images`.

    Tests of models that tell unknown images read, after the test split, the whole of each data set in `ood`, squashed,
    with labels -1; a demo has its own ones: birds with a part of a shape that no class has (`new_shape`), and birds
    with known shapes together as no class has them (`new_combination`).

    Args:
        image_size: of the square input, in pixels.
        crop_to_box: use the annotated object alone.
        fitting: how validation and test pictures become square. "crop": shorter side to 8/7 of the size, the middle of
            it, as accuracy is published; "squash": the whole picture, as measures of interpretability need it: then
            test batches hold `parts` and `size` where parts are annotated. Passes over the training data always squash.
        augmentation: of training pictures, "strong" as MGProto's code has it; see :func:`training_steps`.
        validation: share of the training split, or "test", or 0 for none.
        ood: registered names of data sets of this family to their folders, `null` being the default one.
        images: a file or a folder of one's own pictures to predict.
        **base: see :class:`~datamodules.base.ZooDataModule`.
    """

    task: ClassVar[str] = "image_classification"
    published_classes: ClassVar[int]
    read: ClassVar[Reader]
    inner: ClassVar[str] = ""  # folder that the download makes
    part_names: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        image_size: int = 224,
        crop_to_box: bool = False,
        fitting: Fitting = "crop",
        augmentation: Augmentation = "strong",
        validation: Validation = "test",
        ood: dict[str, str | None] | None = None,
        images: str | Path | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if fitting not in get_args(Fitting):
            raise unknown("value of data.fitting", fitting, get_args(Fitting))
        if augmentation not in get_args(Augmentation):
            raise unknown("value of data.augmentation", augmentation, get_args(Augmentation))
        refuse_validation(validation)
        if image_size < 8:
            raise RecipeError(f"data.image_size is {image_size}; it must be at least 8.")
        self.image_size, self.crop_to_box, self.fitting, self.validation = image_size, crop_to_box, fitting, validation
        self.augmentation = augmentation
        self.ood, self.images = dict(ood or {}), Path(images).expanduser() if images is not None else None
        self._learned: tuple[str, ...] | None = None
        for name in self.ood:
            if name not in DATA_SETS:
                raise unknown("data set of data.ood", name, DATA_SETS)

    @property
    def num_classes(self) -> int:
        return DEMO_CLASSES if self.demo else self.published_classes

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes: the data set's, or, where it is not there, the checkpoint's."""
        try:
            return self._listed[1]
        except DataError:
            return self._learned

    @cached_property
    def _listed(self) -> tuple[list[Picture], tuple[str, ...]]:
        pictures, classes = self.read_whole(self.root)
        if len(classes) != self.num_classes:
            raise DataError(f"{self.root} lists {len(classes)} classes; {type(self).__name__} has {self.num_classes}.")
        return pictures, classes

    @classmethod
    def read_whole(cls, root: Path) -> tuple[list[Picture], tuple[str, ...]]:
        """All pictures and the classes' names. Raises DataError if a list is broken."""
        inner = root / cls.inner
        pictures, classes = cls.read(inner if inner.is_dir() else root)
        for picture in pictures:
            if not 0 <= picture.label < len(classes):
                raise DataError(f"{root}: {picture.id} is of class {picture.label + 1} of {len(classes)}.")
        return pictures, classes

    def prepare_data(self) -> None:
        if self.images is None or self.trainer is None or self.trainer.state.fn != "predict":
            super().prepare_data()
        else:
            self._check_task()

    def val_dataloader(self) -> Loader | list[Loader]:
        return [] if self.validation == 0 else super().val_dataloader()

    @property
    def test_names(self) -> tuple[str, ...]:
        """What the test loaders hold: the test split, then the out-of-distribution sets."""
        return ("test", *self._unknown)

    def test_dataloader(self) -> list[Loader]:
        found = [super().test_dataloader()]
        for name, pictures in self._unknown.items():
            self._sources[name] = PictureSource(pictures, (), evaluation_steps(self.image_size, "squash"))
            found.append(self.loader(name))
        return found

    @cached_property
    def _unknown(self) -> dict[str, list[Picture]]:
        if self.demo:
            cls, folders = CUB200, {path.name: path for path in sorted((self.root / OOD).iterdir())}
            sets = {name: cls.read_whole(folder)[0] for name, folder in folders.items()}
        else:
            sets = {}
            for name, root in self.ood.items():
                sets[name] = DATA_SETS[name](root=root)._present()
        return {name: [replace(picture, label=-1, box=None) for picture in found] for name, found in sets.items()}

    def _present(self) -> list[Picture]:
        pictures = self._listed[0]
        if missing := [picture.path for picture in pictures if not picture.path.is_file()]:
            raise DataError(
                f"{type(self).__name__}: {len(missing):,} of {len(pictures):,} files are missing under {self.root} "
                f"(first: {missing[0].relative_to(self.root)}). `zoo data check {self.name} {self.root}` lists all."
            )
        return pictures

    def source(self, split: Split) -> PictureSource:
        plain = evaluation_steps(self.image_size, "squash" if split == "train" else self.fitting)
        if split == "predict" and self.images is not None:
            squash = evaluation_steps(self.image_size, "squash")
            return PictureSource(own_pictures(self.images), (), squash, annotated=True, labelled=False)
        pictures = self._present()
        of_test = split in ("test", "predict") or self.validation == "test"
        if split == "train":
            of_test = False
        chosen = [picture for picture in pictures if picture.train != of_test]
        if not of_test and self.validation not in (0, "test"):
            held_out = self._held_out(chosen)
            chosen = [picture for picture in chosen if (picture.id in held_out) == (split == "val")]
        annotated = split in ("test", "predict") and self.fitting == "squash"
        return PictureSource(
            chosen, training_steps(self.image_size, self.augmentation), plain, self.crop_to_box, annotated
        )

    def _held_out(self, pictures: Sequence[Picture]) -> set[str]:
        """Ids of the validation samples: a share of each class by a rule of the seed, one at least; one stays."""
        found: set[str] = set()
        for label in range(self.num_classes):
            own = [picture.id for picture in pictures if picture.label == label]
            order = numpy_generator(global_seed(), self.name, "validation", label).permutation(len(own))
            found |= {own[place] for place in order[: min(max(round(self.validation * len(own)), 1), len(own) - 1)]}
        return found

    def state_dict(self) -> dict[str, Any]:
        """Part of checkpoints: predictions of one's own pictures name classes also where the data set is not."""
        return {"classes": list(self.classes or ())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._learned = tuple(state["classes"]) or None

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        try:
            pictures, classes = cls.read_whole(root)
        except DataError as error:
            yield str(error)
            return
        if len(classes) not in (cls.published_classes, DEMO_CLASSES):
            yield f"{root} lists {len(classes)} classes; the download has {cls.published_classes}."
        for picture in pictures:
            try:
                images.read_rgb(picture.path)
            except DataError as error:
                yield str(error)

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.fine_grained import WRITERS, write_demo

        write_demo(root, samples, WRITERS[cls.name])


def own_pictures(path: Path) -> list[Picture]:
    """A picture, or all PNG and JPEG files below a folder, in the order of their names.

    Raises:
        DataError: if there is none.
    """
    if path.is_file():
        return [Picture(path, path.stem, -1)]
    found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not found:
        raise DataError(f"{path} is neither a picture nor a folder with PNG or JPEG files in it.")
    return [Picture(file, str(file.relative_to(path).with_suffix("")), -1) for file in found]


class CUB200(FineGrained):
    """CUB-200-2011: 200 kinds of birds, 5,994 training and 5,794 test pictures, 15 annotated parts."""

    name, folder, inner = "cub200", "cub200", "CUB_200_2011"
    published_classes, read = 200, staticmethod(read_cub)

    @cached_property
    def part_names(self) -> tuple[str, ...]:
        """Of the entries of `parts`."""
        inner = self.root / self.inner
        return read_part_names(inner if inner.is_dir() else self.root)


class StanfordCars(FineGrained):
    """Stanford Cars: 196 models of cars, 8,144 training and 8,041 test pictures."""

    name, folder = "stanford_cars", "stanford_cars"
    published_classes, read = 196, staticmethod(read_cars)


class StanfordDogs(FineGrained):
    """Stanford Dogs: 120 breeds, 12,000 training and 8,580 test pictures."""

    name, folder = "stanford_dogs", "stanford_dogs"
    published_classes, read = 120, staticmethod(read_dogs)


class OxfordPets(FineGrained):
    """Oxford-IIIT Pets: 37 breeds of cats and dogs, 3,680 training and 3,669 test pictures."""

    name, folder = "oxford_pets", "oxford_pets"
    published_classes, read = 37, staticmethod(read_pets)


DATA_SETS: Mapping[str, type[FineGrained]] = {cls.name: cls for cls in (CUB200, StanfordCars, StanfordDogs, OxfordPets)}
