"""What everyday machines do: workers that start by spawn, batches of one, compiled networks, full disks, a terminal."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

import zoo
from datamodules.avmnist import AVMNIST
from tests.support.avmnist import one_batch
from tests.support.commands import RECIPE, Cli
from tests.support.runs import differences
from tests.toy.plain import Plain, toy_data, trainer
from zoo.callbacks import Checkpoints
from zoo.core.errors import CheckpointError
from zoo.methods.shaspec.module import ShaSpecClassifier
from zoo.models import catalogue

pytest_plugins = ["tests.support.command_fixtures"]

ROOT = Path(__file__).parents[1]
CLASSIFIERS = [name for name, entry in catalogue.entries().items() if entry.facts["task"] == "av_classification"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


# -- workers ----------------------------------------------------------------------------------------------------------

SPAWNED = """
import sys
from pathlib import Path

import torch

from datamodules.avmnist import AVMNIST
from tests.toy.data import ToyData

def batches(data, folder, **arguments):
    module = data(root=folder, batch_size=7, **arguments)
    module.prepare_data()
    loader = module.train_dataloader()
    loader.sampler.set_epoch(3)
    return list(loader)

if __name__ == "__main__":
    torch.multiprocessing.set_start_method(sys.argv[1])
    folder = Path(sys.argv[2])
    found = [
        batches(data, folder / data.name, demo=20, num_workers=int(sys.argv[3])) for data in (ToyData, AVMNIST)
    ]
    torch.save(found, folder / f"{sys.argv[1]}.pt")
"""


@pytest.mark.slow
def test_workers_that_start_by_spawn_give_the_same_batches(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SPAWNED)
    for method, workers in (("fork", "0"), ("spawn", "2")):
        subprocess.run([sys.executable, script, method, tmp_path, workers], env=ENVIRONMENT, check=True)
    here, spawned = (torch.load(tmp_path / f"{method}.pt", weights_only=True) for method in ("fork", "spawn"))
    assert len(here[0]) == 3
    assert differences(spawned, here) == []


# -- batches of one ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["every", "the last"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_batch_of_one_trains_and_is_evaluated(name, which, tmp_path_factory, tmp_path):
    data = AVMNIST(root=tmp_path_factory.getbasetemp() / "everyday-avmnist", demo=60, batch_size=1, meta_share=0.2)
    data.prepare_data()
    if which == "the last":
        data.batch_size = data.num_samples("train") - 1
    limit = {"limit_train_batches": 3, "limit_val_batches": 3, "limit_test_batches": 3}
    running = trainer(tmp_path, epochs=1, **limit)
    model = zoo.create_model(name, dim=16)
    running.fit(model, data)
    assert running.global_step == (3 if which == "every" else 2)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    running.test(model, data, verbose=False)
    assert all(0 <= value <= 1 for key, value in running.callback_metrics.items() if "accuracy" in key)


# -- compiled ---------------------------------------------------------------------------------------------------------

BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]


@pytest.fixture
def batch(tmp_path):
    return one_batch(tmp_path / "data")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_model_predicts_the_same_and_has_the_same_keys(backend, batch):
    plain, compiled = (ShaSpecClassifier(dim=16).eval() for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    compiled.compile(backend=backend, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(batch), plain(batch), atol=1e-5, rtol=1e-4)
    assert compiled.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_network_learns_the_same(backend, batch):
    plain, compiled = (ShaSpecClassifier(dim=16, drop_rate=0.0) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    for part in ("encode", "fuse", "classify"):
        whole = torch.compile(getattr(compiled.network, part), backend=backend, fullgraph=True)
        setattr(compiled.network, part, whole)
    losses = [model.training_step(batch, 0) for model in (plain, compiled)]
    torch.testing.assert_close(losses[1], losses[0])
    for loss in losses:
        loss.backward()
    for key, parameter in plain.named_parameters():
        torch.testing.assert_close(compiled.get_parameter(key).grad, parameter.grad, atol=1e-5, rtol=1e-4)
    assert compiled.state_dict().keys() == plain.state_dict().keys()


# -- full disks -------------------------------------------------------------------------------------------------------


def full_from_the_second_save(monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = TorchCheckpointIO.save_checkpoint, []

    def failing(self, checkpoint, path, storage_options=None):
        calls.append(0)
        if len(calls) > 1:
            Path(path).write_bytes(b"half a checkpoint")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", failing)


def test_a_full_disk_leaves_the_previous_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    full_from_the_second_save(monkeypatch)
    running = trainer(tmp_path, callbacks=[Checkpoints(every_n_steps=2)])
    folder = tmp_path / "checkpoints"
    with pytest.raises(CheckpointError) as caught:
        running.fit(Plain(), toy_data(tmp_path))
    assert str(caught.value) == (
        f"{folder / 'last.ckpt'} could not be written: No space left on device. "
        "What was saved before is whole: mend that and resume."
    )
    assert os.listdir(folder) == ["last.ckpt"]
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 2


def test_the_command_says_so_in_one_line_also_when_the_logger_fails_next(cli: Cli, monkeypatch):
    from lightning.pytorch.loggers import CSVLogger

    full_from_the_second_save(monkeypatch)
    cli.write("tiny.yaml", {**RECIPE, "trainer": {**RECIPE["trainer"], "max_epochs": 2}})
    result = cli("fit", "-c", "tiny.yaml")
    assert (result.code, len(result.errors)) == (2, 1)
    assert "last.ckpt could not be written: No space left on device" in result.errors[0]

    def full(self, status):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.csv")

    monkeypatch.setattr(CSVLogger, "finalize", full)
    result = cli("fit", "-c", "tiny.yaml")
    assert (result.code, len(result.errors)) == (2, 1)
    assert "No space left on device: 'metrics.csv'" in result.errors[0]


# -- the terminal -----------------------------------------------------------------------------------------------------

SAID = (
    r"Seed set to 0",
    r"GPU available: .*, used: False",
    r"TPU available: .*, using: 0 TPU cores",
    r"`Trainer\.fit` stopped: `max_epochs=1` reached\.",
)
SUMMARY = r"[┏┡└┃│].*|Trainable params: .*|Non-trainable params: .*|Total .*|Modules in (train|eval) mode: .*"


def test_a_demo_says_nothing_that_a_user_can_do_nothing_about(tmp_path):
    recipe = ROOT / "recipes" / "shaspec" / "demo.yaml"
    command = [sys.executable, "-m", "zoo.cli", "fit", "-c", recipe, "--data.demo=60", "--trainer.max_epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    assert len(said) == len(SAID)
    assert all(re.fullmatch(wanted, line) for wanted, line in zip(SAID, said, strict=True)), said
    assert [line for line in done.stdout.splitlines() if line.strip() and not re.fullmatch(SUMMARY, line.strip())] == []
