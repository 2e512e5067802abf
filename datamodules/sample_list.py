"""Lists of samples that users make: a CSV of image, audio and label, or a folder of files paired by name."""

import csv
import io
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os.path import splitext
from pathlib import Path
from typing import Literal, get_args

from zoo.core.errors import DataError
from zoo.core.names import did_you_mean, unknown
from zoo.core.randomness import derive

Part = Literal["train", "val", "test"]

OPTIONAL = ("split", "id")
SUFFIXES = {"image": (".png", ".jpg", ".jpeg"), "audio": (".wav",)}


@dataclass(frozen=True)
class Row:
    """One sample. Without image or audio, that modality is absent; without part, the data module splits."""

    id: str
    image: Path | None
    audio: Path | None
    label: str | None = None
    part: Part | None = None


def inside(root: Path, name: str) -> Path:
    """The path `name` below `root`, which it may not leave, by a link neither.

    Raises:
        DataError: one sentence that names it and the root.
    """
    relative = Path(name)
    try:
        if not relative.is_absolute() and ".." not in relative.parts:
            path = root / relative
            if path.resolve().is_relative_to(root.resolve()):
                return path
    except (OSError, ValueError, RuntimeError):  # a zero byte, a name too long, links in a circle
        pass
    raise DataError(f"{name[:200]!r} is no relative path that stays inside {root}, its links followed.")


def read_csv(path: Path, root: Path, signals: Sequence[str]) -> list[Row]:
    """Read a list of samples: columns of signals and label, perhaps split and id; the files are not opened.

    Args:
        path: of the list.
        root: that paths are relative to.
        signals: "image", "audio" or both.

    Raises:
        DataError: naming file and line: no UTF-8, no CSV, a column missing or unknown, a cell too many or too few, a
            path that leaves `root`, no signal, no label, an unknown split, an id twice, no rows at all.
    """
    lines: dict[str, str] = {}
    rows: list[Row] = []
    needed = (*signals, "label")
    for place, cells in read_table(path, needed, (*needed, *OPTIONAL)):
        row = _row(cells, root, place, signals)
        if row.id in lines:
            raise DataError(
                f"{place} and {lines[row.id]} have the same id {row.id!r}. Each sample needs its own, by a "
                "column id if files occur more than once."
            )
        lines[row.id] = place.removeprefix(f"{path}, ")
        rows.append(row)
    return rows


def read_table(
    path: Path, needed: Sequence[str], known: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a CSV that a user made: where each stands, for messages, and its cells by column, stripped.

    Args:
        needed: columns that must be there.
        known: columns that may be; `None`: any.

    Raises:
        DataError: naming file and line: no UTF-8, no CSV, a column missing or unknown, a cell too many or too few, no
            rows at all.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text (byte {error.start:,}). Save it as CSV UTF-8.") from None
    reader, empty = csv.reader(io.StringIO(text, newline=""), strict=True), True
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _check_header(path, header, needed, known)
        for cells in reader:
            place = f"{path}, line {reader.line_num}"
            if not any(map(str.strip, cells)):
                continue
            if len(cells) != len(header):
                raise DataError(f"{place} has {len(cells)} cells, the header has {len(header)}.")
            empty = False
            yield place, dict(zip(header, map(str.strip, cells), strict=True))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}.") from None
    if empty:
        raise DataError(f"{path} lists no samples.")


def _check_header(path: Path, header: Sequence[str], needed: Sequence[str], known: Collection[str] | None) -> None:
    wrong = [name for name in header if known is not None and name not in known]
    if missing := [name for name in needed if name not in header]:
        near = did_you_mean(missing[0], wrong) if wrong else ""
        wanted = ", ".join(needed)
        raise DataError(f"{path} has no column {missing[0]}; its first line names {wanted}. {near}".strip())
    if wrong:  # a split that is misspelt and ignored would train on what was meant for the test
        raise DataError(f"{path} has a column {wrong[0]!r} that is not known. {did_you_mean(wrong[0], known)}")
    if len(set(header)) < len(header):
        raise DataError(f"{path} names a column twice: {', '.join(header)}.")


def _row(cells: dict[str, str], root: Path, place: str, signals: Sequence[str]) -> Row:
    files = [cells.get(name, "") for name in SUFFIXES]
    if not any(files):
        raise DataError(f"{place} has {'neither ' if len(signals) > 1 else 'no '}{' nor '.join(signals)}.")
    if not cells["label"]:
        raise DataError(f"{place} has no label.")
    part = cells.get("split")
    if part is not None and part not in get_args(Part):
        raise DataError(f"{place}: {unknown('split', part, get_args(Part))}")
    try:
        image, audio = (inside(root, name) if name else None for name in files)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    return Row(cells.get("id") or splitext(files[0] or files[1])[0], image, audio, cells["label"], part)


def read_folder(root: Path, signals: Sequence[str]) -> list[Row]:
    """The files of a folder, paired by name without suffix, in the order of these names.

    Args:
        root: the folder.
        signals: "image", for its png and jpg files, "audio", for its wav files, or both.

    Raises:
        DataError: two images or two sounds of one name, a link that leaves the folder, no such file at all.
    """
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    try:
        files = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}.") from error
    for path in files:
        suffix = path.suffix.lower()
        kind = next((kind for kind in signals if suffix in SUFFIXES[kind]), None)
        if kind and (other := found[path.stem].setdefault(kind, inside(root, path.name))) != path:
            raise DataError(f"{other} and {path.name} have the same name. Rename one, or move it away.")
    if not found:
        suffixes = [suffix[1:] for kind in signals for suffix in SUFFIXES[kind] if suffix != ".jpeg"]
        raise DataError(f"{root} has no {', '.join(suffixes[:-1])} or {suffixes[-1]} files.")
    return [Row(stem, files.get("image"), files.get("audio")) for stem, files in sorted(found.items())]


def class_names(rows: Iterable[Row]) -> tuple[str, ...]:
    """The labels that occur: by value if all are whole numbers, else by name."""
    names = {row.label for row in rows if row.label is not None}
    by_value = all(name.isdecimal() and len(name) < 20 for name in names)  # Python refuses numbers of many digits
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if by_value else None))


def split_rows(rows: Sequence[Row], val_share: float, test_share: float, seed: int) -> list[Row]:
    """Give each row its part: a rule of (seed, ids), each class spread over the parts as evenly as may be.

    Every class keeps at least one sample for training.
    """

    def key(row: Row) -> int:
        return derive(seed, "own data", "split", row.id)

    of_class: dict[str | None, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=key):
        of_class[row.label].append(row)
    # Each class has its samples at even distances from 0 to 1; where all classes are merged, any stretch is balanced.
    places = [
        ((number + 0.5) / len(same), key(row), row.id)
        for same in of_class.values()
        for number, row in enumerate(same[:-1])
    ]
    order = [name for *_, name in sorted(places)]
    test, val = round(test_share * len(rows)), round(val_share * len(rows))
    parts = dict.fromkeys(order[:test], "test") | dict.fromkeys(order[test : test + val], "val")
    return [replace(row, part=parts.get(row.id, "train")) for row in rows]
