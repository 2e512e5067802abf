"""GNL: what its prior, losses and looks at the training set promise; that it learns, resumes and agrees over ranks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses.candidate_labels import class_posterior, implicit_generative
from tests.support import noisy
from tests.support.images import CLASSES, one_batch
from tests.support.probes import state
from tests.support.ranks import on_ranks
from tests.support.runs import Run, train, uncut_and_resumed
from tests.support.synchronisations import Synchronisations
from zoo.checkpoints import import_state, load_weights
from zoo.core.distributed import rank
from zoo.core.errors import CheckpointError
from zoo.methods.gnl import prior
from zoo.methods.gnl.noise import fit_losses, noise_probability

VARIANTS = {
    "pxy": {"direction": "pxy"},
    "pyx": {"direction": "pyx"},
    "pair": {"pair": True, "draw_from": "both"},
    "mixup": {"pair": True, "mixup": 0.5},
}


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    return one_batch(tmp_path_factory.mktemp("pictures") / "data")


# -- prior ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 9), st.integers(0, 1))
def test_a_prior_is_even_over_candidates_that_hold_the_given_label(seed, classes, rows, leave_out):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (rows,), generator=generator)
    drawn = torch.randint(classes, (rows,), generator=generator)
    w = torch.rand(rows, generator=generator)
    covered = prior.coverage(classes, label, drawn)
    for count in (
        prior.uncertainty_count(w, covered, leave_out),
        prior.warmup_count(w, classes, leave_out),
    ):
        more = prior.draw_uncertainty(covered, count, torch.rand(rows, classes, generator=generator))
        free = classes - covered.sum(1)
        assert torch.equal(more.sum(1), torch.minimum(count, free))
        assert not (more & covered).any()
        rows_of = prior.candidate_prior(covered | more)
        torch.testing.assert_close(rows_of.sum(1), torch.ones(rows))
        assert (rows_of.gather(1, label[:, None]) > 0).all()
        assert all(len(row[row > 0].unique()) == 1 for row in rows_of)
    assert (
        (prior.uncertainty_count(w, covered, 1) < classes - covered.sum(1)).logical_or(classes == covered.sum(1)).all()
    )


def test_classes_are_drawn_as_often_as_their_probabilities_say():
    probabilities = torch.tensor([[0.1, 0.0, 0.6, 0.3]]).expand(20_000, -1)
    drawn = prior.draw_class(probabilities, torch.rand(20_000, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(drawn.bincount(minlength=4) / 20_000, probabilities[0], atol=0.015)
    assert not (drawn == 1).any()


def test_free_classes_are_drawn_equally_often():
    covered = torch.tensor([[True, False, False, False, False]]).expand(20_000, -1)
    keys = torch.rand(20_000, 5, generator=torch.Generator().manual_seed(0))
    drawn = prior.draw_uncertainty(covered, torch.full((20_000,), 2), keys)
    assert torch.allclose(drawn.float().mean(0), torch.tensor([0.0, 0.5, 0.5, 0.5, 0.5]), atol=0.015)


def test_warm_up_draws_any_number_but_those_that_leave_too_few_classes_out():
    uniform = torch.arange(1024) / 1024
    assert prior.warmup_count(uniform, 10, leave_out=1).bincount().tolist() == [128] * 8  # 0 … C - 3
    assert prior.warmup_count(uniform, 10, leave_out=0).unique().tolist() == [*range(9)]
    assert not prior.warmup_count(uniform, 2, leave_out=1).any()


def test_two_networks_draw_from_each_other(batch):
    model = noisy.gnl(pair=True)
    model.memory.averages[1].values.copy_(torch.eye(CLASSES)[0])  # the second network is sure of class 0
    covered = model._draw_prior(0, batch) > 0
    assert covered[:, 0].all()
    model.memory.averages[1].values.fill_(1 / CLASSES)
    model.memory.averages[0].values.copy_(torch.eye(CLASSES)[0])
    model.draw_from = "both"
    assert (model._draw_prior(0, batch) > 0)[:, 0].all()


# -- loss ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant, batch):
    model = noisy.gnl(**VARIANTS[variant])
    model.training_step(batch, 0).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_bf16_step_agrees_with_float32(variant, batch):
    exact = noisy.gnl(**VARIANTS[variant]).training_step(batch, 0)
    model = noisy.gnl(**VARIANTS[variant])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.training_step(batch, 0)
    rounded.backward()
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_each_head_learns_from_its_own_terms(batch):
    model = noisy.gnl()
    network = model.networks[0]
    terms = model.terms(*network(batch["image"]), batch, model._draw_prior(0, batch))
    heads = {"noisy": [network.noisy], "prior": [network.clean], "posterior": [network.noisy]}
    for name, term in terms.items():
        gradients = torch.autograd.grad(
            term,
            [network.clean.weight, network.noisy.weight, network.backbone.conv1.weight],
            allow_unused=True,
            retain_graph=True,
        )
        learns = [network.clean in heads[name], network.noisy in heads[name], True]
        assert [g is not None and bool(g.abs().max() > 1e-7) for g in gradients] == learns, name


def test_the_prior_has_no_effect_on_the_posterior_term_of_pyx(batch):
    model = noisy.gnl(direction="pyx")
    clean, given_logits = torch.randn(8, CLASSES), torch.randn(8, CLASSES)
    terms = [
        model.terms(clean, given_logits, batch, rows)["posterior"]
        for rows in (torch.eye(CLASSES)[batch["label"]], torch.full((8, CLASSES), 0.25))
    ]
    torch.testing.assert_close(*terms)


def test_one_sample_alone_has_its_prior_as_posterior():
    rows = torch.tensor([[0.5, 0.5, 0.0]])
    log_q = class_posterior(torch.tensor([[2.0, -1.0, 0.3]]).log_softmax(1), rows)
    torch.testing.assert_close(log_q.exp(), rows, atol=1e-6, rtol=0)


def test_a_training_step_does_not_wait_for_the_device(batch):
    model = noisy.gnl()
    model.training_step(batch, 0)
    with Synchronisations() as synchronisations:
        terms = model.terms(*model.networks[0](batch["image"]), batch, model._draw_prior(0, batch))
        sum(terms.values()).backward()
    # The index check of a label memory is made on the CPU alone.
    assert synchronisations.seen == []


# -- a look at the training set --------------------------------------------------------------------------------------


def test_samples_of_large_loss_are_probably_wrong():
    losses = torch.cat([torch.full((60,), 0.1), torch.full((40,), 3.0)]) + 0.05 * torch.randn(100)
    w = noise_probability(losses)
    assert w[:60].max() < 0.05
    assert w[60:].min() > 0.95
    assert torch.equal(w, noise_probability(losses))


def test_losses_that_are_all_alike_tell_nothing():
    assert not fit_losses(torch.full((9,), 0.7)).noise_probability.any()


def test_labels_are_judged_when_warm_up_is_over(tmp_path):
    run = Run(noisy.two_epochs_of_warm_up, tmp_path / "run", epochs=1, probe=state)
    (found,) = train(run)
    assert not found["state"]["memory.noise_probability"].any()
    (found,) = train(replace(run, epochs=2))
    assert found["state"]["memory.noise_probability"].any()
    assert found["state"]["memory.joint"].sum() == pytest.approx(22, rel=1e-4)
    assert found["state"]["memory.true_counts"].sum() == 22


# -- checkpoints -----------------------------------------------------------------------------------------------------


def published(model) -> dict[str, torch.Tensor]:
    """The network's weights under the published code's names."""
    names = {"clean": "linear", "noisy": "transition"}
    found = {}
    for key, value in model.networks[0].state_dict().items():
        first, _, rest = key.partition(".")
        found[rest.replace("downsample", "shortcut") if first == "backbone" else f"{names[first]}.{rest}"] = value
    return found


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_published_state_dict_is_read(wrapped, batch):
    source, model = noisy.gnl().eval(), noisy.gnl().eval()
    for p in source.parameters():
        p.data.normal_(std=0.1)
    tensors = published(source) | {"proj.0.weight": torch.zeros(2, 2)}
    del model.memory
    import_state(model, {f"module.{k}": v for k, v in tensors.items()} if wrapped else tensors, model.official.rules)
    assert torch.equal(model(batch), source(batch))


def test_a_network_without_the_second_head_is_refused_unless_that_is_asked_for():
    model = noisy.gnl()
    del model.memory
    tensors = {key: value for key, value in published(model).items() if not key.startswith("transition")}
    with pytest.raises(CheckpointError, match=r"networks\.0\.noisy"):
        import_state(model, tensors, model.official.rules)
    report = import_state(model, tensors, model.official.rules, allow_missing=["networks.0.noisy.*"])
    assert report.allowed == ("networks.0.noisy.weight", "networks.0.noisy.bias")


def test_a_run_leaves_pictures_and_its_weights_start_another(tmp_path):
    import lightning.pytorch as L

    run = Run(noisy.gnl_run, tmp_path / "run", epochs=2)
    train(run)
    model, data = noisy.gnl_run(tmp_path / "data")
    trainer = L.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    (found,) = trainer.test(model, data, ckpt_path=run.last, weights_only=True, verbose=False)
    assert 0 <= found["test/transition_error"] <= 2
    assert all((tmp_path / name).stat().st_size > 0 for name in ("transition.png", "noisiest.png", "accuracy.csv"))
    fresh, _ = noisy.gnl_run(tmp_path / "data")
    report = load_weights(fresh, run.last)
    assert {key.partition(".")[0] for key in report.dropped} == {"memory"}


# -- ranks and resumption --------------------------------------------------------------------------------------------


def _of_rank(logits: torch.Tensor, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    own = slice(3 * rank(), 3 * rank() + 3)
    mine = logits.clone().requires_grad_()
    loss = implicit_generative(mine[own].log_softmax(1), rows[own])
    loss.backward()
    return {"loss": loss.detach(), "gradient": mine.grad}


def test_the_normaliser_and_its_gradient_reach_over_ranks():
    torch.manual_seed(0)
    logits, rows = 3 * torch.randn(6, 4), (torch.rand(6, 4) > 0.4).float() + torch.eye(4)[torch.arange(6) % 4]
    rows = rows / rows.sum(1, keepdim=True)
    whole = logits.clone().requires_grad_()
    loss = implicit_generative(whole.log_softmax(1), rows)
    loss.backward()
    ranks = on_ranks(2, _of_rank, logits, rows)
    torch.testing.assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, loss.detach())
    # Each rank's gradient holds what both ranks' losses say of its rows; DDP averages over ranks.
    torch.testing.assert_close((ranks[0]["gradient"] + ranks[1]["gradient"]) / 2, whole.grad)
    alone = [implicit_generative(logits[r].log_softmax(1), rows[r]) for r in (slice(0, 3), slice(3, 6))]
    assert abs(sum(alone) / 2 - loss) > 1e-3  # a normaliser per rank is something else


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    run = Run(noisy.frozen, tmp_path / "one", epochs=3, probe=state)
    (alone,), (first, second) = (
        train(run),
        train(replace(run, build=noisy.half_batch, folder=tmp_path / "two", ranks=2)),
    )
    for key, value in alone["state"].items():
        assert np.array_equal(first["state"][key], second["state"][key]), key
        # The mixture on 22 losses turns rounding into more.
        tolerance = 1e-2 if "noise_probability" in key else 2e-5
        np.testing.assert_allclose(first["state"][key], value, atol=tolerance, rtol=1e-3, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["mid-epoch", "last batch", "epoch end", "inside a pass"])
def test_cut_and_resumed_equals_uncut(kill, tmp_path):
    assert uncut_and_resumed(Run(noisy.gnl_run, tmp_path / "run", epochs=4), kill, workers=0) == []
