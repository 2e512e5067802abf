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


# Where a recipe's own sizes are beyond a test: what makes them small, by the class of its data or its model.
_SMALL_FRAMES = ["--data.demo=12", "--data.hop=0.3", "--data.num_workers=0"]
_SMALL_SIGHT = ["--model.backbone=test_resnet", "--model.pretrained=null", "--model.frame_size=[64,64]"]
_SMALL_IMAGES = ["--data.image_size=64", "--model.pretrained=null"]
SMALL = {
    "BraTS": [
        *("--data.demo=8", "--data.crop_size=[32,64,64]", "--model.window=[32,64,64]", "--model.width=2"),
        *("--trainer.max_steps=2", "--data.num_workers=0"),
    ],
    "CUB200": _SMALL_IMAGES,
    "ChestXray14": _SMALL_IMAGES,
    "ODIR": _SMALL_IMAGES,
    "GNL": ["--model.width=4"],
    "ImageClassifier": ["--model.width=4"],
    "CoTeaching": ["--model.width=4"],
    "CCStereo": [*_SMALL_FRAMES, *_SMALL_SIGHT, "--model.width=1"],
    "Mono2Binaural": [*_SMALL_FRAMES, *_SMALL_SIGHT, "--model.width=1"],
    "MonoMono": [*_SMALL_FRAMES, "--data.frame_size=[64,64]"],
}
TABLES = ("accuracy.csv", "scores.csv", "distances.csv", "findings.csv")
PREDICTIONS = ("predictions.csv", "predictions")


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """Holds a demo for each data module."""
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("name", NAMES)
def test_recipe_runs_every_verb(name, demos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = str(RECIPES / f"{name}.yaml")
    text = (RECIPES / f"{name}.yaml").read_text()
    data, model = (yaml.safe_load(text)[part]["class_path"] for part in ("data", "model"))
    kept = "best" if "monitor:" in text else "last"
    small = [f"--data.root={demos / data}", "--data.demo=60", *SMALL.get(data, []), *SMALL.get(model, [])]
    main(["fit", "-c", recipe, *small, "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"])
    main(["test", "-c", recipe, *small, f"--ckpt_path={kept}"])
    main(["predict", "-c", recipe, *small, "--ckpt_path=last"])
    runs = sorted((tmp_path / "runs" / name).iterdir())
    assert [run.name for run in runs] == ["version_0", "version_1", "version_2"]
    assert (runs[0] / "recipe.yaml").is_file()
    assert any((runs[1] / table).is_file() for table in TABLES)
    assert any((runs[2] / predictions).exists() for predictions in PREDICTIONS)
