"""Text files that name one clip per line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from zoo.core.errors import DataError


def read_text(path: Path) -> str:
    """A UTF-8 file. Raises DataError: missing, unreadable, of another encoding."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text (byte {error.start:,}).") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def read_lines(path: Path) -> list[str]:
    """The names in a list, one per line. Raises DataError as :func:`read_text` and :func:`checked` do."""
    return checked((line.strip() for line in read_text(path).splitlines() if line.strip()), path)


def checked(names: Iterable[str], path: Path) -> list[str]:
    """Refuse names that could lead out of a folder, names that occur twice, and a list without names.

    Raises:
        DataError: naming the list `path`.
    """
    found: dict[str, None] = {}
    for name in names:
        if PurePosixPath(name).name != name or not name.strip(".") or "\\" in name or not name.isprintable():
            raise DataError(f"{path} names no clip by {name[:80]!r}.")
        if name in found:
            raise DataError(f"{path} lists {name} twice.")
        found[name] = None
    if not found:
        raise DataError(f"{path} lists no clips.")
    return list(found)
