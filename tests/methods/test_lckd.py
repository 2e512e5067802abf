"""LCKD: who is elected, who teaches whom, and that elections resume and agree over ranks."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support import brats
from tests.support.probes import state
from tests.support.runs import Run, train, uncut_and_resumed
from zoo.checkpoints import import_state
from zoo.core.errors import CheckpointError
from zoo.core.randomness import isolated
from zoo.methods.lckd import election
from zoo.methods.lckd.module import LCKD
from zoo.metrics.region_dice import region_dice

TABLES = st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=3, max_size=3)


@given(TABLES)
def test_the_best_modality_of_each_region_teaches_and_of_equal_ones_the_first(table):
    scores = torch.tensor(table, dtype=torch.float32)
    best = [row.index(max(row)) for row in table]
    assert election.winners(scores).tolist() == best
    assert election.elect(scores).tolist() == [modality in Counter(best) for modality in range(4)]


@pytest.mark.parametrize("available", [[True, True, False], [[True, True], [True, False], [False, True]]])
def test_an_available_teacher_teaches_all_that_are_available(available):
    available = torch.tensor(available)
    taught = election.teaching(torch.tensor([False, True, True]), available)
    for teacher in range(3):
        for student in range(3):
            expected = available[teacher] & available[student] & (teacher != 0)
            assert torch.equal(taught[teacher, student].bool(), expected)


# -- the network ------------------------------------------------------------------------------------------------------


@pytest.fixture
def model():
    with isolated("lckd"):
        return LCKD(width=2, window=(16, 32, 64)).eval()


def volumes(samples: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    mask = torch.rand(samples, 3, 16, 32, 64, generator=draw) < 0.3
    return torch.randn(samples, 4, 16, 32, 64, generator=draw), mask.to(torch.uint8)


def naive_features(model: LCKD, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Of all volumes, those of zeros too, as the released code encodes them: [B, M, ...]."""
    features, skips = model.network.shared_encoder(images.flatten(0, 1)[:, None])
    return features.unflatten(0, (len(images), -1)), [skip.unflatten(0, (len(images), -1)) for skip in skips]


def test_missing_features_are_the_mean_of_available_ones_and_missing_skips_those_of_zeros(model):
    images, _ = volumes()
    found = model.network(images, [[3, 1], [0]])
    zeroed = images.clone()
    zeroed[0, [0, 2]] = zeroed[1, 1:] = 0
    features, skips = naive_features(model, zeroed)
    first, second = features.unbind()
    mean = (first[1] + first[3]) / 2
    filled = torch.stack([torch.stack([mean, first[1], mean, first[3]]), torch.stack([second[0]] * 4)])
    expected = model.network.decoder(filled.flatten(1, 2), [skip.flatten(1, 2) for skip in skips])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_missing_modality_is_never_looked_at(model):
    images, mask = volumes()
    for available in ([[0, 2], [0, 2]], [[1], [3, 0]]):
        expected = model.terms(images, mask, available)
        spoilt = images.clone()
        for sample, there in enumerate(available):
            for modality in {*range(4)} - {*there}:
                spoilt[sample, modality] = float("nan")
        found = model.terms(spoilt, mask, available)
        assert all(torch.equal(found[slot], expected[slot]) for slot in expected)


def test_only_elected_available_modalities_teach(model):
    images, mask = volumes()
    features, _ = naive_features(model, images)
    model.teachers = torch.tensor([False, True, True, False])
    found = model.terms(images, mask, [[0, 1], [0, 1]])["distil"]
    torch.testing.assert_close(found, (features[:, 0] - features[:, 1]).abs().mean(), atol=1e-5, rtol=1e-4)
    assert model.terms(images, mask, [[0, 3], [0, 3]])["distil"] == 0


def test_every_parameter_learns(model):
    images, mask = volumes()
    model.teachers = torch.tensor([True, False, True, False])
    sum(model.terms(images, mask, [[0, 1, 2], [0, 1, 2]]).values()).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_a_vote_is_the_dice_of_each_modality_alone(model):
    images, mask = volumes(1)
    with torch.no_grad():
        found = election.single_modality_dice(model.network, images, mask, (16, 32, 64))
        logits = torch.cat([model.network(images, [[modality]]) for modality in range(4)])
    expected = region_dice(logits.sigmoid(), mask.expand(4, -1, -1, -1, -1)).T
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_checkpoints_of_its_family_are_read_and_elect_anew(model):
    own = {key: torch.randn_like(value) for key, value in model.network.state_dict().items()}
    names = {r"shared_encoder\.": "shared_enc.", r"decoder\.": "shared_dec."}
    published = dict(own)
    for ours, theirs in names.items():
        published = {re.sub(f"^{ours}", theirs, key): value for key, value in published.items()}
    more = dict.fromkeys(("flair_enc.x", "dom_classifier.bias", "kd_weights.kd_weights"), torch.zeros(4))
    for tensors in (published, published | more):
        model.teachers = torch.ones(4, dtype=torch.bool)
        import_state(model, tensors, LCKD.official.rules)
        assert all(torch.equal(value, own[key]) for key, value in model.network.state_dict().items())
        assert model.teachers.tolist() == [True, False, False, False]
    with pytest.raises(CheckpointError, match="1 unexpected"):
        import_state(model, published | {"other": torch.zeros(1)}, LCKD.official.rules)


def test_a_bf16_step_agrees_with_float32(model):
    images, mask = volumes()
    exact = model.terms(images, mask, [[0, 1, 2], [0, 1, 2]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.terms(images, mask, [[0, 1, 2], [0, 1, 2]])
    assert rounded["task"].item() == pytest.approx(exact["task"].item(), rel=0.02)


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(brats.lckd, tmp_path_factory.mktemp("lckd"), epochs=3, monitor=None)


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["mid-epoch", "inside a pass"])
def test_cut_and_resumed_equals_uncut(run, kill):
    assert uncut_and_resumed(run, kill, workers=0) == []
    saved = torch.load(run.folder / "whole/checkpoints/last.ckpt", weights_only=True)
    assert saved["zoo"]["passes"] == {"election": 9}
    votes = saved["state_dict"]["votes"]
    assert (votes > 0).all()
    assert torch.equal(saved["state_dict"]["teachers"], election.elect(votes))


@pytest.mark.slow
def test_two_ranks_equal_one(run):
    build = partial(brats.lckd, optimizer=brats.gentle_sgd)
    one = replace(run, build=build, folder=run.folder / "one", probe=state, epochs=2)
    two = replace(one, build=partial(build, batch_size=1), folder=run.folder / "two", ranks=2)
    (alone,), (first, second) = train(one), train(two)
    for key, value in alone["state"].items():
        assert np.array_equal(first["state"][key], second["state"][key]), key
        np.testing.assert_allclose(first["state"][key], value, atol=1e-9, rtol=1e-7, err_msg=key)
