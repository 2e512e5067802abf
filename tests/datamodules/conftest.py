"""What tests of data sets share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def seed(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")


@pytest.fixture
def copy(demo, tmp_path) -> Path:
    """A demo to break."""
    return shutil.copytree(demo, tmp_path / "copy")
