"""What data modules of volumes share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

from torch import Tensor

from datamodules.base import Split, ZooDataModule
from datamodules.volumes.cases import Case
from datamodules.volumes.crops import CropSampler, Size
from datamodules.volumes.decoding import decode
from datamodules.volumes.labels import labels_to_regions, regions_to_labels
from datamodules.volumes.nifti import write_labels
from datamodules.volumes.source import Reading, VolumeSource
from zoo.core.errors import DataError, RecipeError
from zoo.core.names import unknown


class VolumeDataModule(ZooDataModule):
    """Base of data modules of the task volume_segmentation.

    Batch: :class:`~datamodules.batch.VolumeSegmentation`. Without augmentation, whole volumes, one per batch: they
    differ in shape, and one fills a device. With it (training; a look at any split that asks for it), crops.

    Training and validation need all modalities and an annotated volume; elsewhere a modality that has no file is
    absent.

    Args:
        crop_size: depth, height, width of training crops; smaller volumes are padded with background. The networks of
            ShaSpec's family take multiples of 16, 32, 32.
        crop_sampler: see :func:`~datamodules.volumes.crops.draw_box`.
        cache: folder in which decoded volumes are kept from their first use on, and then mapped into memory: about
            80 MB for a BraTS case. It can be deleted at any time. `None`: files are decoded each time.
        batch_size: crops per step and device.
        **base: see :class:`~datamodules.base.ZooDataModule`.
    """

    task: ClassVar[str] = "volume_segmentation"

    def __init__(
        self,
        *,
        crop_size: tuple[int, int, int] = (80, 160, 160),
        crop_sampler: CropSampler = "papers",
        cache: str | Path | None = None,
        batch_size: int = 1,
        **base: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **base)
        if len(crop_size) != 3 or min(crop_size) < 2:
            raise RecipeError(f"data.crop_size is {[*crop_size]}; it is depth, height and width, each at least 2.")
        if crop_sampler not in get_args(CropSampler):
            raise unknown("value of data.crop_sampler", crop_sampler, get_args(CropSampler))
        self.crop_size: Size = tuple(crop_size)
        self.crop_sampler, self.cache = crop_sampler, Path(cache).expanduser() if cache is not None else None

    # -- to be implemented -------------------------------------------------------------------------------------------

    modalities: tuple[str, ...]  # names, in the order of the batch
    regions: Mapping[str, Sequence[int]]  # label values of each region, in the order of the mask's channels
    values: frozenset[int] | None = None  # that labels may have; `None`: any from 0 to 255

    def cases(self, split: Split) -> list[Case]:
        """The cases of a split, in its order. Raises DataError if the root is not whole."""
        raise NotImplementedError

    # -- shared ------------------------------------------------------------------------------------------------------

    def label_map(self, probabilities: Tensor, case: str) -> Tensor:
        """What is written of a prediction, and scored.

        Args:
            probabilities: float [R, D, H, W] of a whole volume.
            case: its name.

        Returns:
            uint8 [D, H, W], the data's label values.
        """
        return regions_to_labels(probabilities, self.regions)

    def write_labels(self, path: Path, labels: Tensor, reference: Path) -> None:
        """Write a label map [D, H, W] in the space of a volume of its case, see :func:`~.nifti.write_labels`."""
        write_labels(path, labels.cpu().numpy(), reference)

    def region_masks(self, labels: Tensor) -> Tensor:
        """uint8 [R, D, H, W], 0 or 1, of a label map [D, H, W]."""
        return labels_to_regions(labels, self.regions)

    def source(self, split: Split) -> VolumeSource:
        reading = Reading(self.modalities, self.regions, self.values, self.crop_size, self.crop_sampler, self.cache)
        training = split in ("train", "val")
        return VolumeSource(self.cases(split), reading, labelled=split != "predict", complete=training)

    def usual_batch_size(self, split: Split, augment: bool) -> int:
        return self.batch_size if augment else 1


def broken(cases: Sequence[Case], modalities: Sequence[str], values: frozenset[int] | None) -> Iterator[str]:
    """One line for each case whose volumes cannot be read or do not fit together."""
    for case in cases:
        try:
            decode(case, modalities, values)
        except DataError as error:
            yield str(error)
