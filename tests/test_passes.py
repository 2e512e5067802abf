"""Passes are due once per boundary, also when boundaries were missed; evaluation mode leaves no trace."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zoo.core.errors import RecipeError
from zoo.passes import Pass, evaluating


def every(*, steps: int | None = None, epochs: int | None = None) -> Pass:
    return Pass("look", lambda: None, steps, epochs)


def boundaries(look: Pass, moments: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The moments (steps, epochs done) at which it ran, asked at each of them."""
    ran = []
    for moment in moments:
        if look.is_due(*moment):
            ran.append(moment)
            look.mark(*moment)
    return ran


def test_nothing_is_due_before_the_first_step():
    assert not every(steps=1).is_due(0, 0)
    assert not every(epochs=1).is_due(0, 0)


def test_a_pass_runs_after_every_so_many_steps_whatever_the_epoch():
    moments = [(step, step // 4) for step in range(10)]
    assert boundaries(every(steps=3), moments) == [(3, 0), (6, 1), (9, 2)]


def test_a_pass_runs_after_every_so_many_epochs_whatever_the_step():
    moments = [(step, step // 2) for step in range(13)]
    assert boundaries(every(epochs=2), moments) == [(4, 2), (8, 4), (12, 6)]


def test_a_pass_may_begin_at_a_step_of_its_own():
    look = Pass("look", lambda: None, 4, None, first=1)
    assert boundaries(look, [(step, 0) for step in range(11)]) == [(1, 0), (5, 0), (9, 0)]


def test_a_period_may_change_during_training():
    now = [3]
    look = Pass("look", lambda: None, lambda: now[0], None, first=1)
    ran = boundaries(look, [(step, 0) for step in range(8)])
    now[0] = 5
    assert ran + boundaries(look, [(step, 0) for step in range(8, 18)]) == [(1, 0), (4, 0), (7, 0), (11, 0), (16, 0)]


def test_it_runs_once_at_a_boundary_however_often_it_is_asked():
    assert boundaries(every(steps=3), [(3, 0)] * 5 + [(4, 1)] * 5) == [(3, 0)]


def test_a_boundary_that_was_jumped_over_is_made_up_once():
    assert boundaries(every(steps=3), [(2, 0), (7, 0), (8, 0), (9, 0)]) == [(7, 0), (9, 0)]


def test_what_is_done_is_a_number_that_a_checkpoint_holds():
    look = every(steps=3)
    look.mark(7, 2)
    assert look.done == 6
    resumed = every(steps=3)
    resumed.done = look.done
    assert not resumed.is_due(8, 2)
    assert resumed.is_due(9, 2)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(0, 3), max_size=40))
def test_as_many_runs_as_boundaries_passed_when_each_is_asked_for(period, jumps):
    done, look, ran = 0, every(steps=period), 0
    for jump in jumps:
        for _ in range(jump):
            done += 1
            ran += len(boundaries(look, [(done, 0)]))
    assert ran == done // period


@pytest.mark.parametrize("periods", [{}, {"steps": 1, "epochs": 1}])
def test_a_pass_has_one_period(periods):
    with pytest.raises(ValueError, match="'look' needs every_steps, every_epochs or at_epochs"):
        every(**periods)


@pytest.mark.parametrize("periods", [{"steps": 0}, {"epochs": -1}])
def test_a_period_is_at_least_one(periods):
    with pytest.raises(RecipeError, match=f"'look' cannot run every {next(iter(periods.values()))}"):
        every(**periods)


def frozen_in_part() -> nn.Module:
    """A network in training whose BatchNorm was put into evaluation mode, as fine-tuning does."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)), nn.Linear(2, 2))
    model[1][0].eval()
    return model


def test_everything_is_in_evaluation_mode_inside_and_each_part_as_before_after():
    model = frozen_in_part()
    before = [part.training for part in model.modules()]
    assert set(before) == {True, False}
    with evaluating(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == before


def test_modes_come_back_after_an_error():
    model = frozen_in_part()
    before = [part.training for part in model.modules()]
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert [part.training for part in model.modules()] == before


def test_evaluation_mode_nests():
    model = frozen_in_part()
    before = [part.training for part in model.modules()]
    with evaluating(model):
        with evaluating(model):
            pass
        assert not model.training
    assert [part.training for part in model.modules()] == before


def test_running_statistics_do_not_move_inside():
    model = frozen_in_part().train()
    mean = model[1][0].running_mean.clone()
    with evaluating(model):
        model(torch.randn(8, 2))
    assert torch.equal(model[1][0].running_mean, mean)


def test_a_pass_at_certain_epochs_runs_then_and_makes_up_for_the_one_it_missed():
    look = Pass("look", lambda: None, None, None, at_epochs=(2, 5))
    moments = [(step, epoch) for step, epoch in enumerate([0, 1, 2, 2, 3, 4, 6, 6, 7])]
    assert boundaries(look, moments) == [(2, 2), (6, 6)]
