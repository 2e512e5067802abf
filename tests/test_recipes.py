"""Every recipe fits, tests and predicts on generated data, as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from zoo.cli import main

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = sorted(
    str(path.relative_to(RECIPES).with_suffix(""))
    for path in RECIPES.rglob("*.yaml")
    if path.parent.name != "benchmarks"
)


_TINY = ["--data.image_size=64", "--model.pretrained=null"]  # no downloads, no minutes
SMALLER = {"CUB200": _TINY, "ChestXray14": _TINY, "ODIR": _TINY}


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """Holds a demo for each data module."""
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("name", NAMES)
def test_recipe_runs_every_verb(name, demos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = str(RECIPES / f"{name}.yaml")
    text = (RECIPES / f"{name}.yaml").read_text()
    data = yaml.safe_load(text)["data"]["class_path"]
    kept = "best" if "monitor:" in text else "last"
    small = [f"--data.root={demos / data}", "--data.demo=60", *SMALLER.get(data, [])]
    main(["fit", "-c", recipe, *small, "--trainer.max_epochs=1"])
    main(["test", "-c", recipe, *small, f"--ckpt_path={kept}"])
    main(["predict", "-c", recipe, *small, "--ckpt_path=last"])
    runs = sorted((tmp_path / "runs" / name).iterdir())
    assert [run.name for run in runs] == ["version_0", "version_1", "version_2"]
    assert (runs[0] / "recipe.yaml").is_file()
    assert any((runs[1] / f"{table}.csv").is_file() for table in ("accuracy", "findings"))
    assert (runs[2] / "predictions.csv").is_file()
