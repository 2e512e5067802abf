"""A plain classifier with any loss, and Co-teaching."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from losses.classification import cross_entropy
from losses.registry import names
from tests.support import noisy
from tests.support.images import CLASSES, one_batch
from tests.support.probes import state
from tests.support.runs import Run, train, uncut_and_resumed
from zoo.cli import main
from zoo.core.errors import RecipeError
from zoo.methods.baselines.noisy import CoTeaching, ImageClassifier, exchanged_losses, small_loss

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    return one_batch(tmp_path_factory.mktemp("pictures") / "data")


@pytest.mark.parametrize("loss", names("classification"))
def test_one_line_gives_the_classifier_any_loss(loss, batch):
    model = ImageClassifier(**noisy.SMALL, losses={"task": {"name": loss}})
    model.losses.setup_losses(num_samples=22, num_classes=CLASSES)
    model.training_step(batch, 0).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


CLASSIFIERS = ["shaspec/demo", "mckd/demo", "mgproto/demo"]
CLASSIFIERS += [f"baselines/{name}" for name in ("demo", "avmnist_image", "birds_linear_head", "birds_protopnet")]


@pytest.mark.parametrize("recipe", CLASSIFIERS)
def test_one_line_gives_other_classifiers_a_loss_that_knows_its_training_samples(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--data.demo=70", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2"]
    main(["fit", "-c", str(RECIPES / f"{recipe}.yaml"), "--model.losses.task.name=elr", *few])


def test_each_network_trains_on_what_the_other_one_chose():
    labels = torch.tensor([0, 0, 1, 1])
    sure = torch.tensor([[4.0, -4.0], [-4.0, 4.0], [-4.0, 4.0], [4.0, -4.0]])  # of the first and the third
    other = -sure
    assert small_loss(sure, labels, 0.5).tolist() == [True, False, True, False]
    first, second = exchanged_losses([sure, other], labels, 0.5, cross_entropy)
    torch.testing.assert_close(first, cross_entropy(sure[[1, 3]], labels[[1, 3]]))
    torch.testing.assert_close(second, cross_entropy(other[[0, 2]], labels[[0, 2]]))


def test_the_share_left_out_grows_to_the_noise_rate():
    model = CoTeaching(**noisy.SMALL, noise_rate=0.4, ramp_epochs=5)
    found = [model.forget_rate(epoch) for epoch in range(7)]
    assert found == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


@pytest.mark.parametrize(("setting", "value"), [("noise_rate", 1.0), ("ramp_epochs", 1)])
def test_impossible_settings_of_co_teaching_are_refused(setting, value):
    with pytest.raises(RecipeError, match=f"model.{setting} is {value}"):
        CoTeaching(**noisy.SMALL, **{setting: value})


@pytest.mark.slow
@pytest.mark.parametrize("method", ["elr", "co_teaching"])
def test_two_ranks_equal_one(method, tmp_path):
    one = Run(getattr(noisy, method), tmp_path / "one", epochs=2, probe=state)
    two = replace(one, build=getattr(noisy, f"{method}_half_batch"), folder=tmp_path / "two", ranks=2)
    (alone,), (first, second) = train(one), train(two)
    for key, value in alone["state"].items():
        assert np.array_equal(first["state"][key], second["state"][key]), key
        np.testing.assert_allclose(first["state"][key], value, atol=2e-6, rtol=1e-4, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["mid-epoch", "epoch end"])
def test_elr_cut_and_resumed_equals_uncut(kill, tmp_path):
    assert uncut_and_resumed(Run(noisy.elr_run, tmp_path / "run"), kill, workers=0) == []
