"""MCKD: importance weights, what they weigh, and how they are learned; for an image and a sound, and for volumes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support import avmnist, brats
from tests.support.probes import state
from tests.support.runs import Run, differences, state_of, train, uncut_and_resumed
from tests.toy.plain import trainer
from zoo.core.errors import RecipeError
from zoo.core.randomness import isolated
from zoo.methods.mckd import importance
from zoo.methods.mckd.module import MCKD

RAW = st.lists(st.floats(-3, 3), min_size=2, max_size=4)


@given(RAW)
def test_importance_is_positive_and_sums_to_one(raw):
    weights = importance.importance(torch.tensor(raw))
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))


@given(RAW, st.data())
def test_a_pair_is_weighed_by_the_ratio_of_importances_if_both_are_available(raw, data):
    raw = torch.tensor(raw, dtype=torch.float64)
    available = torch.tensor([data.draw(st.lists(st.booleans(), min_size=3, max_size=3)) for _ in raw])
    weight, w = importance.teaching(raw, available), importance.importance(raw)
    for teacher in range(len(raw)):
        for student in range(len(raw)):
            both = available[teacher] & available[student] & (teacher != student)
            expected = torch.where(both, w[teacher] / w[student], 0.0)
            torch.testing.assert_close(weight[teacher, student], expected)
    torch.testing.assert_close(importance.teaching(raw, available[:, 0]), weight[..., 0])


# -- the classifier ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    return avmnist.one_batch(tmp_path_factory.mktemp("avmnist") / "data")


@pytest.fixture
def model():
    torch.manual_seed(0)
    found, _ = avmnist.mckd(None)
    optimizers = [made["optimizer"] for made in found.configure_optimizers()]
    found.optimizers = lambda use_pl_optimizer: optimizers
    return found.eval()


def test_a_meta_loss_is_that_of_scaled_features_and_moves_importances_alone(model, batch):
    weights = torch.tensor([0.7, 0.3], requires_grad=True)
    loss = model.meta_loss(batch, weights)
    scaled = model.encode(model.inputs(batch)[0]) * weights[:, None, None]
    expected = model.losses.task(model.network.head(scaled.transpose(0, 1).flatten(1)), batch["label"])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    found = weights.grad.clone()
    assert all(p.grad is None for p in model.parameters())
    weights.grad = None
    expected.backward()
    assert torch.equal(found, weights.grad)


def test_importances_are_learned_by_cross_entropy_also_if_the_task_is_a_loss_that_knows_training_samples(model, batch):
    other, _ = avmnist.mckd(None, losses={"task": {"name": "elr"}})
    other.load_state_dict(model.state_dict())
    weights = torch.tensor([0.7, 0.3])
    assert torch.equal(other.eval().meta_loss(batch, weights), model.meta_loss(batch, weights))


def test_a_meta_step_is_a_step_of_adam_with_decay(model, batch):
    model.raw_importance.data = torch.tensor([0.9, 0.1])
    other = torch.nn.Parameter(model.raw_importance.detach().clone())
    adam = torch.optim.Adam([other], lr=1e-2, weight_decay=5e-4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for _ in range(3):
        loss = model.meta_loss(batch, other.softmax(0))
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert torch.equal(model.meta_step(batch), loss.detach())
    assert torch.equal(model.raw_importance, other)
    assert model.raw_importance.grad is None
    changed = differences(before, model.state_dict())
    assert changed == ["/raw_importance"]


def test_training_does_not_move_importances_and_a_phase_counts_no_steps(tmp_path):
    model, data = avmnist.mckd(tmp_path / "data")
    running = trainer(tmp_path, epochs=1)
    before = model.raw_importance.detach().clone()
    phases = []
    model.meta_pass = lambda *_: phases.append((model.steps_done, running.global_step))
    running.fit(model, data)
    assert torch.equal(model.raw_importance, before)
    assert phases == [(1, 1), (4, 4)]


def test_without_a_meta_split_it_says_so(tmp_path):
    model, data = avmnist.mckd(tmp_path / "data")
    data.meta_share = 0.0
    with pytest.raises(RecipeError, match="the split meta, in which AVMNIST has no samples"):
        trainer(tmp_path).fit(model, data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(avmnist.mckd, tmp_path_factory.mktemp("mckd"), epochs=3, monitor="val/accuracy_image")


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["mid-epoch", "epoch end", "inside a pass"])
def test_cut_and_resumed_equals_uncut(run, kill):
    assert uncut_and_resumed(run, kill, workers=0) == []
    _, meta = state_of(replace(run, folder=run.folder / "whole").last)["optimizer_states"]
    assert meta["state"][0]["step"] == 15  # phases after steps 1, 4, 7, 10, 13


@pytest.mark.slow
def test_two_ranks_equal_one(run):
    one = replace(run, build=avmnist.mckd_without_dropout, folder=run.folder / "one", probe=state)
    two = replace(run, build=avmnist.mckd_half_batch, folder=run.folder / "two", probe=state, ranks=2)
    (alone,), (first, second) = train(one), train(two)
    for key, value in alone["state"].items():
        assert np.array_equal(first["state"][key], second["state"][key]), key
        np.testing.assert_allclose(first["state"][key], value, atol=2e-6, rtol=1e-4, err_msg=key)


# -- volumes ----------------------------------------------------------------------------------------------------------

SIZE = (16, 32, 64)
ALL = [[0, 1, 2, 3]]


@pytest.fixture
def segmenter():
    with isolated("mckd"):
        return MCKD(width=2, window=SIZE, stages=[{"name": "complete", "available": "all"}]).eval()


def crop() -> dict:
    draw = torch.Generator().manual_seed(0)
    names = ("flair", "t1", "t1ce", "t2")
    return {
        "modalities": {name: torch.randn(1, 1, *SIZE, generator=draw) for name in names},
        "present": {name: torch.tensor([True]) for name in names},
        "mask": (torch.rand(1, 3, *SIZE, generator=draw) < 0.3).to(torch.uint8),
        "id": ["case"],
    }


def naive_meta_logits(model: MCKD, images: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
    """As the released code: through the whole network with gradients."""
    features, skips = model.network.shared_encoder(images.flatten(0, 1)[:, None])
    scaled = features * importance.importance(raw).view(-1, 1, 1, 1, 1)
    return model.network.decoder(scaled.flatten(0, 1)[None], [skip.flatten(0, 1)[None] for skip in skips])


def test_a_meta_step_without_the_networks_gradients_goes_where_the_naive_one_goes(segmenter):
    batch = crop()
    images = segmenter.images(batch)
    raw = torch.nn.Parameter(segmenter.raw_importance.detach().clone())
    naive = torch.optim.Adam([raw], lr=1e-2, weight_decay=5e-4)
    adam = segmenter.meta_optimizer([segmenter.raw_importance])
    segmenter.optimizers = lambda use_pl_optimizer: [None, adam]
    for _ in range(3):
        naive.zero_grad()
        loss = segmenter.losses.task(naive_meta_logits(segmenter, images, raw), batch["mask"])
        loss.backward()
        naive.step()
        torch.testing.assert_close(segmenter.meta_step(batch), loss.detach())
        torch.testing.assert_close(segmenter.raw_importance, raw, atol=1e-5, rtol=0)


def test_in_the_meta_path_a_missing_modality_is_a_scaled_volume_of_zeros(segmenter):
    images = segmenter.images(crop())
    zeroed = images.clone()
    zeroed[:, [1, 2]] = 0
    expected = naive_meta_logits(segmenter, zeroed, segmenter.raw_importance)
    found = segmenter.meta_logits(images, [[0, 3]], importance.importance(segmenter.raw_importance))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_phase_draws_modalities_where_training_does(segmenter, monkeypatch):
    seen = []
    random = MCKD(width=2, window=SIZE)
    for model in (segmenter, random):
        monkeypatch.setattr(model, "meta_logits", lambda images, available, _: seen.append(available) or images[:, :3])
        for number in range(8):
            model.meta_steps_done = number
            model.meta_loss(crop(), torch.ones(4))
    assert seen[:8] == [ALL] * 8
    assert len({tuple(sorted(there)) for (there,) in seen[8:]}) > 2


def test_a_stage_without_meta_phases_is_refused():
    stages = [{"name": "complete", "until_step": 2}, {"name": "random", "meta_every_steps": 0}]
    with pytest.raises(RecipeError, match=r"stages\.1\.meta_every_steps is 0"):
        MCKD(width=2, window=SIZE, stages=stages)


def test_volumes_of_one_available_modality_distil_nothing_and_test_time_ignores_importances(segmenter):
    batch = crop()
    images = segmenter.images(batch)
    assert segmenter.terms(images, batch["mask"], [[2]])["distil"] == 0
    before = segmenter(batch)
    segmenter.raw_importance += 1.0 * torch.arange(4)
    assert torch.equal(segmenter(batch), before)
    assert segmenter.terms(images, batch["mask"], [[2, 0]])["distil"] > 0


def test_a_training_step_is_clipped_as_asked(tmp_path):
    model = MCKD(
        width=2,
        window=brats.CROP,
        meta_batches=1,
        gradient_clip_val=0.01,
        optimizer=partial(torch.optim.SGD, lr=1.0),
        stages=[{"name": "complete", "available": "all"}],
    )
    before = torch.nn.utils.parameters_to_vector(model.network.parameters()).detach().clone()
    trainer(tmp_path / "run", max_steps=1).fit(model, brats.data(tmp_path / "data", split_list="meta"))
    moved = torch.nn.utils.parameters_to_vector(model.network.parameters()).detach() - before
    assert float(moved.norm()) == pytest.approx(0.01, rel=0.01)


@pytest.fixture(scope="module")
def volume_run(tmp_path_factory):
    return Run(brats.mckd, tmp_path_factory.mktemp("mckd_volumes"), epochs=2, monitor=None)


@pytest.mark.slow
def test_volumes_cut_inside_a_phase_and_resumed_equal_uncut_ones(volume_run):
    assert uncut_and_resumed(volume_run, "inside a pass", workers=0) == []
    saved = state_of(replace(volume_run, folder=volume_run.folder / "whole").last)
    assert saved["optimizer_states"][1]["state"][0]["step"] == 6  # phases of two after steps 1, 3, 5


@pytest.mark.slow
def test_volumes_on_two_ranks_equal_those_on_one(volume_run):
    build = partial(brats.mckd, optimizer=brats.gentle_sgd, demo=30)
    one = replace(volume_run, build=build, folder=volume_run.folder / "ranks/one", probe=state, epochs=1)
    two = replace(one, build=partial(build, batch_size=1), folder=one.folder.parent / "two", ranks=2)
    (alone,), (first, second) = train(one), train(two)
    for key, value in alone["state"].items():
        assert np.array_equal(first["state"][key], second["state"][key]), key
        np.testing.assert_allclose(first["state"][key], value, atol=1e-9, rtol=1e-7, err_msg=key)
