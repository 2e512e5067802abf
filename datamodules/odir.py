"""OIA-ODIR: pictures of both eyes of 5,000 patients with seven kinds of diseases (Li et al., Bench 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from PIL import Image

from datamodules.image_list import safe_name
from datamodules.images import read_rgb
from datamodules.multi_label import FindingsList, MultiLabelData, multi_hot
from datamodules.paired_views import Views, fundus_views
from datamodules.xlsx import read_sheet
from zoo.core.errors import DataError
from zoo.core.names import did_you_mean, unknown

TestSet = Literal["on_site", "off_site"]
Part = Literal["train", "on_site", "off_site"]

CLASSES = (
    *("Diabetic Retinopathy", "Glaucoma", "Cataract", "AMD", "Hypertensive Retinopathy", "Myopia", "Other Diseases"),
    "Normal",
)
OTHER, NORMAL = 6, 7
SEPARATOR = "\uff0c"  # a full-width comma

INNER = "OIA-ODIR"
FOLDERS: dict[Part, str] = {
    "train": "Training Set",
    "on_site": "On-site Test Set",
    "off_site": "Off-site Test Set",
}
SHEETS: dict[Part, str] = {
    "train": "Annotation/training annotation (English).xlsx",
    "on_site": "Annotation/on-site test annotation (English).xlsx",
    "off_site": "Annotation/off-site test annotation (English).xlsx",
}
CROPPED, WHOLE = "Images_crop", "Images"
COLUMNS = (
    "ID",
    "Left-Fundus",
    "Right-Fundus",
    "Left-Diagnostic Keywords",
    "Right-Diagnostic Keywords",
)
SIDES = ("left", "right")

# What is said of the picture, not of the eye.
QUALITY = frozenset(
    (
        *("lens dust", "optic disk photographically invisible", "low image quality", "no fundus image"),
        *("image offset", "anterior segment image"),
    )
)
_NONPROLIFERATIVE = ("nonproliferative retinopathy", "non proliferative retinopathy")
KEYWORDS: dict[str, int] = {
    **dict.fromkeys((f"{degree} {kind}" for degree in ("mild", "moderate", "severe") for kind in _NONPROLIFERATIVE), 0),
    **dict.fromkeys((f"suspected moderate {kind}" for kind in _NONPROLIFERATIVE), 0),
    **dict.fromkeys((f"{doubt}diabetic retinopathy" for doubt in ("", "suspected ", "suspicious ")), 0),
    **dict.fromkeys((f"{degree}proliferative diabetic retinopathy" for degree in ("", "severe ")), 0),
    **dict.fromkeys(("glaucoma", "suspected glaucoma"), 1),
    **dict.fromkeys(("cataract", "suspected cataract"), 2),
    **dict.fromkeys((f"{kind}age-related macular degeneration" for kind in ("", "dry ", "wet ")), 3),
    **dict.fromkeys(("hypertensive retinopathy", "mild hypertension", "sever hypertension"), 4),  # spelt so there
    **dict.fromkeys(("pathological myopia", "suspected pathological myopia"), 5),
    **dict.fromkeys(("myopia retinopathy", "myopic retinopathy", "myopic maculopathy"), 5),
    "normal fundus": NORMAL,
}
"""The class that a keyword tells; all others tell "Other Diseases"."""

DARK = 10  # of 255: the border about the retina


def eye_classes(keywords: str) -> list[int]:
    """The classes of an eye by its keywords: "Normal" only without a disease, none if nothing is said of the eye."""
    said = (item for item in keywords.split(SEPARATOR) if item not in QUALITY)
    found = sorted({KEYWORDS.get(item, OTHER) for item in said})
    return [number for number in found if number != NORMAL] or found


def labelled_eyes(keywords: Iterable[tuple[str, str]]) -> list[tuple[int, int, list[int]]]:
    """The eyes that have a class: patient's row, 1 if it is the right one, classes; all left eyes come first.

    Args:
        keywords: of the left and the right eye of each patient.
    """
    found = [(row, side, eye_classes(eyes[side])) for row, eyes in enumerate(keywords) for side in (0, 1)]
    return sorted((eye for eye in found if eye[2]), key=lambda eye: eye[1])


def crop_to_retina(image: Image.Image) -> Image.Image:
    """Without the dark border; a picture that is dark all over stays as it is."""
    box = image.convert("L").point(lambda level: 255 * (level > DARK)).getbbox()
    return image.crop(box) if box else image


class ODIR(MultiLabelData):
    """OIA-ODIR: diabetic retinopathy, glaucoma, cataract, macular degeneration, hypertension, myopia, others, normal.

    Batch: see :class:`~datamodules.multi_label.MultiLabelData`; there are no boxes. Labels are those of each eye by its
    diagnostic keywords, not the patient's; eyes of which nothing is said are left out.

    `root` holds, perhaps within `OIA-ODIR/`, `Training Set/`, `On-site Test Set/` and `Off-site Test Set/`, each with
    the English workbook in `Annotation/` and pictures in `Images/`, whose dark borders are cut off on reading, or
    without these in `Images_crop/`.

    Args:
        image_size: published 640.
        test_set: "on_site" or "off_site"; results are published for both.
        **base: see :class:`~datamodules.multi_label.MultiLabelData`.
    """

    name: ClassVar[str] = "odir"
    folder: ClassVar[str] = "odir"
    classes: ClassVar[tuple[str, ...]] = CLASSES
    normal_factors: ClassVar[tuple[float, float]] = (3.0, 3.0)
    views: ClassVar[Callable[[int], Views]] = staticmethod(fundus_views)

    def __init__(self, *, image_size: int = 640, test_set: TestSet = "on_site", **base: Any) -> None:
        super().__init__(image_size=image_size, **base)
        if test_set not in get_args(TestSet):
            raise unknown("value of data.test_set", test_set, get_args(TestSet))
        self.test_set = test_set

    @staticmethod
    def read(path: Path) -> Image.Image:
        image = read_rgb(path)
        return image if path.parent.name == CROPPED else crop_to_retina(image)

    def listing(self, part: Literal["train", "test"]) -> FindingsList:
        images = read_part(self.root, "train" if part == "train" else self.test_set)
        if missing := [path for path in images.paths if not path.is_file()]:
            raise DataError(
                f"ODIR: of {len(images.paths):,} pictures {len(missing):,} are missing (first: {missing[0]}). "
                f"`zoo data check {self.name} {self.root}` lists all."
            )
        return images

    @classmethod
    def check(cls, root: Path) -> Iterator[str]:
        for part in FOLDERS:
            try:
                paths = read_part(root, part).paths
            except DataError as error:
                yield str(error)
                continue
            yield from (f"{path} is missing." for path in paths if not path.is_file())
            yield from cls.unreadable([path for path in paths if path.is_file()])

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        from datamodules.demo.fundus import write_demo

        write_demo(root, samples)


def read_part(root: Path, part: Part) -> FindingsList:
    """The eyes of a part that have a class; the files may be missing.

    Raises:
        DataError: naming workbook and row: missing or broken, a column missing, a patient's number that is none, a file
            name that leaves its folder, no eye with a class.
    """
    folder = (root / INNER if (root / INNER).is_dir() else root) / FOLDERS[part]
    sheet = folder / SHEETS[part]
    rows = list(_patients(sheet))
    eyes = labelled_eyes((row["Left-Diagnostic Keywords"], row["Right-Diagnostic Keywords"]) for _, row in rows)
    if not eyes:
        raise DataError(f"{sheet} has no eye with a diagnosis.")
    paths = []
    for row, side, _ in eyes:
        place, cells = rows[row]
        name = safe_name(cells[f"{SIDES[side].capitalize()}-Fundus"], place)
        cropped = folder / CROPPED / name
        paths.append(cropped if cropped.is_file() else folder / WHOLE / name)
    patients = np.array([int(rows[row][1]["ID"]) for row, _, _ in eyes], np.int64)
    labels = multi_hot([classes for _, _, classes in eyes], len(CLASSES))
    return FindingsList(paths, [path.stem for path in paths], labels, patients)


def _patients(sheet: Path) -> Iterator[tuple[str, dict[str, str]]]:
    rows = read_sheet(sheet)
    header = next(rows, [])
    if missing := [name for name in COLUMNS if name not in header]:
        raise DataError(f"{sheet} has no column {missing[0]!r}. {did_you_mean(missing[0], filter(None, header))}")
    for number, cells in enumerate(rows, 2):
        if not any(map(str.strip, cells)):
            continue
        place = f"{sheet}, row {number}"
        row = dict(zip(header, [*cells, *[""] * len(header)], strict=False))
        if empty := [name for name in COLUMNS if not row[name].strip()]:
            raise DataError(f"{place}: {empty[0]} is empty.")
        if not row["ID"].isdecimal() or len(row["ID"]) > 9:
            raise DataError(f"{place}: the ID {row['ID'][:80]!r} is no number.")
        yield place, row
