"""Losses of kind `spectrogram` against their definitions, and where these have none."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from losses.spectrogram import spectrogram_envelope, spectrogram_mse, spectrogram_phase
from tests.support.ranks import on_ranks
from zoo.core.distributed import rank

SHAPE = (3, 2, 5, 4)


def drawn(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def phase_by_bins(predicted: torch.Tensor, target: torch.Tensor, share: float) -> float:
    found = []
    p, t = (torch.complex(*x.double().unbind(1)).flatten().tolist() for x in (predicted, target))
    least = share * sum(abs(x.real) + abs(x.imag) for x in p) / len(p)
    for a, b in zip(p, t, strict=True):
        if min(abs(a.real) + abs(a.imag), abs(b.real) + abs(b.imag)) > least:
            turn = abs(math.atan2(a.imag, a.real) - math.atan2(b.imag, b.real))
            found.append(min(turn, 2 * math.pi - turn))
    return sum(found) / len(found)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(0, 1))
def test_phase_is_the_mean_turn_of_loud_bins(seed, share):
    predicted, target = drawn(seed), drawn(seed + 100)
    expected = phase_by_bins(predicted, target, share)
    assert float(spectrogram_phase(predicted, target, ignore_below=share)) == pytest.approx(expected, rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 10), st.integers(0, 99))
def test_phase_does_not_hear_how_loud_the_target_is(factor, seed):
    predicted, target = drawn(seed), 2 + drawn(seed + 1).abs()
    torch.testing.assert_close(
        spectrogram_phase(predicted, factor * 10 * target), spectrogram_phase(predicted, 10 * target)
    )


def test_envelope_compares_energies_over_time():
    predicted, target = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    predicted[0, 0, 0] = torch.tensor([3.0, 4.0])
    assert spectrogram_envelope(predicted, target) == 2.5
    assert spectrogram_envelope(predicted, predicted.flip(-1)) == 0


def test_mse_is_over_both_parts():
    assert spectrogram_mse(torch.ones(SHAPE), torch.zeros(SHAPE)) == 1


@pytest.mark.parametrize("loss", [spectrogram_mse, spectrogram_envelope, spectrogram_phase])
def test_silence_has_a_value_and_a_slope(loss):
    predicted = torch.zeros(SHAPE, requires_grad=True)
    value = loss(predicted, torch.zeros(SHAPE))
    value.backward()
    assert value == 0
    assert predicted.grad.abs().sum() == 0


def _phase_of_own_half() -> tuple[torch.Tensor, torch.Tensor]:
    predicted, target = drawn(1)[:2], drawn(2)[:2]
    own = predicted[rank() :: 2].clone().requires_grad_()
    value = spectrogram_phase(own * (1 + 3 * rank()), target[rank() :: 2])  # one half much louder than the other
    value.backward()
    return value.detach(), own.grad / 2  # DDP's mean over ranks


def test_phase_over_two_ranks_is_that_of_one():
    whole = drawn(1)[:2].clone().requires_grad_()
    scaled = whole * torch.tensor([1.0, 4.0])[:, None, None, None]
    value = spectrogram_phase(scaled, drawn(2)[:2])
    value.backward()
    found = on_ranks(2, _phase_of_own_half)
    for number, (own, gradient) in enumerate(found):
        torch.testing.assert_close(own, value.detach())
        torch.testing.assert_close(gradient[0], whole.grad[number])
