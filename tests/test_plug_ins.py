"""A package that adds a method, a loss and a data module by entry points; and broken ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

METHOD = """\
from typing import Any, ClassVar

import torch
from losses.slots import Slot
from zoo.module import ZooModule


class TheirMethod(ZooModule):
    task = "their_task"
    slots: ClassVar = {"task": Slot("classification", "cross_entropy")}

    def __init__(self, width: int = 2, losses: dict[str, Any] | None = None) -> None:
        super().__init__(losses)
        self.save_hyperparameters()
        self.network = torch.nn.Linear(3, width)

    def training_step(self, batch, batch_idx):
        return self.total({"task": self.losses.task(self.network(batch["modalities"]["x"]), batch["label"])}, batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""
LOSS = '''\
import torch.nn.functional as F
from losses.registry import register


@register("their_loss", kind="classification")
def their_loss(logits, labels, *, index=None, epoch=None, margin: float = 1.0):
    """Multi-class hinge."""
    return F.multi_margin_loss(logits, labels, margin=margin)
'''
DATA = """\
import numpy as np
import torch
from datamodules.base import ZooDataModule


class Source:
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def load(self, index, rng):
        x = torch.from_numpy(self.x[index])
        present = {"x": torch.tensor(True)}
        return {"modalities": {"x": x}, "present": present, "label": (x[0] > 0).long(), "id": str(index)}


class TheirData(ZooDataModule):
    name, task, num_classes = "their_data", "their_task", 2

    def source(self, split):
        return Source(np.load(self.root / "x.npy"))

    @classmethod
    def write_demo(cls, root, samples):
        np.save(root / "x.npy", np.random.default_rng(0).normal(size=(samples, 3)).astype(np.float32))
"""
CARD = """\
summary: One linear layer
licence: MIT
models:
  their_method: {class: "their_zoo.methods.method:TheirMethod", task: their_task, summary: Their summary of the method}
datasets: [their_data]
checkpoints: None.
decisions: []
"""
FILES = {
    "__init__.py": "",
    "methods/__init__.py": "",
    "methods/method.py": METHOD,
    "methods/card.yaml": CARD,
    "loss.py": LOSS,
    "losses.yaml": "their_loss: {kind: classification, summary: Their summary of the loss}\n",
    "data.py": DATA,
    "datamodules.yaml": "their_data: {task: their_task, summary: Their summary of the data, layout: x.npy}\n",
}
POINTS = """\
[zoo.methods]
their_method = their_zoo.methods.method:TheirMethod
[zoo.losses]
their_loss = their_zoo.loss
[zoo.datamodules]
their_data = their_zoo.data:TheirData
"""
UNIMPORTED = """
import sys
from zoo.tools import main
try:
    main(sys.argv[1:])
finally:
    strange = {"torch", "their_zoo"} & {name.partition(".")[0] for name in sys.modules}
    assert not strange, strange
"""
RECIPE = """\
seed_everything: 0
trainer: {max_epochs: 1, accelerator: cpu, logger: false}
model: {class_path: TheirMethod, init_args: {losses: {task: {name: their_loss, margin: 0.5}}}}
data: {class_path: TheirData, init_args: {demo: 12, batch_size: 4}}
"""


class Site:
    """A folder of installed packages, and commands that find it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder / "site", folder / "work"
        self.work.mkdir()

    def install(self, name: str, files: dict[str, str], points: str) -> None:
        """What pip leaves of a wheel: the package, and a .dist-info with its entry points."""
        record = self.folder / f"{name}-1.0.dist-info"
        texts = {self.folder / name / path: text for path, text in files.items()}
        texts |= {record / "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}
        texts |= {record / "entry_points.txt": points}
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def python(self, *args: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{self.folder}"}
        command = [sys.executable, *args]
        return subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True, check=False)

    def zoo(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.python("-c", UNIMPORTED, *words)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def row(text: str, name: str) -> str:
    return next(" ".join(line.split()) for line in text.splitlines() if name in line)


LISTED = {
    "list": "their_method their_task Their summary of the method",
    "losses": "their_loss classification Their summary of the loss",
    "losses --kind classification": "their_loss classification Their summary of the loss",
    "data list": "their_data their_task Their summary of the data x.npy",
}


@pytest.mark.slow
@pytest.mark.parametrize("words", LISTED)
def test_listings_show_a_plug_in_with_its_facts_and_import_nothing_of_it(site: Site, words: str) -> None:
    site.install("their_zoo", FILES, POINTS)
    done = site.zoo(*words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert LISTED[words].split() == row(done.stdout, LISTED[words].split()[0]).replace("│", " ").split()


@pytest.mark.slow
def test_a_plug_ins_card_is_shown_unimported(site: Site) -> None:
    site.install("their_zoo", FILES, POINTS)
    done = site.zoo("show", "their_method")
    assert (done.returncode, done.stderr) == (0, "")
    assert "One linear layer" in done.stdout


@pytest.mark.slow
def test_a_run_with_a_plug_ins_method_loss_and_data(site: Site) -> None:
    site.install("their_zoo", FILES, POINTS)
    (site.work / "recipe.yaml").write_text(RECIPE)
    done = site.python("-m", "zoo.cli", "fit", "-c", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    resolved = next(site.work.rglob("runs/**/recipe.yaml")).read_text()
    for text in ("their_zoo.methods.method.TheirMethod", "their_zoo.data.TheirData", "their_loss"):
        assert text in resolved
    done = site.python("-m", "zoo.cli", "fit", "-c", "recipe.yaml", "--model.losses.task.margni=2")
    assert done.returncode == 2
    assert "Did you mean" in done.stderr


BROKEN = {
    "no such module": ({}, "their_method", "is left out: there is no module their_zoo.methods.method."),
    "no such package": (None, "their_method", "is left out: there is no module their_zoo.methods.method."),
    "no card": ({"methods/card.yaml": None}, None, ""),
    "a card with mistakes": (
        {"methods/card.yaml": CARD.replace("licence", "license")},
        None,
        "license is not a key of a card. Did you mean licence? (and 1 more)",
    ),
    "a card that is no YAML": ({"methods/card.yaml": "models: ["}, None, "card.yaml:2: "),
    "a card of bytes": ({"methods/card.yaml": "\x00"}, None, "card.yaml: "),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_method_costs_one_line(site: Site, case: str) -> None:
    changes, left_out, told = BROKEN[case]
    files = {} if changes is None or left_out else FILES | changes
    if changes is not None and left_out:
        files = {"__init__.py": ""}
    site.install("their_zoo", {path: text for path, text in files.items() if text is not None}, POINTS)
    done = site.zoo("list")
    assert done.returncode == 0
    assert "shaspec_classifier" in done.stdout
    assert ("their_method" in done.stdout) == (left_out is None)
    assert done.stderr.count("\n") == bool(told)
    assert told in done.stderr
    assert done.stderr.startswith("The method 'their_method' of their_zoo" if told else "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "file", "text", "told"),
    [
        ("losses", "losses.yaml", "their_loss: [", "losses.yaml cannot be read: "),
        ("losses", "losses.yaml", "their_loss: {kind: clasification}", "their_loss: 'clasification' is not a known"),
        ("losses", "losses.yaml", "their_loss", "losses.yaml must be a mapping of names to facts."),
        ("data list", "datamodules.yaml", "their_data: hello", "their_data must be a mapping of facts."),
        ("data list", "datamodules.yaml", "their_data: {task: 3}", "their_data.task must be a text."),
    ],
)
def test_broken_facts_cost_one_line(site: Site, words: str, file: str, text: str, told: str) -> None:
    points = POINTS.replace("[zoo.datamodules]", "again = their_zoo.loss\n[zoo.datamodules]")
    site.install("their_zoo", FILES | {file: text}, points)
    done = site.zoo(*words.split())
    assert done.returncode == 0
    assert ("their_loss" if words == "losses" else "their_data") in done.stdout
    assert done.stderr.count("\n") == 1
    assert told in done.stderr
