"""Folders of runs: `<save_dir>/<name>/version_N`, with the checkpoints of each below it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.core.errors import CheckpointError

WORDS = ("best", "last")


def folder_of(trainer: Mapping[str, Any]) -> Path:
    """The folder that holds the runs of a recipe, given its `trainer` section."""
    loggers = trainer.get("logger")
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        arguments = logger.get("init_args") or {} if isinstance(logger, Mapping) else {}
        if "save_dir" in arguments:
            return Path(arguments["save_dir"]) / (arguments.get("name") or "")
    return Path(trainer.get("default_root_dir") or ".")


def newest(word: str, folder: Path) -> Path:
    """`best.ckpt` or `last.ckpt` of the newest run in `folder` that has it.

    Raises:
        CheckpointError: if none has.
    """
    runs = _versions(folder)
    for run in [*(runs[number] for number in sorted(runs, reverse=True)), folder]:
        if (found := run / "checkpoints" / f"{word}.ckpt").is_file():
            return found
    why = " (it is kept if Checkpoints has a monitor)" if word == "best" else ""
    raise CheckpointError(f"ckpt_path {word}: no run below {folder} has checkpoints/{word}.ckpt{why}.")


def number(loggers: Iterable[Any]) -> None:
    """Give CSV and TensorBoard loggers the next free version, where the recipe names none.

    Each would look for itself, and the second of two in one folder would find the first one's and take the next number.

    Args:
        loggers: parsed, not yet made; changed in place.
    """
    for logger in loggers:
        name = str(getattr(logger, "class_path", "")).rpartition(".")[2]
        if name in ("CSVLogger", "TensorBoardLogger") and logger.init_args.version is None:
            taken = _versions(Path(logger.init_args.save_dir) / (logger.init_args.name or ""))
            logger.init_args.version = max(taken, default=-1) + 1


def _versions(folder: Path) -> dict[int, Path]:
    return {int(found[1]): run for run in folder.glob("*") if (found := re.fullmatch(r"version_(\d+)", run.name))}
