"""Plain text for terminals and pipes alike: aligned columns, wrapped paragraphs."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows below headings in capitals in aligned columns; a column that is empty in all rows is left out."""
    return aligned([heading.upper() for heading in headings], rows)


def aligned(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """As :func:`table`, with headings as they are."""
    cells = [[str(cell) for cell in row] for row in rows]
    kept = [column for column in range(len(headings)) if any(row[column] for row in cells)]
    lines = [list(headings), *cells]
    widths = {column: max(len(line[column]) for line in lines) for column in kept}
    return "\n".join("  ".join(line[column].ljust(widths[column]) for column in kept).rstrip() for line in lines)


def paragraph(text: str, indent: str = "", bullet: str = "") -> str:
    """`text` wrapped to the terminal's width, or left alone in a pipe."""
    if not sys.stdout.isatty():
        return indent + bullet + " ".join(text.split())
    width = min(shutil.get_terminal_size().columns, 120)
    return textwrap.fill(
        text,
        width,
        initial_indent=indent + bullet,
        subsequent_indent=indent + " " * len(bullet),
        break_long_words=False,
    )
