"""A checkpoint of training serves for evaluation, whatever training remembers in it."""

import lightning.pytorch as L
import pytest
import torch

from tests.support.runs import Run, train
from tests.toy.build import toy
from tests.toy.method import Toy
from zoo.checkpoints import load_weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = Run(toy, tmp_path_factory.mktemp("toy") / "run", epochs=1)
    (found,) = train(run)
    return run, found["metrics"]


def test_a_checkpoint_with_a_loss_that_remembers_is_evaluated(trained):
    run, metrics = trained
    model, data = toy(run.folder.parent / "data")
    trainer = L.Trainer(accelerator="cpu", logger=False, use_distributed_sampler=False, enable_progress_bar=False)
    (found,) = trainer.validate(model, data, ckpt_path=run.last, weights_only=True, verbose=False)
    assert found["val/accuracy"] == pytest.approx(metrics["val/accuracy"])


def test_its_weights_start_another_run_without_what_the_loss_remembered(trained):
    run, _ = trained
    model = Toy(losses={"task": {"name": "cross_entropy"}})
    report = load_weights(model, run.last)
    saved = torch.load(run.last, weights_only=True)["state_dict"]
    assert torch.equal(model.head.weight, saved["head.weight"])
    assert report.dropped == ("losses.task.memory.values", "losses.task.memory.seen")


def test_a_checkpoint_is_loaded_without_a_trainer(trained):
    run, _ = trained
    model = Toy.load_from_checkpoint(run.last, weights_only=True)
    saved = torch.load(run.last, weights_only=True)["state_dict"]
    assert torch.equal(model.head.weight, saved["head.weight"])
    assert torch.equal(model.queue.features, saved["queue.features"])
