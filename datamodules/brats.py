"""BraTS: brain tumours in four MRI sequences.

Annotated values: 0 background, 1 necrotic and non-enhancing core, 2 oedema, 4 enhancing tumour. Networks predict three
overlapping regions, in this order everywhere: ET, enhancing tumour; WT, whole tumour; TC, tumour core.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from datamodules.base import DEMO_RECORD, Split
from datamodules.brats_lists import LISTS, YEAR_2018, Part, SplitList, official_parts, parts_by_rule, read_parts
from datamodules.volumes.cases import Case, find_cases
from datamodules.volumes.cleaning import clean
from datamodules.volumes.labels import labels_to_regions as labels_to_masks
from datamodules.volumes.labels import regions_to_labels as masks_to_labels
from datamodules.volumes.module import VolumeDataModule, broken
from datamodules.volumes.nifti import read_volume
from zoo.core.errors import DataError, RecipeError
from zoo.core.names import unknown

MODALITIES = ("flair", "t1", "t1ce", "t2")
REGIONS = {"ET": (4,), "WT": (1, 2, 4), "TC": (1, 4)}
VALUES = frozenset((0, 1, 2, 4))
LABELS = ("seg", "segm")  # one case of BraTS2020 has W39_1998.09.19_Segm.nii
LIST = "cases.csv"
CASES_2018 = {"HGG": 210, "LGG": 75}


def labels_to_regions(labels: Tensor) -> Tensor:
    """Regions of an annotated volume.

    Args:
        labels: integer [..., D, H, W], values 0, 1, 2, 4.

    Returns:
        uint8 [..., 3, D, H, W], 0 or 1: ET, WT, TC.
    """
    return labels_to_masks(labels, REGIONS)


def regions_to_labels(probabilities: Tensor) -> Tensor:
    """Label map of predicted regions, each being where its probability is above 0.5.

    TC overwrites WT and ET overwrites both; that the regions be nested is not enforced, so that TC outside WT is 1.

    Args:
        probabilities: float [..., 3, D, H, W]: ET, WT, TC.

    Returns:
        uint8 [..., D, H, W], values 0, 1, 2, 4.
    """
    return masks_to_labels(probabilities, REGIONS)


class BraTS(VolumeDataModule):
    """BraTS 2018, 2019 or 2020: gliomas in FLAIR, T1, T1ce and T2, as the papers of the ShaSpec family read them.

    Batch: :class:`~datamodules.batch.VolumeSegmentation`; modalities `flair`, `t1`, `t1ce`, `t2`; regions ET, WT, TC.

    `root` holds the download, at any depth: a folder per case with `<case>_{flair,t1,t1ce,t2,seg}.nii` or `.nii.gz`,
    below HGG and LGG (2018, 2019) or not (2020). Cases below a folder that bears "Validation" in its name, and others
    without an annotated volume, are what prediction reads; if there are none, it reads the test split. A folder of
    one case is a root as well.

    The parts of the data are those of the lists published for BraTS2018. Where none of their validation cases is
    there (2019, 2020, a few cases of one's own), parts of the same proportions follow from the cases' names; or a CSV
    says them.

    Args:
        split_list: "train": 228 cases train, the other 57 validate. "train_all": all 285 train, and the 57 validate
            though they are trained on; so the papers trained, and LCKD elects its teacher on the 57. "meta": 280
            train, and the 5 of MCKD's meta-validation are the validation split; `pass_loader("val", augment=True)`
            gives crops of them. The test split is the 57 in each case.
        csv: a list of one's own with columns `case` (name of a folder) and `split`: train, val, meta (validation as
            well, that of MCKD) or test (what is tested, instead of the validation cases); `None`: `cases.csv` in
            `root` if there is one.
        clean: clean up predicted label maps as published, see :func:`~datamodules.volumes.cleaning.clean`.
        **volumes: see :class:`~datamodules.volumes.module.VolumeDataModule`.
    """

    name: ClassVar[str] = "brats"
    folder: ClassVar[str] = "BraTS"
    modalities: ClassVar[tuple[str, ...]] = MODALITIES
    regions: ClassVar[dict[str, tuple[int, ...]]] = REGIONS
    values: ClassVar[frozenset[int]] = VALUES

    def __init__(
        self, *, split_list: SplitList = "train", csv: str | Path | None = None, clean: bool = False, **volumes: Any
    ) -> None:
        super().__init__(**volumes)
        self.clean = clean
        if split_list not in LISTS:
            raise unknown("value of data.split_list", split_list, LISTS)
        if csv is not None and self.demo:
            raise RecipeError("data.csv and data.demo exclude each other: the demo brings its own list.")
        self.split_list, self.csv = split_list, Path(csv).expanduser() if csv is not None else None

    @cached_property
    def _cases(self) -> list[Case]:
        if cases := find_cases(self.root, MODALITIES, LABELS):
            return cases
        raise DataError(
            f"BraTS: there are no cases under {self.root}: no folder holds files such as <case>_flair.nii.gz. "
            f"`zoo data check {self.name} {self.root}` tells more."
        )

    @cached_property
    def _parts(self) -> dict[str, Part]:
        annotated = [case for case in self._cases if not _unlabelled(case, self.root)]
        default = self.root / LIST
        if self.csv or default.is_file():
            return read_parts(self.csv or default, {case.name: case for case in annotated})
        return official_parts(case.name for case in annotated) or parts_by_rule(annotated)

    def cases(self, split: Split) -> list[Case]:
        if split == "predict" and (unlabelled := [case for case in self._cases if _unlabelled(case, self.root)]):
            return unlabelled
        training, validation = LISTS[self.split_list]
        every_validation = LISTS["train"][1]
        tested = ("test",) if "test" in self._parts.values() else every_validation
        parts = {"train": training, "val": validation}.get(split, tested)
        chosen = [case for case in self._cases if self._parts.get(case.name) in parts]
        if not chosen:
            raise DataError(f"BraTS: there are no cases for {split} under {self.root}.")
        return chosen

    def label_map(self, probabilities: Tensor, case: str) -> Tensor:
        labels = super().label_map(probabilities, case)
        if not self.clean:
            return labels
        files = next(found.files for found in self._cases if found.name == case)
        t1ce = read_volume(files["t1ce"]).voxels.transpose(1, 2, 0) if "t1ce" in files else None
        cleaned = clean(labels.permute(1, 2, 0).cpu().numpy(), t1ce)
        return torch.from_numpy(cleaned).permute(2, 0, 1).to(labels.device)

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        try:
            cases = find_cases(root, MODALITIES, LABELS)
        except DataError as error:
            yield str(error)
            return
        if not cases:
            yield f"{root} has no folder with files such as <case>_flair.nii.gz."
        if not (root / DEMO_RECORD).is_file():
            yield from _missing_cases(root, cases)
        if (root / LIST).is_file():
            try:
                read_parts(root / LIST, {case.name: case for case in cases})
            except DataError as error:
                yield str(error)
        for case in cases:
            missing = [name for name in MODALITIES if name not in case.files]
            if case.label is None and not _in_validation_folder(case, root):
                missing.append("seg")
            yield from (f"{case.folder / f'{case.name}_{name}.nii[.gz]'} is missing." for name in missing)
        yield from broken(cases, MODALITIES, VALUES)

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.brats import write_demo

        write_demo(root, samples)


def _in_validation_folder(case: Case, root: Path) -> bool:
    return any("validation" in part.lower() for part in case.folder.relative_to(root).parts[:-1])


def _unlabelled(case: Case, root: Path) -> bool:
    return case.label is None or _in_validation_folder(case, root)


def _missing_cases(root: Path, cases: list[Case]) -> Iterator[str]:
    """What a whole copy of BraTS2018 has beside these."""
    names = [case.name for case in cases if case.name.startswith(YEAR_2018) and not _in_validation_folder(case, root)]
    try:
        official_parts(names)
    except DataError as error:
        yield str(error)
    for grade, count in CASES_2018.items():
        there = sum(case.folder.parent.name == grade and case.name in names for case in cases)
        if 0 < there < count:
            yield f"{grade} of BraTS2018 has {count} cases; {there} are under {root}."
