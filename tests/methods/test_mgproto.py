"""MGProto: what EM, mining and projection compute, and that a run learns, resumes and agrees over ranks."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support import birds
from tests.support.probes import state
from tests.support.runs import Run, train, uncut_and_resumed
from tests.support.synchronisations import Synchronisations
from zoo.methods.mgproto.em import PrototypeEM, diversity, diversity_gradient, prune
from zoo.methods.mgproto.network import best_levels, class_log_likelihood, mine, rows_to_remember
from zoo.state import ClassQueue, GaussianMixture

CLASSES, K, DIM, SIZE = 4, 3, 5, 6


def fitted(seed: int, mode: str, full: int = CLASSES) -> tuple[PrototypeEM, GaussianMixture, ClassQueue]:
    """EM, a mixture and queues of which the first `full` are full."""
    generator = torch.Generator().manual_seed(seed)
    mixture, queue = GaussianMixture(CLASSES, K, DIM), ClassQueue(CLASSES, SIZE, DIM)
    mixture.means.copy_(torch.randn(mixture.means.shape, generator=generator))
    mixture.variances.fill_(0.3)
    for number in range(CLASSES):
        count = SIZE if number < full else SIZE - 1
        queue.push(torch.randn(count, DIM, generator=generator), torch.full((count,), number))
    return PrototypeEM(CLASSES, K, DIM, mode), mixture, queue


def naive_update(mixture: GaussianMixture, queue: ClassQueue, number: int, em: PrototypeEM) -> tuple[Tensor, Tensor]:
    """Means and priors of one class by autograd and torch's Adam, as the page tells the update."""
    means = mixture.means[number].clone().requires_grad_()
    optimizer, priors = torch.optim.Adam([means], lr=em.lr), mixture.priors[number].clone()
    variance, x = mixture.variances[number], queue.features[number]
    for _ in range(em.loops):
        normal = torch.distributions.Independent(torch.distributions.Normal(means, variance.sqrt()), 1)
        joint = normal.log_prob(x[:, None]) + (priors + 1e-10).log()
        smoothed = joint.detach().softmax(1) + em.smoothing
        r = smoothed / smoothed.sum(1, keepdim=True)
        optimizer.zero_grad()
        (-(r * joint).sum(1).mean() + em.diversity * diversity(means[None])[0]).backward()
        optimizer.step()
        priors = em.momentum * priors + (1 - em.momentum) * (r.sum(0) + 1e-10) / len(x)
    return means.detach(), priors


@given(st.integers(0, 100), st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_gradient_of_diversity_is_that_of_autograd(seed, count):
    means = torch.randn(2, count, DIM, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    diversity(means).sum().backward()
    torch.testing.assert_close(diversity_gradient(means.detach()), means.grad, atol=1e-6, rtol=1e-5)


@given(st.integers(0, 100), st.sets(st.integers(0, CLASSES - 1), min_size=1))
@settings(max_examples=10, deadline=None)
def test_batched_em_is_adam_of_each_class_by_itself(seed, touched):
    em, mixture, queue = fitted(seed, "batched", full=CLASSES - 1)
    before = {name: buffer.clone() for name, buffer in mixture.named_buffers()}
    expected = {number: naive_update(mixture, queue, number, em) for number in touched if number < CLASSES - 1}
    em.touch(torch.tensor([*touched]))
    em.update(mixture, queue, most=len(touched))
    for number in range(CLASSES):
        means, priors = expected.get(number, (before["means"][number], before["priors"][number]))
        torch.testing.assert_close(mixture.means[number], means, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mixture.priors[number], priors)
    assert torch.equal(em.steps > 0, torch.tensor([n in expected for n in range(CLASSES)]))
    assert not em.pending.any()


def test_first_update_of_one_class_is_the_same_in_both_modes():
    found = []
    for mode in ("batched", "sequential"):
        em, mixture, queue = fitted(3, mode)
        em.touch(torch.tensor([2]))
        em.update(mixture, queue, most=1)
        found.append(mixture)
    torch.testing.assert_close(found[0].means, found[1].means)
    assert torch.equal(found[0].priors, found[1].priors)


def test_sequential_em_moves_other_classes_through_their_moments():
    em, mixture, queue = fitted(0, "sequential")
    for number in (0, 1):
        before = mixture.means[0].clone()
        em.touch(torch.tensor([number]))
        em.update(mixture, queue, most=1)
    assert not torch.equal(mixture.means[0], before)


def test_batched_em_waits_for_nothing_from_the_device():
    em, mixture, queue = fitted(0, "batched")
    with Synchronisations() as waits:
        em.touch(torch.tensor([1, 3, 1]))
        em.update(mixture, queue, most=3)
    assert waits.seen == []


def test_em_raises_the_likelihood_of_its_queue():
    em, mixture, queue = fitted(1, "batched")
    em.diversity, em.lr = 0.0, 0.02
    rows = []
    for _ in range(60):
        em.touch(torch.arange(CLASSES))
        rows.append(em.update(mixture, queue, most=CLASSES)[:, 0])
    assert (rows[-1] > rows[0] + 0.5).all()


def test_mining_equals_its_definition_and_level_one_is_the_prediction():
    generator = torch.Generator().manual_seed(0)
    log_density = -torch.rand(3, 7, CLASSES, K, generator=generator) * 5
    priors = torch.rand(CLASSES, K, generator=generator).softmax(1)
    labels = torch.tensor([1, 3, 1])
    mined = mine(log_density, priors, labels, levels=20)  # more than there are locations
    every = best_levels(log_density, priors, 20)
    for row, label in enumerate(labels.tolist()):
        for number in range(CLASSES):
            expected = every[row, number] if number == label else every[row, number, :1].expand(7)
            torch.testing.assert_close(mined.levels[row, number], expected)
    torch.testing.assert_close(mined.levels[..., 0], class_log_likelihood(log_density, priors))


def test_each_location_is_remembered_once_and_in_order():
    unit = torch.arange(8.0).reshape(2, 1, 2, 2)
    rows, owners = rows_to_remember(unit, torch.tensor([[3, 0, 3], [1, 1, 1]]), torch.tensor([5, 2]))
    kept = owners >= 0
    assert rows[kept].flatten().tolist() == [0, 3, 5]
    assert owners[kept].tolist() == [5, 5, 2]


def test_pruning_keeps_ties_and_does_not_renormalise():
    priors = torch.tensor([[0.4, 0.2, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4]])
    assert torch.equal(prune(priors, 2), torch.tensor([[0.4, 0.2, 0.2, 0.2], [0.0, 0.0, 0.3, 0.4]]))


def batch(size: int = 6, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(size, 3, 32, 32, generator=generator)
    return {"image": image, "label": torch.arange(size) % 12, "index": torch.arange(size), "id": [""] * size}


def test_forward_changes_no_state_even_in_training_mode():
    model, _ = birds.mgproto()
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model(batch())
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert all("running" in key or "num_batches" in key for key in changed)  # BatchNorm's own


def test_gradient_reaches_all_but_the_mixture_and_the_embedding():
    model, _ = birds.mgproto()
    model.losses.aux.setup(0, 12)
    terms, *_ = model.terms(model.front_end(batch()["image"]), batch())
    assert terms.keys() == {"task", "aux"}  # the first stage does not mine
    sum(terms.values()).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"network.embedding.weight", "network.embedding.bias"}


def test_bfloat16_step_is_near_that_of_float32():
    found = []
    for half in (False, True):
        torch.manual_seed(0)
        model, _ = birds.mgproto(stages=[{"name": "all"}])
        model.losses.aux.setup(0, 12)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            terms, *_ = model.terms(model.front_end(batch()["image"]), batch())
        found.append(torch.stack([term.float() for term in terms.values()]))
    torch.testing.assert_close(found[1], found[0], rtol=0.02, atol=0.02)


def run_once(folder, epochs: int = 3, **settings: object) -> tuple[L.Trainer, object, object]:
    model, data = birds.mgproto(folder / "data", **settings)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        use_distributed_sampler=False,
        **{"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0},
    )
    trainer.fit(model, data)
    return trainer, model, data


def test_a_run_projects_prunes_tests_and_explains(tmp_path):
    trainer, model, data = run_once(tmp_path)
    own = model.sources.index[model.sources.index >= 0]
    assert len(own) == len(own.unique()) == 24  # two images per class
    assert (model.network.mixture.priors > 0).sum(1).max() == 2
    name = model.sources.image_id(0, 0)
    assert name in [picture.id for picture in data.source("train").pictures if picture.label == 0]
    box = model.sources.box[0, 0]
    assert (box[:2] < box[2:]).all()
    assert ((box >= 0) & (box <= 1)).all()

    trainer.test(model, data, verbose=False)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"accuracy.csv", "out_of_distribution.csv", "parts.csv"} <= written
    trainer.predict(model, data)
    pictures = sorted((tmp_path / "explanations").glob("*.png"))
    assert len(pictures) == 24
    facts = json.loads(pictures[0].with_suffix(".json").read_text())
    assert facts["explained"] == next(iter(facts["scores"])) in data.classes
    assert facts["prototypes"][0]["source_image"].split("/")[0] == facts["explained"]
    assert sum(winner["share"] for winner in facts["prototypes"]) <= 1.0001


def test_the_module_says_which_classes_em_waits_for(tmp_path, caplog):
    with caplog.at_level("INFO"):
        run_once(tmp_path, epochs=1, queue_size=50, stages=[{"name": "all"}])
    (told,) = {record.getMessage() for record in caplog.records if "EM waits" in record.getMessage()}
    assert told.startswith("EM waits for 12 of 12 classes")
    assert "001.Beak0_Crest0_Wing0_Tail0 (" in told


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(birds.mgproto, tmp_path_factory.mktemp("mgproto"), epochs=3, monitor="val/accuracy")


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["mid-epoch", "epoch end", "inside a pass"])
@pytest.mark.parametrize("mode", ["batched", "sequential"])
def test_cut_and_resumed_equals_uncut(run, kill, mode):
    run = replace(run, build=partial(birds.mgproto, em_mode=mode), folder=run.folder / mode)
    assert uncut_and_resumed(run, kill, 0) == []


@pytest.mark.slow
def test_two_ranks_equal_one(run):
    one = replace(run, build=birds.of_ranks, folder=run.folder / "one", probe=state)
    two = replace(run, build=birds.half_batch, folder=run.folder / "two", probe=state, ranks=2)
    (alone,), (first, second) = train(one), train(two)
    for key, value in alone["state"].items():
        assert np.array_equal(first["state"][key], second["state"][key]), key
        np.testing.assert_allclose(first["state"][key], value, atol=2e-4, rtol=1e-3, err_msg=key)
    assert first["metrics"]["val/accuracy"] == second["metrics"]["val/accuracy"] == alone["metrics"]["val/accuracy"]
