"""Downloads AV-MNIST: the four files of MNIST and the Free Spoken Digit Dataset, each file checked by its SHA-256."""

from __future__ import annotations

import functools
import logging
import re
from pathlib import Path

from datamodules.avmnist import IMAGES, RECORDINGS
from datamodules.base import DEMO_RECORD
from datamodules.downloads import WrongContentError, check_sha256, fetch, gunzip, read_tar_gz, write_whole
from zoo.core.errors import DataError
from zoo.core.locks import lock

log = logging.getLogger("lightning.pytorch")

MNIST_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist")
_FSDD = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs"
# GitHub packs archives anew when asked, so the files in it are checked, not the archive.
FSDD_ARCHIVES = (f"{_FSDD}/tags/v1.0.10.tar.gz", f"{_FSDD}/heads/master.tar.gz")
SHA256 = Path(__file__).with_name("avmnist.sha256")

_IDX_LIMIT = 1 << 26  # the largest, the training images, has 47 MB unpacked
_ARCHIVE_LIMIT = 1 << 28
_RECORDING = re.compile(r"[^/]+/recordings/([^/]+\.wav)")


@functools.cache
def digests() -> dict[str, str]:
    """The first hexadecimal digits of the SHA-256 of each file's unpacked content, by name without folder."""
    lines = SHA256.read_text(encoding="utf-8").splitlines()
    return dict(reversed(line.split()) for line in lines if not line.startswith("#"))


def download(root: Path) -> None:
    """Bring what is missing under `root`; files that are there and right are left, others are replaced.

    Raises:
        DataError: if a file cannot be had or written, or its content is wrong at every source.
    """
    if (root / DEMO_RECORD).exists():
        raise DataError(f"{root} holds demo data; name another folder for the download with --data.root.")
    with lock(root / ".download.lock"):
        for name in digests():
            if not name.endswith(".wav"):
                _download_idx(root / IMAGES / name)
        _download_recordings(root / RECORDINGS, [name for name in digests() if name.endswith(".wav")])


def _download_idx(plain: Path) -> None:
    packed = plain.with_name(f"{plain.name}.gz")
    if _is_right(plain):
        return
    if not _is_right(packed):
        fetch([f"{mirror}/{packed.name}" for mirror in MNIST_MIRRORS], packed, _read_idx, _IDX_LIMIT)
    plain.unlink(missing_ok=True)  # a wrong one would be read first


def _read_idx(path: Path) -> None:
    """Raises WrongContentError unless the file, with `.gz` somewhere behind its name or not, is the one of its name."""
    name, packed, _ = path.name.partition(".gz")
    content = gunzip(path, _IDX_LIMIT) if packed else path.read_bytes()
    check_sha256(name, content, digests()[name])


def _is_right(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        _read_idx(path)
    except WrongContentError as error:
        log.warning(f"{path} is replaced: {error}.")
        return False
    return True


def _download_recordings(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    wrong = [name for name in names if (folder / name).is_file() and not _is_recording(folder / name)]
    if wrong:
        log.warning(f"{folder}: {len(wrong):,} recordings are replaced: they are not the published ones ({wrong[0]}).")
    if not (missing or wrong):
        return
    archive = folder.parent / "download.tar.gz"
    published = fetch(FSDD_ARCHIVES, archive, lambda path: _read_archive(path, names), _ARCHIVE_LIMIT)
    for name in missing + wrong:
        write_whole(folder / name, published[name])
    archive.unlink()


def _is_recording(path: Path) -> bool:
    try:
        check_sha256(path.name, path.read_bytes(), digests()[path.name])
    except WrongContentError:
        return False
    return True


def _read_archive(path: Path, names: list[str]) -> dict[str, bytes]:
    found = read_tar_gz(path, _RECORDING, _ARCHIVE_LIMIT)
    if absent := [name for name in names if name not in found]:
        raise WrongContentError(f"{len(absent):,} of {len(names):,} recordings are not in it (first: {absent[0]})")
    for name in names:
        check_sha256(name, found[name], digests()[name])
    return found
