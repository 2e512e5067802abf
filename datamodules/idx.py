"""The idx container of MNIST and its kin: arrays of bytes with their sizes in front, plain or gzipped."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from zoo.core.errors import DataError

UNSIGNED_BYTE = 0x08

# A header may announce anything, and memory is given out before the data is there. MNIST's largest file has 47 MB.
LIMIT = 1 << 30


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read an idx file of unsigned bytes; gzipped if its name ends in `.gz`.

    Args:
        path: the file.
        ndim: how many axes it must have (MNIST: 3 images, 1 labels).

    Returns:
        uint8 array with `ndim` axes.

    Raises:
        DataError: naming the file, if it is missing, of another kind, shorter or longer than its header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != bytes([0, 0, UNSIGNED_BYTE]):
                raise DataError(f"{path} is not an idx file of unsigned bytes: it begins with 0x{magic.hex()}.")
            if magic[3] != ndim:
                raise DataError(f"{path} has {magic[3]} axes instead of {ndim}. Are images and labels exchanged?")
            header = file.read(4 * ndim)
            if len(header) < 4 * ndim:
                raise DataError(f"{path} is cut: it ends within its header.")
            shape = struct.unpack(f">{ndim}I", header)
            size = math.prod(shape)
            if size > LIMIT:
                raise DataError(f"{path} claims to hold {size:,} bytes, more than any file of the MNIST family.")
            content = file.read(size + 1)  # one more, so that a longer file shows
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Download it again.") from error
    if len(content) != size:
        found = "more" if len(content) > size else f"{len(content):,}"
        raise DataError(f"{path} should hold {size:,} bytes after its header, and holds {found}. Download it again.")
    return np.frombuffer(content, np.uint8).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as an idx file, gzipped if the name ends in `.gz`; equal arrays give equal files."""
    content = struct.pack(f">4B{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
