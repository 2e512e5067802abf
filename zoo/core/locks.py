"""Processes that wait for each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Let one process at a time pass, where the system has locks and lets this user have one.

    Args:
        path: a folder that exists; or a file, made if there is none, with its folder. Network file systems may lock
            files alone.
    """
    with ExitStack() as held:
        if fcntl:
            with suppress(OSError):  # whoever then writes says what is wrong
                path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
                held.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
