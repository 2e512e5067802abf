"""What every method that classifies from an image and a sound promises."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import zoo
from tests.support.avmnist import one_batch
from zoo.models import catalogue

NAMES = [name for name, entry in catalogue.entries().items() if entry.facts["task"] == "av_classification"]
SINGLE = {"unimodal_classifier"}  # looks at one modality


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    return one_batch(tmp_path_factory.mktemp("avmnist") / "data")


def made(name: str):
    torch.manual_seed(0)
    return zoo.create_model(name, drop_rate=0.0)


def loss_of(model, batch) -> torch.Tensor:
    """What a step differentiates, also where it does so by hand."""
    by_hand = []
    model.manual_step = lambda loss, **_: by_hand.append(loss)
    loss = model.training_step(batch, 0)
    return by_hand[0] if by_hand else loss


@pytest.mark.parametrize("name", NAMES)
def test_gives_logits_for_every_class(name, batch):
    logits = made(name).eval()(batch)
    assert logits.shape == (len(batch["label"]), 10)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name, batch, monkeypatch):
    model = made(name)
    for seed in range(4):  # a step may draw one modality alone
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        loss_of(model, batch).backward()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    without = [key for key, p in trained.items() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    assert all(p.grad.abs().sum() > 0 for p in trained.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("modality", ["image", "audio"])
def test_what_stands_in_an_absent_modality_does_not_matter(name, modality, batch):
    model = made(name).eval()
    absent = copy.deepcopy(batch)
    absent["present"][modality][:] = False
    noisy = copy.deepcopy(absent)
    noisy["modalities"][modality].fill_(float("nan"))
    for use in (model, lambda b: loss_of(model, b)):
        assert use(noisy).isfinite().all()
        assert torch.equal(use(absent), use(noisy))


@pytest.mark.parametrize("name", sorted(set(NAMES) - SINGLE))
@pytest.mark.parametrize("modality", ["image", "audio"])
def test_a_present_modality_matters(name, modality, batch):
    model = made(name).eval()
    absent = copy.deepcopy(batch)
    absent["present"][modality][:] = False
    assert not torch.allclose(model(batch), model(absent))


@pytest.mark.parametrize("name", NAMES)
def test_samples_do_not_influence_each_other(name, batch):
    model = made(name).eval()
    mixed = copy.deepcopy(batch)
    mixed["present"]["audio"][::2] = False
    together = model(mixed)
    alone = torch.cat([model(_row(mixed, row)) for row in range(len(mixed["label"]))])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def _row(batch, row):
    def cut(value):
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        return value if isinstance(value, int) else value[row : row + 1]

    return cut(batch)


@pytest.mark.parametrize("name", NAMES)
def test_a_bf16_step_agrees_with_float32(name, batch):
    model = made(name)
    exact = loss_of(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = loss_of(model, batch)
    rounded.backward()
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_a_set_of_modalities_that_no_sample_has_gets_no_accuracy(batch):
    model = made("late_fusion_classifier").eval()
    silent = copy.deepcopy(batch)
    silent["present"]["audio"][:] = False
    model._evaluate(silent, model.test_accuracy, "test")
    model._evaluate(batch | {"present": silent["present"]}, model.test_accuracy, "test")
    found = {name: float(metric.compute()) for name, metric in model.test_accuracy.items()}
    right = model(silent).argmax(1) == silent["label"]
    assert found["image"] == pytest.approx(float(right.float().mean()))
    assert math.isnan(found["audio"])
    assert math.isnan(found["image+audio"])
