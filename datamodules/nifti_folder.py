"""Volumes of one's own: NIfTI files listed in a CSV for training, or just folders of them for prediction."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from os.path import isfile  # Path's raises where a name is too long
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from datamodules.base import Split
from datamodules.brats import LABELS, MODALITIES, REGIONS, VALUES
from datamodules.sample_list import inside, read_table
from datamodules.volumes.cases import Case, find_cases
from datamodules.volumes.module import VolumeDataModule, broken
from zoo.core.errors import DataError, RecipeError
from zoo.core.names import unknown

LIST = "volumes.csv"
COLUMNS = ("case", "label", "split")
Part = Literal["train", "val", "test"]


def read_list(path: Path, root: Path) -> tuple[tuple[str, ...], dict[str, tuple[Case, Part]]]:
    """Read a list of cases: columns case, label and split; every other column is a modality.

    Returns:
        The modalities, in the order of the columns; by name, each case and its split. The files are not opened.

    Raises:
        DataError: naming file and line: as :func:`~datamodules.sample_list.read_table`; no modality, a name that is
            no file name or occurs twice, a path that leaves `root`, a case without volumes, an unknown split.
    """
    modalities: tuple[str, ...] = ()
    found: dict[str, tuple[Case, Part]] = {}
    for place, row in read_table(path, COLUMNS):
        modalities = tuple(column for column in row if column not in COLUMNS)
        if not modalities or not all(modalities):
            raise DataError(f"{path} names no modality: beside case, label and split, a column for each is needed.")
        name = row["case"]
        if not name or name.startswith(".") or not name.isprintable() or {*name} & {*"/\\:"} or len(name) > 200:
            raise DataError(f"{place}: {name[:200]!r} cannot name a case: predictions bear it as their file's name.")
        if name in found:
            raise DataError(f"{place}: the case {name} occurs twice.")
        if row["split"] not in get_args(Part):
            raise DataError(f"{place}: {unknown('split', row['split'], get_args(Part))}")
        try:
            files = {key: inside(root, row[key]) for key in (*modalities, "label") if row[key]}
        except DataError as error:
            raise DataError(f"{place}: {error}") from None
        label = files.pop("label", None)
        if not files:
            raise DataError(f"{place}: the case {name} has no volumes.")
        found[name] = Case(name, root, files, label), row["split"]
    return modalities, found


class NiftiFolder(VolumeDataModule):
    """Volumes of one's own, seen by one or several sequences, with or without an annotated volume.

    Batch: :class:`~datamodules.batch.VolumeSegmentation`; normalised as BraTS (see
    :func:`~datamodules.volumes.intensities.measure`). The volumes of a case must agree in shape and affine; nothing is
    resampled.

    A CSV lists the cases: `case` (a name), one column per modality, `label`, and `split` (train, val or test). Paths
    are relative to `root` and lie below it. Cells may be empty: a modality may be absent from cases that are tested.
    Prediction reads the test split, annotated or not.

    Without a CSV there is only prediction: of all folders at or below `root` that hold files of the modalities'
    names, such as `x_flair.nii.gz`; so `root` may be the folder of one case.

    Args:
        csv: the list; `None`: `volumes.csv` in `root`, if there is one.
        modalities: their names, in the model's order; `None`: as the CSV's columns, without a CSV those of BraTS.
        regions: the label values that make each region, in the model's order; values that are in none are background.
            `None`: those of BraTS, and a label other than 0, 1, 2, 4 is refused.
        root: `None`: the folder of the CSV.
        **volumes: see :class:`~datamodules.volumes.module.VolumeDataModule`.
    """

    name: ClassVar[str] = "nifti_folder"

    def __init__(
        self,
        *,
        csv: str | Path | None = None,
        modalities: list[str] | None = None,
        regions: dict[str, list[int]] | None = None,
        root: str | Path | None = None,
        **volumes: Any,
    ) -> None:
        named = Path(csv).expanduser() if csv is not None else None
        super().__init__(root=named.parent if root is None and named else root, **volumes)
        if named and self.demo:
            raise RecipeError("data.csv and data.demo exclude each other: the demo brings its own list.")
        for region, values in (regions or {}).items():
            if not values or not all(0 <= value <= 255 for value in values):
                raise RecipeError(f"data.regions.{region} is {values}; it lists label values from 0 to 255.")
        self.csv, self._modalities = named, tuple(modalities) if modalities else None
        self.regions, self.values = regions or REGIONS, None if regions else VALUES

    @property
    def list_file(self) -> Path | None:
        """The CSV, if there is one."""
        default = self.root / LIST
        return self.csv or (default if default.is_file() else None)

    @cached_property
    def _listed(self) -> tuple[tuple[str, ...], dict[str, tuple[Case, Part]]]:
        return read_list(self.list_file, self.root)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Their names, in the order of the batch. Raises DataError if the CSV lacks one, or is broken."""
        columns = self._listed[0] if self.list_file else self._modalities or MODALITIES
        if self._modalities is None:
            return columns
        for name in self._modalities:
            if name not in columns:
                raise DataError(f"{self.list_file}: {unknown('column', name, columns)}")
        return self._modalities

    def cases(self, split: Split) -> list[Case]:
        if self.list_file is None:
            if split != "predict":
                raise DataError(f"NiftiFolder: there is no {self.root / LIST}. Name a list of cases with --data.csv.")
            return self._found()
        part = "test" if split == "predict" else split
        chosen = [case for case, its in self._listed[1].values() if its == part]
        if not chosen:
            raise DataError(f"{self.list_file} has no cases for {part}.")
        if missing := [path for case in chosen for path in case.paths if not isfile(path)]:
            raise DataError(
                f"NiftiFolder: {len(missing):,} files are missing under {self.root} (first: "
                f"{missing[0].relative_to(self.root)})."
            )
        return chosen

    def _found(self) -> list[Case]:
        if cases := find_cases(self.root, self.modalities, LABELS):
            return cases
        raise DataError(
            f"NiftiFolder: under {self.root} no file bears the name of a modality, such as "
            f"x_{self.modalities[0]}.nii.gz or {self.modalities[0]}.nii. Name the modalities with --data.modalities."
        )

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        try:
            data = cls(root=root, regions={"any": [1]})  # whatever regions will be, labels are from 0 to 255
            cases = [case for case, _ in data._listed[1].values()] if data.list_file else data._found()
        except DataError as error:
            yield str(error)
            return
        missing = [path for case in cases for path in case.paths if not isfile(path)]
        yield from (f"{path} is missing." for path in missing)
        yield from broken([case for case in cases if not {*case.paths} & {*missing}], data.modalities, None)

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.nifti_folder import write_demo

        write_demo(root, samples)
