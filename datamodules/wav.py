"""What is wrong with a WAV file before libsndfile opens it."""

import struct
from pathlib import Path

from zoo.core.errors import DataError


def refuse_cut(path: Path) -> None:
    """Refuse a file of another kind, or one of which the end is missing: libsndfile reads what is left without a word.

    Raises:
        DataError: naming the file.
        OSError: if it cannot be opened.
    """
    with open(path, "rb") as file:
        header, size = file.read(12), path.stat().st_size
    if len(header) < 12 or (header[:4], header[8:]) != (b"RIFF", b"WAVE"):
        raise DataError(f"{path} is not a WAV file.")
    announced = struct.unpack("<I", header[4:8])[0] + 8
    if announced > size:
        raise DataError(f"{path} is cut: {size:,} of {announced:,} bytes are there. Get it again.")
