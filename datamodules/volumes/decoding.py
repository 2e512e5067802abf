"""A case as arrays: its volumes read, checked against each other, measured; and the cache of what was decoded."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.volumes.cases import Case
from datamodules.volumes.intensities import Intensities, measure
from datamodules.volumes.nifti import Volume, read_volume
from zoo.core.errors import DataError

VERSION = 1  # of the cache's content; another one is decoded anew
AFFINE_TOLERANCE = 1e-3  # millimetres


@dataclass(frozen=True)
class Decoded:
    """Volumes of one case, perhaps mapped from a file.

    Attributes:
        images: [M, D, H, W], raw intensities, int16 if they fit, else float32; 0 where a modality is absent.
        intensities: what normalises each modality; `None` where it is absent.
        labels: uint8 [D, H, W], if the case is annotated.
        affine: float64 [4, 4], voxel (height, width, depth) to millimetres.
    """

    images: np.ndarray
    intensities: tuple[Intensities | None, ...]
    labels: np.ndarray | None
    affine: np.ndarray


def decode(case: Case, modalities: Sequence[str], values: frozenset[int] | None = None) -> Decoded:
    """Read a case.

    Args:
        modalities: in this order; those the case lacks are absent.
        values: that the label may have; `None`: any from 0 to 255.

    Raises:
        DataError: naming the file that is broken, differs in shape or affine from the first, or has another label.
    """
    volumes = {name: read_volume(path) for name, path in case.files.items()}
    first_name, first = next(iter(volumes.items()))
    label = read_volume(case.label) if case.label else None
    for path, volume in zip(case.paths, [*volumes.values(), *([label] if label else [])], strict=True):
        _refuse_other_space(path, volume, case.files[first_name], first)
    dtype = np.int16 if all(map(_fits_int16, volumes.values())) else np.float32
    images = np.zeros((len(modalities), *first.voxels.shape), dtype)
    for image, name in zip(images, modalities, strict=True):
        if name in volumes:
            image[...] = volumes[name].voxels
    intensities = tuple(
        measure(image) if name in volumes else None for image, name in zip(images, modalities, strict=True)
    )
    labels = _labels(case.label, label.voxels, values) if label else None
    return Decoded(images, intensities, labels, first.affine)


def _refuse_other_space(path: Path, volume: Volume, reference: Path, first: Volume) -> None:
    if volume.voxels.shape != first.voxels.shape:
        shapes = ["×".join(map(str, v.voxels.transpose(1, 2, 0).shape)) for v in (volume, first)]
        raise DataError(f"{path} has {shapes[0]} voxels, {reference.name} has {shapes[1]}. Resample one to the other.")
    if (difference := float(np.abs(volume.affine - first.affine).max())) > AFFINE_TOLERANCE:
        raise DataError(
            f"{path} and {reference.name} differ in their affines, by up to {difference:.3g}: they are not aligned "
            "voxel by voxel. Resample one to the other."
        )


def _fits_int16(volume: Volume) -> bool:
    voxels, limits = volume.voxels, np.iinfo(np.int16)
    whole = voxels.dtype.kind in "iu" or bool((voxels == np.rint(voxels)).all())
    return whole and voxels.min() >= limits.min and voxels.max() <= limits.max


def _labels(path: Path, voxels: np.ndarray, values: frozenset[int] | None) -> np.ndarray:
    found = np.unique(voxels)
    wrong = [value for value in found.tolist() if value not in (values or range(256))]
    if wrong:
        allowed = ", ".join(map(str, sorted(values))) if values else "whole numbers from 0 to 255"
        raise DataError(f"{path} has the label value {wrong[0]:g}; labels are {allowed}.")
    return voxels.astype(np.uint8)


# -- cache --------------------------------------------------------------------------------------------------------


def decode_cached(case: Case, modalities: Sequence[str], values: frozenset[int] | None, cache: Path) -> Decoded:
    """The same from `cache`, mapped into memory; decoded and written there, whole or not at all, if it is not.

    An entry counts as long as the version, the modalities, and the files' names, sizes and times are those of then.

    Raises:
        DataError: as :func:`decode`, or if the cache cannot be written.
    """
    folder, key = cache / case.name, _key(case, modalities, values)
    if (kept := _read_entry(folder, key)) is not None:
        return kept
    decoded = decode(case, modalities, values)
    try:
        _write_entry(folder, key, decoded)
    except OSError as error:
        raise DataError(
            f"The cache {cache} cannot be written: {error.strerror}. Name another with data.cache."
        ) from error
    return _read_entry(folder, key) or decoded


def _key(case: Case, modalities: Sequence[str], values: frozenset[int] | None) -> dict[str, Any]:
    try:
        files = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in case.paths]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
    return {"version": VERSION, "modalities": [*modalities], "labels": sorted(values or ()), "files": files}


def _read_entry(folder: Path, key: dict[str, Any]) -> Decoded | None:
    try:
        facts = json.loads((folder / "facts.json").read_bytes())
        if facts["key"] != key:
            return None
        return Decoded(
            np.load(folder / "images.npy", mmap_mode="r"),
            tuple(Intensities(**measured) if measured else None for measured in facts["intensities"]),
            np.load(folder / "labels.npy", mmap_mode="r") if facts["annotated"] else None,
            np.array(facts["affine"]),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError):  # none yet, or damaged
        return None


def _write_entry(folder: Path, key: dict[str, Any], decoded: Decoded) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        np.save(unfinished / "images.npy", decoded.images)
        if decoded.labels is not None:
            np.save(unfinished / "labels.npy", decoded.labels)
        facts = {
            "key": key,
            "intensities": [asdict(measured) if measured else None for measured in decoded.intensities],
            "annotated": decoded.labels is not None,
            "affine": decoded.affine.tolist(),
        }
        (unfinished / "facts.json").write_text(json.dumps(facts))
        if _read_entry(folder, key) is None:  # else another process was faster
            shutil.rmtree(folder, ignore_errors=True)
            try:
                os.rename(unfinished, folder)
            except OSError:
                if _read_entry(folder, key) is None:
                    raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
