"""Reading the texts of an Excel workbook's first sheet, which is all that data sets' annotations need."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from zoo.core.errors import DataError

SPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
LARGEST_MEMBER = 1 << 26  # bytes, unpacked
LARGEST_COLUMN = 1000


def read_sheet(path: Path) -> Iterator[list[str]]:
    """The rows of the first sheet, each as long as its last cell needs; numbers as they are written in the file.

    Raises:
        DataError: naming the file, if it is missing, broken, no workbook, or unreasonably large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sheets = sorted(name for name in archive.namelist() if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name))
            if not sheets:
                raise DataError(f"{path} is no Excel workbook (.xlsx): it has no sheet.")
            has_strings = "xl/sharedStrings.xml" in archive.namelist()
            strings = _strings(_tree(archive, "xl/sharedStrings.xml", path)) if has_strings else []
            first = min(sheets, key=lambda name: (len(name), name))
            yield from _rows(_tree(archive, first, path), strings)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is broken or no Excel workbook (.xlsx): {error}.") from None
    except (ElementTree.ParseError, ValueError, IndexError) as error:
        raise DataError(f"{path} is a broken Excel workbook: {error}.") from None


def _tree(archive: zipfile.ZipFile, name: str, path: Path) -> ElementTree.Element:
    with archive.open(name) as member:
        content = member.read(LARGEST_MEMBER + 1)
    if len(content) > LARGEST_MEMBER:
        raise DataError(f"{path}: {name} in it holds more than {LARGEST_MEMBER:,} bytes.")
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # no workbook has any; they make texts grow without end
        raise DataError(f"{path}: {name} in it defines entities, which no workbook does.")
    return ElementTree.fromstring(content)


def _strings(tree: ElementTree.Element) -> list[str]:
    return [_text(item) for item in tree.iter(f"{SPACE}si")]


def _text(item: ElementTree.Element) -> str:
    """Of all runs of a text; not of the phonetic ones."""
    runs = [*item.findall(f"{SPACE}t"), *item.findall(f"{SPACE}r/{SPACE}t")]
    return "".join(run.text or "" for run in runs)


def _rows(tree: ElementTree.Element, strings: list[str]) -> Iterator[list[str]]:
    for row in tree.iter(f"{SPACE}row"):
        cells: dict[int, str] = {}
        for cell in row.findall(f"{SPACE}c"):
            place = _column(cell.get("r")) if cell.get("r") else max(cells, default=-1) + 1
            kind, inline, value = cell.get("t"), cell.find(f"{SPACE}is"), cell.findtext(f"{SPACE}v") or ""
            cells[place] = _text(inline) if inline is not None else strings[int(value)] if kind == "s" else value
        yield [cells.get(place, "") for place in range(max(cells, default=-1) + 1)]


def _column(reference: str) -> int:
    """Of a cell's reference such as "AB12", from 0."""
    number = 0
    for letter in re.match(r"[A-Z]*", reference).group():
        number = 26 * number + ord(letter) - ord("A") + 1
    if not 0 < number <= LARGEST_COLUMN:
        raise ValueError(f"the cell {reference[:20]!r} is none of its first {LARGEST_COLUMN:,} columns")
    return number - 1
