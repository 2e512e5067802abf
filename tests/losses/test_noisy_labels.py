"""Losses for noisy labels against their definitions and limits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses import noisy_labels as losses
from losses.classification import cross_entropy
from losses.label_correction import ForwardCorrection, backward_corrected, forward_corrected, reweighted
from losses.slots import LossSlots, Slot
from zoo.core.errors import RecipeError

C = 5


def some(seed: int, rows: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, C, generator=generator), torch.randint(C, (rows,), generator=generator)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_robust_losses_lie_between_their_limits(seed):
    logits, labels = some(seed)
    ce, mae = cross_entropy(logits, labels), losses.mae(logits, labels)
    torch.testing.assert_close(losses.gce(logits, labels, q=1.0), mae)
    torch.testing.assert_close(losses.gce(logits, labels, q=1e-3), ce, rtol=1e-2, atol=1e-2)
    assert mae - 1e-6 <= losses.gce(logits, labels) <= ce + 1e-6
    torch.testing.assert_close(losses.rce(logits, labels), -math.log(1e-4) * mae, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses.focal(logits, labels, gamma=0.0), ce)
    torch.testing.assert_close(losses.bootstrap_soft(logits, labels, beta=1.0), ce)
    torch.testing.assert_close(losses.bootstrap_hard(logits, labels, beta=1.0), ce)
    assert losses.bootstrap_hard(logits, labels) <= losses.bootstrap_soft(logits, labels, beta=0.8) + 1e-6


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_normalised_losses_sum_to_one_over_all_labels(seed):
    logits, _ = some(seed, rows=1)
    every = [torch.tensor([label]) for label in range(C)]
    torch.testing.assert_close(sum(losses.nce(logits, label) for label in every), torch.tensor(1.0))
    without_rce = [losses.nfl_rce(logits, label, beta=0.0) for label in every]
    torch.testing.assert_close(sum(without_rce), torch.tensor(1.0))


def test_sums_are_what_their_names_say():
    logits, labels = some(0)
    nce, rce, mae = (getattr(losses, name)(logits, labels) for name in ("nce", "rce", "mae"))
    torch.testing.assert_close(losses.nce_rce(logits, labels, alpha=10, beta=0.1), 10 * nce + 0.1 * rce)
    torch.testing.assert_close(losses.nce_mae(logits, labels, alpha=10, beta=0.1), 10 * nce + 0.1 * mae)
    expected = 6 * cross_entropy(logits, labels) + 0.1 * rce
    torch.testing.assert_close(losses.sce(logits, labels, alpha=6, beta=0.1), expected)


def test_elr_pulls_to_what_was_predicted_before():
    loss = losses.EarlyLearningRegularisation(beta=0.0, strength=1.0)
    loss.setup(num_samples=1, num_classes=2)
    index, label = torch.tensor([0]), torch.tensor([1])
    loss(torch.tensor([[3.0, -3.0]]), label, index=index)  # sure of class 0, against its label
    loss.beta = 1.0
    logits = torch.zeros(1, 2, requires_grad=True)
    loss(logits, label, index=index).backward()
    plain = torch.zeros(1, 2, requires_grad=True)
    cross_entropy(plain, label).backward()
    assert logits.grad[0, 1] > plain.grad[0, 1]  # pushed to the label less


def test_elr_without_an_index_says_what_is_wrong():
    loss = losses.EarlyLearningRegularisation()
    loss.setup(num_samples=3, num_classes=C)
    with pytest.raises(RecipeError, match="does not tell which samples"):
        loss(*some(0))


def test_elr_keeps_a_row_per_training_sample_in_checkpoints():
    slots = LossSlots({"task": Slot("classification", "cross_entropy")}, {"task": "elr"})
    slots.setup_losses(num_samples=9, num_classes=C)
    assert slots.state_dict()["task.memory.values"].shape == (9, C)


def test_a_perfect_transition_matrix_corrects_nothing():
    logits, labels = some(1)
    for form in (forward_corrected, backward_corrected, reweighted):
        torch.testing.assert_close(form(logits, labels, torch.eye(C)), cross_entropy(logits, labels))


def test_backward_correction_is_right_in_expectation():
    logits, _ = some(2)
    transition = 0.7 * torch.eye(C) + 0.3 / C
    clean = torch.arange(len(logits)) % C
    expected = cross_entropy(logits, clean)
    each = torch.stack(
        [
            torch.stack([backward_corrected(row[None], torch.tensor([label]), transition) for label in range(C)])
            for row in logits
        ]
    )
    torch.testing.assert_close((transition[clean] * each).sum(1).mean(), expected)


def test_a_correcting_loss_finds_its_matrix_in_the_last_epoch_of_its_warm_up():
    loss = ForwardCorrection(warmup_epochs=2)
    loss.setup(num_samples=9, num_classes=C)
    logits, labels = some(3)
    torch.testing.assert_close(loss(logits, labels, epoch=0), cross_entropy(logits, labels))
    assert torch.equal(loss.transition, torch.eye(C))
    loss(logits[:4], labels[:4], epoch=1)
    loss(logits[4:], labels[4:], epoch=1)
    p = logits.softmax(1)
    torch.testing.assert_close(loss.transition, p[p.argmax(0)])
    torch.testing.assert_close(loss(logits, labels, epoch=2), forward_corrected(logits, labels, loss.transition))


def test_a_correcting_loss_needs_to_know_the_epoch():
    loss = ForwardCorrection()
    loss.setup(num_samples=9, num_classes=C)
    with pytest.raises(RecipeError, match="which epoch"):
        loss(*some(0))
    with pytest.raises(RecipeError, match="warmup_epochs is 0"):
        ForwardCorrection(warmup_epochs=0)
