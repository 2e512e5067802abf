"""`zoo speed`: the parts of a step add up to it, each part gets its own time, and two recipes stand side by side."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.commands import RECIPE, Cli
from tests.support.tiny import Tiny
from zoo import speed
from zoo.speed import PARTS, WARM_UP, measure
from zoo.tools.speed import comparison

pytest_plugins = ["tests.support.command_fixtures"]

STEPS = 5
SLOW = 0.03  # seconds; far above what the tiny method needs


class Sleeping(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(SLOW)
        return x


class SlowFrontEnd(Tiny):
    """Its front end takes all the time."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__(num_classes)
        self.front_end = Sleeping()

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        return self.head(self.front_end(self.body(batch["modalities"]["x"])))


class SlowBackward(Tiny):
    """By hand: backward and optimizer are called in the step."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__(num_classes)
        self.automatic_optimization = False

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        loss = super().training_step(batch, batch_idx)
        loss.register_hook(lambda gradient: time.sleep(SLOW))
        self.manual_step(loss)


class SlowState(Tiny):
    """Updates in its step what it remembers beside weights."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        with self.updating_state():
            time.sleep(SLOW)
        return super().training_step(batch, batch_idx)


class SlowPass(Tiny):
    """Looks at all data between the steps."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__(num_classes)
        self.add_pass("look", lambda: time.sleep(SLOW), every_steps=1)


def recipe(folder: Path, model: str = "Tiny", **sections: Any) -> str:
    path = folder / f"{model}.yaml"
    data = {"class_path": "tests.support.tiny.TinyData", "init_args": {"demo": 10, "batch_size": 4}}
    module = "tests.support.tiny" if model == "Tiny" else "tests.test_speed"
    path.write_text(json.dumps({**RECIPE, "model": {"class_path": f"{module}.{model}"}, "data": data, **sections}))
    return str(path)


def measured_here(recipe: str, steps: int = STEPS) -> dict[str, Any]:
    """In this process: a fresh one costs seconds."""
    return speed._measure(recipe, steps)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_fresh_process_measures_steps_and_what_they_are_made_of(tmp_path):
    found = measure(recipe(tmp_path), STEPS)
    step, parts = found["step_ms"], found["parts_ms"]
    assert found["steps"] == STEPS
    assert 0 < step["p10"] <= step["median"] <= step["p90"]
    assert set(parts) == set(PARTS)
    assert min(parts.values()) >= 0
    # Means over the middle half of the steps, so they lie within its range; each step's sum is tested below.
    assert step["p10"] <= sum(parts.values()) + 0.01
    assert sum(parts.values()) <= step["p90"] + 0.01
    assert all(parts[part] > 0 for part in ("data wait", "forward", "losses", "backward", "optimizer"))
    assert parts["front end"] == 0
    assert (found["batch_size"], found["precision"], found["device"].split()[0]) == (4, "32-true", "cpu")
    assert found["memory_mb"]["resident"] > 50
    assert found["host_waits_per_step"] is None
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("model", "slow"),
    [("SlowFrontEnd", "front end"), ("SlowBackward", "backward"), ("SlowPass", "state"), ("SlowState", "state")],
)
def test_each_part_gets_its_own_time(tmp_path, model, slow):
    parts = measured_here(recipe(tmp_path, model))["parts_ms"]
    assert parts[slow] >= 1000 * SLOW / 2  # an epoch's first step has no pass before it
    assert max(parts, key=parts.get) == slow


@pytest.fixture
def clocks(monkeypatch):
    clocks = []

    class Kept(speed.Clock):
        def __init__(self, steps):
            super().__init__(steps)
            clocks.append(self)

    monkeypatch.setattr(speed, "Clock", Kept)
    return clocks


@pytest.mark.parametrize("model", ["Tiny", "SlowFrontEnd", "SlowBackward"])
def test_the_parts_of_each_step_add_up_to_it(tmp_path, clocks, model):
    measured_here(recipe(tmp_path, model))
    (clock,) = clocks
    assert len(clock.whole) == len(clock.split) == STEPS
    for (step, _), parts in zip(clock.whole, clock.split, strict=True):
        assert sum(parts.values()) == pytest.approx(step, abs=1e-6)


def test_samples_of_short_last_batches_are_counted(tmp_path, clocks):
    measured_here(recipe(tmp_path))
    assert WARM_UP == 5  # batches of 4, 4, 2 in each epoch
    assert [samples for _, samples in clocks[0].whole] == [2, 4, 4, 2, 4]


def test_a_recipe_with_checkpoints_early_stopping_and_few_epochs_is_measured(tmp_path):
    callbacks = [
        {"class_path": "Checkpoints", "init_args": {"monitor": "val/accuracy", "every_n_steps": 1}},
        {"class_path": "EarlyStopping", "init_args": {"monitor": "val/accuracy", "patience": 0}},
    ]
    trainer = {**RECIPE["trainer"], "callbacks": callbacks, "max_epochs": 1}
    assert measured_here(recipe(tmp_path, trainer=trainer))["steps"] == STEPS


def test_two_recipes_stand_side_by_side_and_in_the_file(tmp_path, zoo_command: Cli, monkeypatch):
    monkeypatch.setattr(speed, "measure", measured_here)
    first, second = recipe(tmp_path), recipe(tmp_path, "SlowFrontEnd")
    options = ["--steps", "5", "--json", "speed.jsonl"]
    result = zoo_command("speed", "-c", first, "--against", second, *options)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert [line for line in lines if "5 steps of batch size 4" in line] == [
        line for line in lines if line.startswith((first, second))
    ]
    assert any(line.split()[:3] == ["FIRST", "SECOND", "RATIO"] for line in lines)
    zoo_command("speed", "-c", first, *options)
    records = [json.loads(line) for line in Path("speed.jsonl").read_text().splitlines()]
    assert [record["recipe"] for record in records] == [first, second, first]


def test_the_ratio_is_the_second_of_the_first():
    def record(step: float) -> dict[str, Any]:
        return {
            "step_ms": {"median": step},
            "parts_ms": {"losses": 0.0},
            "samples_per_second": 1.0,
            "memory_mb": {},
            "host_waits_per_step": None,
        }

    rows = [line.split() for line in comparison([record(2.0), record(5.0)]).splitlines()]
    assert rows[1][-3:] == ["2.00", "5.00", "2.50"]
    assert rows[2][-2:] == ["0.00", "0.00"]  # no ratio to nothing


@pytest.mark.slow
def test_what_is_wrong_with_a_recipe_is_one_line(tmp_path, zoo_command: Cli):
    broken = recipe(tmp_path, trainer={"max_epoch": 1})
    result = zoo_command("speed", "-c", broken)
    assert result.code == 2
    assert len(result.errors) == 1
    assert "Did you mean max_epochs?" in result.errors[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_cuda_waits_and_device_memory_are_reported(tmp_path):
    found = measure(recipe(tmp_path, trainer={**RECIPE["trainer"], "accelerator": "gpu", "devices": 1}), STEPS)
    assert found["host_waits_per_step"] >= 0
    assert found["memory_mb"]["reserved"] >= found["memory_mb"]["allocated"] > 0
    assert sum(found["parts_ms"].values()) > 0
