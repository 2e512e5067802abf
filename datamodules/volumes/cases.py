"""Finding cases: folders that hold one NIfTI file per sequence."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.volumes.nifti import stem
from zoo.core.errors import DataError

DEPTH = 5  # folders below the root that are looked into


@dataclass(frozen=True)
class Case:
    """One patient's volumes.

    Attributes:
        name: its folder's.
        files: of the sequences that are there, by modality.
        label: the annotated volume, if there is one.
    """

    name: str
    folder: Path
    files: dict[str, Path]
    label: Path | None = None

    @property
    def paths(self) -> list[Path]:
        return [*self.files.values(), *([self.label] if self.label else [])]


def find_cases(root: Path, modalities: Sequence[str], labels: Iterable[str]) -> list[Case]:
    """All folders at or below `root` that hold volumes of these modalities, sorted by name.

    A file belongs to a modality if its name without .nii or .nii.gz is the modality's, or ends with it after an
    underscore or a hyphen; likewise for `labels`. The case of letters does not count.

    Raises:
        DataError: a folder that cannot be read, two files of a kind, two cases of a name.
    """
    found: dict[str, Case] = {}
    for folder, names in _folders(root):
        if case := _case(folder, names, modalities, labels):
            if other := found.get(case.name):
                raise DataError(f"{other.folder} and {case.folder} are cases of the same name. Move one away.")
            found[case.name] = case
    return [found[name] for name in sorted(found)]


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error

    for folder, below, names in os.walk(root, onerror=refuse, followlinks=True):
        depth = len(Path(folder).relative_to(root).parts)
        below[:] = sorted(name for name in below if not name.startswith(".")) if depth < DEPTH else []
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def _case(folder: Path, names: Sequence[str], modalities: Sequence[str], labels: Iterable[str]) -> Case | None:
    files: dict[str, Path] = {}
    kinds = dict.fromkeys(map(str.lower, modalities)) | dict.fromkeys(map(str.lower, labels), "label")
    spelt = {name.lower(): name for name in modalities}
    for path in (folder / name for name in names):
        base = stem(path).lower()
        kind = next((kind for kind in kinds if base == kind or base.endswith((f"_{kind}", f"-{kind}"))), None)
        if kind is None:
            continue
        key = kinds[kind] or spelt[kind]
        if key in files:
            raise DataError(f"{files[key]} and {path.name} are both the {key} of one case. Move one away.")
        files[key] = path
    label = files.pop("label", None)
    return Case(folder.resolve().name if folder == Path() else folder.name, folder, files, label) if files else None
