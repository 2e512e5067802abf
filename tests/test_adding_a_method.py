"""A method is one folder with its card, and one recipe: nothing else of the project changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

CARD = """\
summary: Agreement of two views
licence: Apache-2.0
models:
  toy:
    class: zoo.methods.toy.module:Toy
    task: toy
    summary: Agreement of two views
datasets: [toydata]
checkpoints: None.
decisions: []
"""
RECIPE = """\
trainer: {max_epochs: 1, accelerator: cpu}
model:
  class_path: Toy
  init_args:
    width: 4
    losses: {task: {momentum: 0.5}}
    stages:
      - {name: warmup, until_step: 3, train_scale: false}
      - {name: all}
data:
  class_path: tests.toy.data.ToyData
  init_args: {demo: 20, batch_size: 4}
"""


@pytest.mark.slow
def test_adding_a_method_takes_one_folder_and_one_recipe(tmp_path):
    for package in ("zoo", "datamodules", "losses", "recipes"):
        shutil.copytree(REPOSITORY / package, tmp_path / package)
    folder = tmp_path / "zoo" / "methods" / "toy"
    folder.mkdir()
    (folder / "__init__.py").touch()
    shutil.copy(REPOSITORY / "tests" / "toy" / "method.py", folder / "module.py")
    (folder / "card.yaml").write_text(CARD)
    (tmp_path / "recipes" / "toy").mkdir()
    (tmp_path / "recipes" / "toy" / "demo.yaml").write_text(RECIPE)

    def python(*args: str) -> str:
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        ran = subprocess.run([sys.executable, *args], cwd=work, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert "Agreement of two views" in python("-c", "from zoo.tools import main; main(['list'])")
    python("-m", "zoo.cli", "fit", "-c", "zoo:toy/demo")
    run = tmp_path / "work" / "runs" / "toy" / "demo" / "version_0"
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert "Toy" in (run / "recipe.yaml").read_text()
