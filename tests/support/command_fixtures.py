"""Fixtures of the commands' tests; a test module asks for them by `pytest_plugins`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from datamodules.registry import catalogue as datamodules
from tests.support.commands import Cli
from zoo.core.catalogue import Catalogue, Entry
from zoo.models import catalogue as models


@pytest.fixture
def catalogues(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny method and its data are known by name, in this test alone."""
    for catalogue, names in (
        (models, {"tiny": "Tiny", "wide": "Wide"}),
        (datamodules, {"tinydata": "TinyData", "othertask": "OtherTaskData"}),
    ):
        own = {name: Entry(name, f"tests.support.tiny:{cls}", {"task": "tiny"}) for name, cls in names.items()}
        _extend(monkeypatch, catalogue, own)


def _start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("ZOO_DATA", raising=False)
    monkeypatch.setattr(logging, "raiseExceptions", False)  # Lightning's handlers hold the stderr of an earlier test


def _extend(monkeypatch: pytest.MonkeyPatch, catalogue: Catalogue, own: dict[str, Entry]) -> None:
    monkeypatch.setattr(catalogue, "_entries", {**catalogue.entries(), **own})


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], catalogues: None) -> Cli:
    """The `lightning` command, started in an empty folder."""
    from zoo.cli import main

    _start(tmp_path, monkeypatch)
    return Cli(tmp_path, capsys, main)


@pytest.fixture
def zoo_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], catalogues: None
) -> Cli:
    """The `zoo` command, started in an empty folder."""
    from zoo.tools import main

    _start(tmp_path, monkeypatch)
    return Cli(tmp_path, capsys, main)
