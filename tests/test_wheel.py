"""What is published: the wheel holds all that the packages need and nothing else, and works without the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling, which builds the wheel, is not installed"),
]

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("zoo", "datamodules", "losses")


def build(source: Path, out: Path, target: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(REPOSITORY, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, as pip lays it into site-packages."""
    folder = tmp_path_factory.mktemp("site")
    with ZipFile(wheel) as packed:
        packed.extractall(folder)
    return folder


def run(installed: Path, work: Path, *args: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed), "ZOO_DATA": str(work / "data")}
    command = [sys.executable, *args]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def content(wheel: Path) -> dict[str, int]:
    """Checksum of each file, by name."""
    with ZipFile(wheel) as packed:
        return {member.filename: member.CRC for member in packed.infolist()}


def test_the_wheel_holds_the_packages_and_recipes_whole_and_nothing_else(wheel: Path) -> None:
    names = {name for name in content(wheel) if not name.startswith("multimodal_zoo-")}
    sources = {p.relative_to(REPOSITORY) for package in PACKAGES for p in (REPOSITORY / package).rglob("*")}
    sources = {p for p in sources if (REPOSITORY / p).is_file() and "__pycache__" not in p.parts}
    recipes = {p.relative_to(REPOSITORY) for p in (REPOSITORY / "recipes").rglob("*.yaml")}
    assert names == {p.as_posix() for p in sources} | {f"zoo/{p.as_posix()}" for p in recipes}


def test_the_wheel_has_the_commands_and_the_licence(installed: Path) -> None:
    (record,) = installed.glob("multimodal_zoo-*.dist-info")
    points = (record / "entry_points.txt").read_text()
    assert "lightning = zoo.cli:main" in points
    assert "zoo = zoo.tools:main" in points
    assert (record / "licenses" / "LICENSE").is_file()


def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build(REPOSITORY, tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as packed:
        packed.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert not {"runs", "data"} & {path.name for path in source.iterdir()}
    assert content(build(source, tmp_path / "again", "wheel")) == content(wheel)


def test_the_wheel_works_without_the_repository(installed: Path, tmp_path: Path) -> None:
    zoo = "import sys; from zoo.tools import main; main(sys.argv[1:])"
    where = run(installed, tmp_path, "-c", "import zoo, losses, datamodules as d; print(zoo.__path__ + d.__path__)")
    assert where.strip() == str([str(installed / "zoo"), str(installed / "datamodules")])
    assert "shaspec_classifier" in run(installed, tmp_path, "-c", zoo, "list")
    assert "Published numbers" in run(installed, tmp_path, "-c", zoo, "show", "shaspec")
    small = ("--trainer.max_epochs=1", "--data.demo=60")
    run(installed, tmp_path, "-m", "zoo.cli", "fit", "-c", "zoo:shaspec/demo", *small)
    out = run(installed, tmp_path, "-m", "zoo.cli", "test", "-c", "zoo:shaspec/demo", *small, "--ckpt_path=best")
    assert "accuracy" in out
