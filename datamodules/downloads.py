"""Downloads: resumed where they were cut, checked for what they must hold, and put in place whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import re
import sys
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from zoo.core.errors import DataError

log = logging.getLogger("lightning.pytorch")

T = TypeVar("T")

TRIES = 3
PAUSE = 2.0  # seconds before the second try, twice that before the third
TIMEOUT = 30.0  # seconds without a byte
REPORT_EVERY = 5.0  # seconds, where there is no terminal
_CHUNK = 1 << 16
_WORTH_ANOTHER_TRY = {408, 429, 500, 502, 503, 504}


class WrongContentError(DataError):
    """A file that holds something else than it must."""


class _TryFailedError(Exception):
    """The server or the way to it failed. `final` if another try would fail alike."""

    def __init__(self, why: object, final: bool = False) -> None:
        super().__init__(str(why) or type(why).__name__)
        self.final = final


def check_sha256(name: str, content: bytes, expected: str) -> None:
    """Raise WrongContentError unless the SHA-256 of `content` begins with the hexadecimal digits `expected`."""
    actual = hashlib.sha256(content).hexdigest()[: len(expected)]
    if actual != expected:
        raise WrongContentError(f"{name} has the SHA-256 {actual}, expected {expected}")


def fetch(urls: Sequence[str], path: Path, read: Callable[[Path], T], limit: int) -> T:
    """Download `path` from the first of `urls` whose file is right.

    Bytes gather in `<path>.part`. A try that is cut goes on where it ended, also one of an earlier process, if the
    server says that the file is still the same; else it starts anew. Tries that bring nothing new are counted.

    Args:
        urls: tried in turn.
        path: where the file goes; replaced if it exists.
        read: reads the whole file before it gets its name; raises DataError if the content is wrong.
        limit: the most bytes that the file may have.

    Returns:
        What `read` returns.

    Raises:
        DataError: with the reason for each URL. A file of wrong content is deleted, a cut one is kept.
    """
    part, tag = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.tag")
    problems = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                _download(url, part, tag, limit)
                content = read(part)
            except _TryFailedError as error:
                problems.append(f"{url}: {error}")
            except DataError as error:
                problems.append(f"{url}: {error}")
                _delete(part, tag)
            else:
                part.replace(path)
                _delete(tag)
                log.info(f"{path}: downloaded from {url}")
                return content
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}.") from error
    raise DataError(f"{path} could not be downloaded. {'; '.join(problems)}.")


def _delete(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _download(url: str, part: Path, tag: Path, limit: int) -> None:
    """Bring `part` to its end. Raises _TryFailedError once tries in a row have brought nothing new."""
    most, failed = 0, 0
    with _progress(url.rpartition("/")[2]) as report:
        while True:
            try:
                return _try(url, part, tag, limit, report)
            except _TryFailedError as error:
                size = part.stat().st_size if part.is_file() else 0
                failed = 1 if size > most else failed + 1
                most = max(most, size)
                if error.final or failed >= TRIES:
                    raise
            time.sleep(PAUSE * failed)


def _try(url: str, part: Path, tag: Path, limit: int, report: Callable[[int, int | None], None]) -> None:
    with _open(url, _resuming(url, part, tag)) as response:
        done = 0
        if response.status == 206:
            done = part.stat().st_size if part.is_file() else 0
            if not re.match(rf"bytes {done}-", response.headers.get("Content-Range", "")):
                _delete(part, tag)
                raise _TryFailedError("the server sent another part of the file than it was asked for")
        else:
            _delete(part)
            tag.write_text(f"{url}\n{_validator(response)}", encoding="utf-8")
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if re.fullmatch(r"\d{1,18}", length) else None
        with open(part, "ab") as file:
            while (total or done) <= limit and (chunk := _receive(response)):
                file.write(chunk)
                done += len(chunk)
                report(done, total)
    if (total or done) > limit:
        _delete(part, tag)
        raise _TryFailedError(f"the file is larger than {limit:,} bytes, which it cannot be", final=True)
    if total is not None and done < total:
        raise _TryFailedError(f"the connection was cut after {done:,} of {total:,} bytes")


def _resuming(url: str, part: Path, tag: Path) -> dict[str, str]:
    """The headers that ask for what `part` lacks, if it began with this URL and a version that the server can name."""
    if not (part.is_file() and tag.is_file()):
        return {}
    begun, _, validator = tag.read_text(encoding="utf-8", errors="replace").partition("\n")
    if begun != url or not validator:
        return {}
    return {"Range": f"bytes={part.stat().st_size}-", "If-Range": validator}


def _validator(response: HTTPResponse) -> str:
    """What names this version of the file to the byte: weak entity tags do not."""
    etag = response.headers.get("ETag", "")
    named = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    return named if named.isascii() and named.isprintable() else ""


def _open(url: str, headers: dict[str, str]) -> HTTPResponse:
    # identity: a .gz file must arrive as it is
    request = Request(url, headers={"User-Agent": "multimodal-zoo", "Accept-Encoding": "identity", **headers})
    try:
        return urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and headers:  # nothing is left to send, or the file has become shorter
            return _open(url, {})
        raise _TryFailedError(f"HTTP {error.code} {error.reason}", error.code not in _WORTH_ANOTHER_TRY) from error
    except (OSError, HTTPException) as error:
        raise _TryFailedError(getattr(error, "reason", error)) from error


def _receive(response: HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _TryFailedError(error) from error


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Gives a function of (bytes so far, bytes in all if known): a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    said = time.monotonic()

    def say(done: int, total: int | None) -> None:
        nonlocal said
        if time.monotonic() - said >= REPORT_EVERY:
            said = time.monotonic()
            log.info(f"{name}: {done / 1e6:.1f}{f' of {total / 1e6:.1f}' if total else ''} MB")

    yield say


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all. Raises DataError if it cannot be written."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}.") from error


class _AtMost:
    """A file of which no more than `limit` bytes are read: compressed ones may unpack to anything."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.file, self.left = file, limit

    def read(self, size: int) -> bytes:
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise WrongContentError("it unpacks to more than it can hold")
        return content


def gunzip(path: Path, limit: int) -> bytes:
    """What a gzipped file holds. Raises WrongContentError if it is broken or holds more than `limit` bytes."""
    try:
        with gzip.open(path) as file:
            content = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise WrongContentError(f"{path.name} is no whole .gz file ({error})") from error
    if len(content) > limit:
        raise WrongContentError(f"{path.name} unpacks to more than {limit:,} bytes")
    return content


def read_tar_gz(path: Path, wanted: re.Pattern[str], limit: int) -> dict[str, bytes]:
    """The regular files of a .tar.gz whose name `wanted` matches whole. Nothing is written, links are passed over.

    Args:
        path: the archive.
        wanted: its first group is the key in the result.
        limit: the most bytes that the archive may unpack to.

    Raises:
        WrongContentError: if the archive is broken or larger.
    """
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path) as packed, tarfile.open(fileobj=_AtMost(packed, limit), mode="r|") as archive:
            for member in archive:
                name = wanted.fullmatch(member.name)
                # A sparse file may claim any size without a byte in the archive.
                if name and member.isreg() and not member.issparse():
                    found[name[1]] = archive.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise WrongContentError(f"{path.name} is no whole .tar.gz file ({error})") from error
    return found
