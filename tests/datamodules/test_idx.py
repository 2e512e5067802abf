import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from datamodules.idx import read_idx, write_idx
from zoo.core.errors import DataError

LABELS = np.arange(10, dtype=np.uint8)
HEADER = bytes([0, 0, 8, 1, 0, 0, 0, 10])


@settings(max_examples=25, deadline=None)
@given(array=arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, max_side=6)), suffix=st.sampled_from(["", ".gz"]))
def test_what_is_written_is_read(tmp_path_factory, array, suffix):
    path = tmp_path_factory.mktemp("idx") / f"file{suffix}"
    write_idx(path, array)
    np.testing.assert_array_equal(read_idx(path, array.ndim), array)


def test_files_begin_as_the_format_says(tmp_path):
    write_idx(tmp_path / "labels", LABELS)
    assert (tmp_path / "labels").read_bytes() == HEADER + bytes(range(10))


def test_equal_arrays_give_equal_files(tmp_path, monkeypatch):
    write_idx(tmp_path / "a.gz", LABELS)
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_idx(tmp_path / "b.gz", LABELS)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


PACKED = gzip.compress(HEADER + bytes(range(10)), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("empty", b"", "not an idx file"),
        ("text", b"<html>404</html>", "not an idx file"),
        ("floats", b"\x00\x00\x0d\x01" + bytes(8), "not an idx file"),
        ("images", b"\x00\x00\x08\x03" + bytes(12), "3 axes instead of 1"),
        ("header", HEADER[:6], "within its header"),
        ("cut", HEADER + bytes(9), "10 bytes after its header, and holds 9"),
        ("longer", HEADER + bytes(11), "10 bytes after its header, and holds more"),
        ("bomb", HEADER[:4] + b"\xff\xff\xff\xff", "more than any file"),
        ("cut.gz", PACKED[:-12], "cannot be read"),
        ("checksum.gz", PACKED[:-8] + bytes(8), "cannot be read"),
        ("deflate.gz", PACKED[:10] + b"\xff" * 20, "cannot be read"),
        ("plain.gz", HEADER + bytes(10), "cannot be read"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content, what):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=what) as caught:
        read_idx(path, 1)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        read_idx(tmp_path / "nowhere", 1)
