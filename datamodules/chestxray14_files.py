"""The files of ChestX-ray14: tables of findings and boxes, lists of the split, folders of pictures."""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.image_list import read_lines, safe_name
from zoo.core.errors import DataError
from zoo.core.names import did_you_mean

FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
    *("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", "No Finding"),
)
"""The classes; the last says that there is no finding."""

SIDE = 1024  # pixels of the published pictures, in which boxes are given
LARGEST_TABLE = 1 << 28  # bytes

ENTRIES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
BOXES = "BBox_List_2017.csv"
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}

_NUMBERS = {name: number for number, name in enumerate(FINDINGS)}
_NO_FINDING = len(FINDINGS) - 1


@dataclass(frozen=True)
class Entries:
    """The table of findings.

    Attributes:
        path: of the file.
        rows: of each picture, by its name.
        findings: classes of each picture.
        patients: int64 [N].
    """

    path: Path
    rows: dict[str, int]
    findings: Sequence[Sequence[int]]
    patients: np.ndarray


# -- tables ----------------------------------------------------------------------------------------------------------


def find_table(root: Path, *names: str) -> Path | None:
    """The first of these files that is there, plain or with ".gz"."""
    candidates = (root / f"{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def read_findings(text: str) -> list[int]:
    """The classes of an entry such as "Cardiomegaly|Effusion".

    Raises:
        DataError: naming what is no finding, or stands twice, or beside "No Finding".
    """
    found = []
    for name in text.split("|"):
        if name not in _NUMBERS:
            what = f"{name[:80]!r} is not a known finding" if name.strip() else f"a finding of {text[:80]!r} is empty"
            raise DataError(f"{what}. {did_you_mean(name, FINDINGS)}")
        found.append(_NUMBERS[name])
    if len(set(found)) < len(found) or (_NO_FINDING in found and len(found) > 1):
        raise DataError(f"{text[:200]!r} contradicts itself or names a finding twice.")
    return found


def read_entries(root: Path) -> Entries:
    """The table of findings, in its first or its corrected version.

    Raises:
        DataError: naming file and line, if it is missing or broken, or a picture stands in it twice.
    """
    path = find_table(root, *ENTRIES)
    if path is None:
        raise DataError(f"{root} has neither {' nor '.join(ENTRIES)}; with .gz it would do as well.")
    rows: dict[str, int] = {}
    findings, patients = [], []
    for place, (name, text, patient) in _columns(path, ("Image Index", "Finding Labels", "Patient ID")):
        if rows.setdefault(safe_name(name, place), len(rows)) != len(findings):
            raise DataError(f"{place}: {name} stands in the table twice.")
        if not patient.isdecimal() or len(patient) > 9:
            raise DataError(f"{place}: the patient {patient[:80]!r} is no number.")
        try:
            findings.append(read_findings(text))
        except DataError as error:
            raise DataError(f"{place}: {error}") from None
        patients.append(int(patient))
    return Entries(path, rows, findings, np.array(patients, np.int64))


def read_boxes(root: Path, entries: Entries) -> Tensor:
    """Where findings are: class, x, y, width, height as shares of the side; unused rows -1.

    Returns:
        float32 [N, K, 5], N being the rows of the table of findings; K is 0 if there is no list of boxes.

    Raises:
        DataError: naming file and line: a picture or finding that is none, a box that is no four numbers, is empty, or
            leaves the picture.
    """
    path = find_table(root, BOXES)
    found: dict[int, list[list[float]]] = defaultdict(list)
    if path is not None:
        columns = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
        for place, (name, finding, *numbers) in _columns(path, columns):
            if name not in entries.rows:
                raise DataError(f"{place}: {name[:200]!r} does not stand in {entries.path}.")
            finding = "Infiltration" if finding == "Infiltrate" else finding  # its own word for it
            if finding not in FINDINGS[:-1]:
                known = did_you_mean(finding, FINDINGS[:-1])
                raise DataError(f"{place}: {finding[:80]!r} is not a known finding. {known}")
            found[entries.rows[name]].append([_NUMBERS[finding], *_box(numbers, place)])
    boxes = torch.full((len(entries.rows), max(map(len, found.values()), default=0), 5), -1.0)
    for row, own in found.items():
        boxes[row, : len(own)] = torch.tensor(own)
    return boxes


def _box(texts: Sequence[str], place: str) -> list[float]:
    try:
        x, y, width, height = map(float, texts)
    except ValueError:
        raise DataError(f"{place}: the box {', '.join(texts)[:80]} is not four numbers.") from None
    # A thousandth of a pixel for what was rounded.
    inside = x >= 0 and y >= 0 and max(x + width, y + height) <= SIDE + 1e-3 and width > 0 and height > 0
    if not inside or not all(map(math.isfinite, (x, y, width, height))):
        raise DataError(
            f"{place}: the box x {x:g}, y {y:g}, width {width:g}, height {height:g} is empty or leaves the picture of "
            f"{SIDE}×{SIDE} pixels, in which boxes are given."
        )
    return [x / SIDE, y / SIDE, width / SIDE, height / SIDE]


def _columns(path: Path, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The cells of these columns of each line, stripped, and the line's place for messages.

    Raises:
        DataError: if the file is missing or no such table.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if missing := [name for name in names if name not in header]:
            raise DataError(f"{path} has no column {missing[0]!r}. {did_you_mean(missing[0], filter(None, header))}")
        places = [header.index(name) for name in names]
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            place = f"{path}, line {reader.line_num}"
            if len(cells) <= max(places):
                raise DataError(f"{place} has {len(cells)} cells, the header has {len(header)}.")
            yield place, [cells[column].strip() for column in places]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}.") from None


def _text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST_TABLE + 1)
        if len(content) > LARGEST_TABLE:
            raise DataError(f"{path} holds more than {LARGEST_TABLE:,} bytes; no table of ChestX-ray14 does.")
        return content.decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is broken or no gzip file: {error}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text (byte {error.start:,}).") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


# -- pictures --------------------------------------------------------------------------------------------------------


def read_list(path: Path, entries: Entries) -> list[str]:
    """Names of a part's pictures.

    Raises:
        DataError: naming file and line: missing, empty, a name that is no name or stands in no table or twice.
    """
    names: dict[str, None] = {}
    for place, line in read_lines(path):
        name = safe_name(line, place)
        if name not in entries.rows:
            raise DataError(f"{place}: {name[:200]!r} does not stand in {entries.path}.")
        if name in names:
            raise DataError(f"{place}: {name} stands in the list twice.")
        names[name] = None
    if not names:
        raise DataError(f"{path} has no images.")
    return [*names]


def find_pictures(root: Path) -> dict[str, Path]:
    """The files under `data/`, `images/` and `images_001/images/` to `images_012/images/`, by name."""
    numbered = [Path(f"images_{number:03}/images") for number in range(1, 13)]
    found: dict[str, Path] = {}
    for folder in (Path("data"), Path("images"), *numbered):
        try:
            names = os.listdir(root / folder)
        except OSError:
            continue
        for name in names:
            found.setdefault(name, root / folder / name)
    return found
