"""Samples of volume segmentation: whole volumes, or training crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.loading import Sample
from datamodules.volumes.augmentation import augment
from datamodules.volumes.cases import Case
from datamodules.volumes.crops import CropSampler, Size, draw_box, draw_mirror
from datamodules.volumes.decoding import Decoded, decode, decode_cached
from datamodules.volumes.labels import labels_to_regions
from zoo.core.errors import DataError


@dataclass(frozen=True)
class Reading:
    """How cases become samples; the same for all splits.

    Attributes:
        modalities: in the order of the batch.
        regions: label values that make each region, in the order of the mask.
        values: that a label may have; `None`: any.
        cache: folder of decoded volumes, if any.
    """

    modalities: tuple[str, ...]
    regions: Mapping[str, Sequence[int]]
    values: frozenset[int] | None
    crop: Size
    sampler: CropSampler
    cache: Path | None

    def decode(self, case: Case) -> Decoded:
        if self.cache is None:
            return decode(case, self.modalities, self.values)
        return decode_cached(case, self.modalities, self.values, self.cache)

    def masks(self, labels: np.ndarray) -> Tensor:
        """uint8 [R, D, H, W], 0 or 1, of labels uint8 [D, H, W], perhaps mapped from a file."""
        return labels_to_regions(torch.from_numpy(np.array(labels)), self.regions)


class VolumeSource:
    """Samples of one split.

    Args:
        cases: in the order of the samples.
        labelled: whether samples have a mask, and cases must be annotated.
        complete: whether cases must have all modalities; else those missing are absent.
    """

    def __init__(self, cases: Sequence[Case], reading: Reading, *, labelled: bool, complete: bool) -> None:
        self.cases, self.reading, self.labelled, self.complete = cases, reading, labelled, complete

    def __len__(self) -> int:
        return len(self.cases)

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """See :class:`~datamodules.loading.Source`: a crop drawn by `rng`, else the whole volume.

        Raises:
            DataError: naming what is missing or broken.
        """
        case = self.cases[index]
        missing = [name for name in self.reading.modalities if name not in case.files]
        if self.complete and missing:
            raise DataError(
                f"The case {case.name} in {case.folder} has no {missing[0]}; this split needs all modalities."
            )
        if self.labelled and case.label is None:
            raise DataError(f"The case {case.name} in {case.folder} has no annotated volume; this split needs it.")
        decoded = self.reading.decode(case)
        image, mask, rest = self._whole(case, decoded) if rng is None else self._crop(decoded, rng)
        sample = {
            "modalities": {name: image[i, None] for i, name in enumerate(self.reading.modalities)},
            "present": {name: torch.tensor(name in case.files) for name in self.reading.modalities},
            "id": case.name,
            **rest,
        }
        return sample if mask is None else sample | {"mask": mask}

    def _whole(self, case: Case, decoded: Decoded) -> tuple[Tensor, Tensor | None, Sample]:
        everywhere = (slice(None),) * 3
        mask = self.reading.masks(decoded.labels) if self.labelled else None
        # The published predictions bear T1's header; sequences agree in space, so that the choice hardly matters.
        reference = case.files.get("t1") or next(iter(case.files.values()))
        rest = {"affine": torch.from_numpy(decoded.affine.copy()), "reference": str(reference)}
        return _normalised(decoded, everywhere), mask, rest

    def _crop(self, decoded: Decoded, rng: np.random.Generator) -> tuple[Tensor, Tensor, Sample]:
        crop = self.reading.crop
        decoded = _at_least(decoded, crop)
        masks = self.reading.masks(decoded.labels)
        box = draw_box(masks.numpy(), crop, rng, self.reading.sampler)
        image = _normalised(decoded, box.slices)
        mask = masks[(slice(None), *box.slices)]
        if image.shape[1:] != crop:
            image = F.interpolate(image[None], crop, mode="trilinear")[0]
            mask = F.interpolate(mask[None], crop, mode="nearest-exact")[0]
        axes = [1 + axis for axis in draw_mirror(rng)]
        image, mask = augment(image.flip(axes), mask.flip(axes), rng)
        return image.contiguous(), mask.contiguous(), {}


def _normalised(decoded: Decoded, part: tuple[slice, slice, slice]) -> Tensor:
    """float32 [M, D, H, W] of a part of the volume; 0 where a modality is absent."""
    pieces = [
        measured.apply(image[part]) if measured else torch.zeros(image[part].shape)
        for image, measured in zip(decoded.images, decoded.intensities, strict=True)
    ]
    return torch.stack(pieces)


def _at_least(decoded: Decoded, size: Size) -> Decoded:
    """With background at the end of each axis that is shorter than `size`."""
    missing = [(0, max(want - side, 0)) for want, side in zip(size, decoded.labels.shape, strict=True)]
    if not np.any(missing):
        return decoded
    backgrounds = [measured.background if measured else 0 for measured in decoded.intensities]
    images = [
        np.pad(image, missing, constant_values=background)
        for image, background in zip(decoded.images, backgrounds, strict=True)
    ]
    return replace(decoded, images=np.stack(images), labels=np.pad(decoded.labels, missing))
