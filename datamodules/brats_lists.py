"""Which BraTS cases train and which validate: the lists of ShaSpec, LCKD and MCKD, or a list of one's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from datamodules.sample_list import read_table
from datamodules.volumes.cases import Case
from zoo.core.errors import DataError
from zoo.core.names import did_you_mean, unknown
from zoo.core.randomness import derive

Part = Literal["train", "val", "meta", "test"]
SplitList = Literal["train", "train_all", "meta"]

# (training, validation) of each list, by the parts of the data.
LISTS: dict[SplitList, tuple[tuple[Part, ...], tuple[Part, ...]]] = {
    "train": (("train",), ("val", "meta")),
    "train_all": (("train", "val", "meta"), ("val", "meta")),
    "meta": (("train", "val"), ("meta",)),
}

# BraTS18_metaVal.csv; with the others BraTS18_val.csv: 40 high-grade and 17 low-grade gliomas of BraTS2018.
META = ("CBICA_AQQ_1", "2013_15_1", "TCIA09_141_1", "2013_10_1", "TCIA13_645_1")
_OTHERS = (
    "TCIA01_203_1 CBICA_AWH_1 TCIA01_190_1 TCIA01_412_1 CBICA_ASV_1 CBICA_ALU_1 CBICA_ABO_1 TCIA04_149_1 "
    "TCIA02_605_1 CBICA_AOH_1 TCIA01_460_1 CBICA_ASA_1 CBICA_ABY_1 CBICA_ATB_1 TCIA08_242_1 TCIA01_429_1 "
    "CBICA_AXL_1 CBICA_ARW_1 CBICA_ANP_1 TCIA03_138_1 TCIA04_343_1 TCIA01_499_1 CBICA_AXJ_1 CBICA_ASN_1 "
    "TCIA02_135_1 CBICA_AYI_1 TCIA02_455_1 CBICA_AYU_1 TCIA06_165_1 TCIA02_430_1 TCIA02_198_1 CBICA_AQR_1 "
    "CBICA_AQA_1 TCIA02_300_1 TCIA01_131_1 CBICA_ATV_1 TCIA01_147_1 TCIA02_331_1 TCIA10_202_1 TCIA13_654_1 "
    "TCIA09_493_1 TCIA12_298_1 TCIA10_307_1 TCIA10_490_1 2013_6_1 TCIA10_241_1 TCIA09_402_1 TCIA13_630_1 "
    "TCIA13_642_1 TCIA10_325_1 TCIA10_644_1 TCIA10_276_1 "
)
VALIDATION = (*META, *_OTHERS.split())
YEAR_2018 = "Brats18_"


def official_parts(names: Iterable[str]) -> dict[str, Part] | None:
    """Part of each training case of BraTS2018; `None` if none of the official validation cases is among them.

    Raises:
        DataError: if some of these are there and some not: the published lists cannot be rebuilt.
    """
    names = [*names]
    there, missing = [], []
    for case in VALIDATION:
        (there if f"{YEAR_2018}{case}" in names else missing).append(f"{YEAR_2018}{case}")
    if not there:
        return None
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(VALIDATION)} cases of the published validation list are missing (first: "
            f"{missing[0]}). Complete the copy, or name a list of your own with data.csv."
        )
    meta = {f"{YEAR_2018}{case}" for case in META}
    return {name: "meta" if name in meta else "val" if name in there else "train" for name in names}


def parts_by_rule(cases: Sequence[Case]) -> dict[str, Part]:
    """Parts in the published proportions where there is no published list: a rule of the cases' names.

    A fifth validates, at least one, spread evenly over the folders that cases lie in (grades).
    """
    of_grade: dict[str, list[str]] = defaultdict(list)
    for name, grade in sorted(((case.name, case.folder.parent.name) for case in cases), key=lambda c: derive(*c)):
        of_grade[grade].append(name)
    places = sorted(
        ((number + 0.5) / len(same), name) for same in of_grade.values() for number, name in enumerate(same)
    )
    order = [name for _, name in places]
    meta, validation = (max(round(len(order) * share / 285), 1) for share in (len(META), len(VALIDATION)))
    return {
        name: "meta" if place < meta else "val" if place < validation else "train" for place, name in enumerate(order)
    }


def read_parts(path: Path, cases: Mapping[str, Case]) -> dict[str, Part]:
    """A list of one's own: a CSV with the columns `case`, the name of a folder, and `split`.

    Raises:
        DataError: naming file and line: as :func:`~datamodules.sample_list.read_table`, an unknown split, a case that
            is not there or occurs twice.
    """
    parts: dict[str, Part] = {}
    for place, row in read_table(path, ("case", "split"), ("case", "split")):
        name = row["case"]
        if row["split"] not in get_args(Part):
            raise DataError(f"{place}: {unknown('split', row['split'], get_args(Part))}")
        if name not in cases:
            raise DataError(f"{place}: there is no case {name[:200]!r}. {did_you_mean(name, cases)}")
        if name in parts:
            raise DataError(f"{place}: the case {name} occurs twice.")
        parts[name] = row["split"]
    return parts
