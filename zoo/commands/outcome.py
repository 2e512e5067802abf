"""What a command leaves behind when something is wrong: one line, and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from zoo.core.errors import RecipeError, ZooError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print what a user can mend as `error: …` and exit with 2; with ZOO_DEBUG=1, leave the traceback.

    Ctrl-C exits with 130. All other exceptions pass.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # `zoo show … | head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ZooError as error:
        if os.environ.get("ZOO_DEBUG") == "1":
            raise
        _print(error)
        sys.exit(2)
    except PermissionError as error:
        if error.filename is None or os.environ.get("ZOO_DEBUG") == "1":
            raise
        print(
            f"{_who()}error: {error.filename}: this user has no permission. Grant it, or name another.", file=sys.stderr
        )
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or os.environ.get("ZOO_DEBUG") == "1":
            raise
        print(f"{_who()}error: {error}. Checkpoints that were written before are whole.", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        lost = "gloo" in str(error) and "by peer" in str(error)
        if not lost or os.environ.get("ZOO_DEBUG") == "1":
            raise
        print(f"{_who()}error: another rank has stopped; its message says why.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning has ended the run and exits with 1
            sys.exit(130)
        raise


def _print(error: ZooError) -> None:
    if _who() and isinstance(error, RecipeError):  # rank 0 says the same
        return
    for line in str(error).splitlines():
        print(f"{_who()}error: {line}", file=sys.stderr)


def _who() -> str:
    """Which rank speaks, if it is not the first one."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    rank = next((value for name in names if (value := os.environ.get(name))), "0")
    return "" if rank == "0" else f"[rank {rank}] "
