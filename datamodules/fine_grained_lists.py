"""What the downloads of CUB, Cars, Dogs and Pets list: which image is of which class, and in which split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.sample_list import inside
from zoo.core.errors import DataError
from zoo.core.extras import require


@dataclass(frozen=True)
class Picture:
    """One image of a data set.

    Attributes:
        path: of the file.
        id: its path in the download without suffix.
        label: class number; -1 for none.
        train: whether it is in the official training split.
        box: left, top, width, height of the object in pixels.
        parts: x, y and whether visible, per annotated part [Q, 3].
    """

    path: Path
    id: str
    label: int
    train: bool = False
    box: tuple[float, float, float, float] | None = None
    parts: np.ndarray | None = None


def _rows(path: Path, fields: int) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of a text file of `fields` fields per line, the last of which may hold spaces."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            row = line.split(maxsplit=fields - 1)
            if len(row) != fields:
                raise DataError(f"{path}, line {number}: {len(row)} fields, not {fields}: {line[:80]!r}.")
            yield number, row


def _table(path: Path, fields: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number, (key, *rest) in _rows(path, fields):
        if key in found:
            raise DataError(f"{path}, line {number}: {key} occurs twice.")
        found[key] = rest
    return found


def _numbers(path: Path, key: str, row: list[str]) -> list[float]:
    try:
        values = [float(value) for value in row]
    except ValueError:
        raise DataError(f"{path}: the entry of {key} should be numbers, is {' '.join(row)[:80]!r}.") from None
    if not np.isfinite(values).all():
        raise DataError(f"{path}: the entry of {key} holds numbers that are not finite.")
    return values


def _entry(table: dict[str, list[str]], key: str, path: Path) -> list[str]:
    if key not in table:
        raise DataError(f"{path} has no entry for {key}.")
    return table[key]


def read_cub(root: Path) -> tuple[list[Picture], tuple[str, ...]]:
    """CUB-200-2011: pictures in the list's order, and the classes' names; labels from 0.

    Raises:
        DataError: naming the file and the entry that is wrong.
    """
    lists = {
        name: _table(root / f"{name}.txt", fields)
        for name, fields in (
            ("images", 2),
            ("classes", 2),
            ("image_class_labels", 2),
            ("train_test_split", 2),
            ("bounding_boxes", 5),
        )
    }
    numbers = {key: number for number, key in enumerate(lists["classes"])}
    parts, pictures = _cub_parts(root / "parts"), []
    for key, (name,) in lists["images"].items():
        (label,) = _entry(lists["image_class_labels"], key, root / "image_class_labels.txt")
        if label not in numbers:
            raise DataError(f"{root / 'image_class_labels.txt'}: image {key} is of class {label}, which is none.")
        (train,) = _entry(lists["train_test_split"], key, root / "train_test_split.txt")
        box_file = root / "bounding_boxes.txt"
        box = tuple(_numbers(box_file, key, _entry(lists["bounding_boxes"], key, box_file)))
        path = inside(root / "images", name)
        pictures.append(
            Picture(path, _stem(name), numbers[label], train == "1", box, parts.get(key) if parts else None)
        )
    return pictures, tuple(name for (name,) in lists["classes"].values())


def read_part_names(root: Path) -> tuple[str, ...]:
    """Names of CUB's annotated parts."""
    return tuple(name for (name,) in _table(root / "parts" / "parts.txt", 2).values())


def _cub_parts(folder: Path) -> dict[str, np.ndarray]:
    path = folder / "part_locs.txt"
    if not path.is_file():
        return {}
    numbers = {key: number for number, key in enumerate(_table(folder / "parts.txt", 2))}
    found: dict[str, np.ndarray] = {}
    for line, (key, part, *place) in _rows(path, 5):
        if part not in numbers:
            raise DataError(f"{path}, line {line}: {part} is no part of {folder / 'parts.txt'}.")
        parts = found.setdefault(key, np.zeros((len(numbers), 3), np.float32))
        parts[numbers[part]] = _numbers(path, key, place)
    return found


def read_cars(root: Path) -> tuple[list[Picture], tuple[str, ...]]:
    """Stanford Cars: `cars_annos.mat` and `car_ims/`."""
    path = root / "cars_annos.mat"
    content = _mat(path, "annotations", "class_names")
    pictures = []
    for entry in content["annotations"].reshape(-1):
        name = str(entry["relative_im_path"])
        left, top, right, bottom = (float(entry[f"bbox_{side}"]) for side in ("x1", "y1", "x2", "y2"))
        box = (left, top, right - left, bottom - top)
        pictures.append(Picture(inside(root, name), _stem(name), int(entry["class"]) - 1, not int(entry["test"]), box))
    return pictures, tuple(str(name) for name in content["class_names"].reshape(-1))


def read_dogs(root: Path) -> tuple[list[Picture], tuple[str, ...]]:
    """Stanford Dogs: `lists/*_list.mat` and `Images/`; classes are the synsets' folders, sorted."""
    rows = []
    for part in ("train", "test"):
        content = _mat(root / "lists" / f"{part}_list.mat", "file_list", "labels")
        files, labels = content["file_list"].reshape(-1), content["labels"].reshape(-1)
        rows += [(str(name), int(label) - 1, part == "train") for name, label in zip(files, labels, strict=True)]
    pictures = [Picture(inside(root / "Images", name), _stem(name), label, train) for name, label, train in rows]
    return pictures, tuple(sorted({name.partition("/")[0] for name, _, _ in rows}))


def read_pets(root: Path) -> tuple[list[Picture], tuple[str, ...]]:
    """Oxford-IIIT Pets: `annotations/{trainval,test}.txt` and `images/`; labels in the order of the class ids."""
    pictures, names = [], {}
    for part in ("trainval", "test"):
        path = root / "annotations" / f"{part}.txt"
        for line, (name, label, _, _) in _rows(path, 4):
            if not label.isdigit() or not int(label):
                raise DataError(f"{path}, line {line}: {label!r} is no class id.")
            names.setdefault(int(label) - 1, name.rpartition("_")[0])
            pictures.append(Picture(inside(root / "images", f"{name}.jpg"), name, int(label) - 1, part == "trainval"))
    return pictures, tuple(names[number] for number in sorted(names))


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _mat(path: Path, *keys: str) -> dict[str, np.ndarray]:
    io = require("scipy.io", "vision")
    try:
        content = io.loadmat(path, simplify_cells=False, squeeze_me=True, chars_as_strings=True)
        return {key: np.atleast_1d(content[key]) for key in keys}
    except KeyError as error:
        raise DataError(f"{path} has no variable {error}.") from None
    except Exception as error:  # of a dozen classes, for what is cut or garbled
        raise DataError(f"{path} cannot be read: {error}") from error
