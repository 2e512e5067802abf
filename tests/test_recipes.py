"""Every recipe fits, tests and predicts on generated data, as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.cli import main

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = sorted(
    str(path.relative_to(RECIPES).with_suffix(""))
    for path in RECIPES.rglob("*.yaml")
    if path.parent.name != "benchmarks"
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "demo"


@pytest.mark.parametrize("name", NAMES)
def test_recipe_runs_every_verb(name, demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = str(RECIPES / f"{name}.yaml")
    small = [f"--data.root={demo}", "--data.demo=60"]
    main(["fit", "-c", recipe, *small, "--trainer.max_epochs=1"])
    main(["test", "-c", recipe, *small, "--ckpt_path=best"])
    main(["predict", "-c", recipe, *small, "--ckpt_path=last"])
    runs = sorted((tmp_path / "runs" / name).iterdir())
    assert [run.name for run in runs] == ["version_0", "version_1", "version_2"]
    assert (runs[0] / "recipe.yaml").is_file()
    assert (runs[1] / "accuracy.csv").is_file()
    assert (runs[2] / "predictions.csv").is_file()
