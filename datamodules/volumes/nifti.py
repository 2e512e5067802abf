"""Reading one NIfTI volume that others made: what its header claims is not believed before the file bears it out."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.core.errors import DataError
from zoo.core.extras import require

SUFFIXES = (".nii.gz", ".nii")
LARGEST = 2**27  # voxels, 512 x 512 x 512
MOST_HEADER = 2**24  # bytes before the voxels, extensions included
DEFLATE_RATIO = 1032  # bytes that one byte of a gzip file can become at most


@dataclass(frozen=True)
class Volume:
    """A volume as the file has it: axes height, width, depth became depth, height, width.

    Attributes:
        voxels: [D, H, W], integers or floats, finite.
        affine: float64 [4, 4], voxel (height, width, depth) to millimetres.
    """

    voxels: np.ndarray
    affine: np.ndarray


def stem(path: Path) -> str:
    """The file's name without .nii or .nii.gz, "" if it ends otherwise."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return ""


def read_volume(path: Path) -> Volume:
    """Read a NIfTI file of three dimensions, gzipped or not.

    Raises:
        DataError: naming the file: missing, forbidden, cut, damaged, no NIfTI, not of three dimensions, more than
            512³ voxels, a header that claims more than the file holds, voxels that are no finite numbers.
    """
    nibabel = require("nibabel", "volumes")
    if not stem(path):
        raise DataError(f"{path} is no .nii or .nii.gz file.")
    broken = (
        *(OSError, EOFError, zlib.error, ValueError, OverflowError),
        *(nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError),
    )
    try:
        image = nibabel.load(path)  # the header alone
        if not isinstance(image, nibabel.Nifti1Image):  # NIfTI-2 is a subclass
            raise DataError(f"{path} is no NIfTI file.")
        size = _bytes_claimed(path, image)
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            content = file.read(size)
            if len(content) < size:
                raise DataError(f"{path} is cut: {len(content):,} of {size:,} bytes are there.")
            file.read(1)  # at its end gzip compares the checksum
        image = type(image).from_bytes(content)
        with np.errstate(over="ignore", invalid="ignore"):  # what absurd slopes make is found below
            voxels = np.asarray(image.dataobj).reshape(image.shape[:3])
        affine = np.asarray(image.affine, np.float64)
    except broken as error:
        reason = getattr(error, "strerror", None) or str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason.rstrip('.')}.") from error
    if not np.isfinite(affine).all():
        raise DataError(f"{path} has an affine that is not finite.")
    if voxels.dtype.kind == "f" and (bad := int(voxels.size - np.isfinite(voxels).sum())):
        raise DataError(f"{path} has {bad:,} voxels that are NaN or infinite. Replace them, by 0 outside the brain.")
    return Volume(np.ascontiguousarray(voxels.transpose(2, 0, 1)), affine)


def write_labels(path: Path, labels: np.ndarray, reference: Path) -> None:
    """Write a label map in the space of the volume that it was made from.

    Args:
        path: ends in .nii or .nii.gz; what was there is replaced.
        labels: whole numbers from 0 to 255, [D, H, W].
        reference: a NIfTI file whose affine and header the map takes over, but for the type of its voxels: int16.

    Raises:
        DataError: if the reference has another shape.
    """
    nibabel = require("nibabel", "volumes")
    image = nibabel.load(reference)
    if tuple(image.shape[:3]) != labels.transpose(1, 2, 0).shape:
        raise DataError(f"{reference} has the shape {image.shape}, its label map {labels.transpose(1, 2, 0).shape}.")
    header = image.header.copy()
    header.set_data_dtype(np.int16)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0  # the reference's range of greys
    nibabel.save(type(image)(labels.transpose(1, 2, 0).astype(np.int16), image.affine, header), path)


def _bytes_claimed(path: Path, image: object) -> int:
    """Bytes up to the end of the voxels, once it is clear that the file can hold so many."""
    shape, dtype = image.shape, image.get_data_dtype()
    if len(shape) < 3 or min(shape) < 1 or any(size > 1 for size in shape[3:]):
        raise DataError(f"{path} has the shape {'×'.join(map(str, shape))}; a volume has three dimensions.")
    voxels = int(np.prod([int(size) for size in shape[:3]], dtype=object))
    if voxels > LARGEST:
        raise DataError(f"{path} claims {'×'.join(map(str, shape[:3]))} voxels; more than {LARGEST:,} are not read.")
    if dtype.kind not in "iuf":
        raise DataError(f"{path} has voxels of the type {dtype}; integers and floats are read.")
    offset = int(image.dataobj.offset)
    size, there = offset + voxels * dtype.itemsize, path.stat().st_size
    held = there * DEFLATE_RATIO if path.name.lower().endswith(".gz") else there
    if not 0 <= offset <= MOST_HEADER or size > held:
        raise DataError(
            f"{path} claims {size:,} bytes of content; a file of {there:,} bytes cannot hold them: it is cut."
        )
    return size
