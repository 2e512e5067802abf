"""Runs the commands in this process, with a tiny method and its data in the catalogues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

RECIPE: dict[str, Any] = {
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_model_summary": False},
    "model": {"class_path": "Tiny"},
    "data": {"class_path": "TinyData", "init_args": {"demo": 12, "batch_size": 4}},
}


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        assert "Traceback" not in self.err
        assert "usage" not in self.err
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


class Cli:
    """`cli("fit", "-c", "tiny.yaml")` in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], None]) -> None:
        self.folder, self._capsys, self._main = folder, capsys, main

    def write(self, name: str, recipe: dict[str, Any]) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        return path

    def __call__(self, *args: str) -> Result:
        self._capsys.readouterr()
        try:
            self._main(list(args))
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out, err = self._capsys.readouterr()
        return Result(code, out, err)
