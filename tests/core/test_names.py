"""Near misses: what an error offers for a name that does not exist."""

import pickle
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.core.errors import RecipeError, UnknownNameError
from zoo.core.names import did_you_mean, nearest, unknown

LOSSES = ["cross_entropy", "dice_ce", "ring_l1", "supervised_pixel_contrast", "info_nce"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("cross_entrpy", "cross_entropy"),  # a letter left out
        ("corss_entropy", "cross_entropy"),  # two swapped
        ("crossentropy", "cross_entropy"),
        ("ring_l2", "ring_l1"),
        ("DICE_CE", "dice_ce"),  # the case is of no account
        ("pixel_contrast", "supervised_pixel_contrast"),
    ],
)
def test_a_typo_offers_what_was_meant_first(typed, meant):
    assert nearest(typed, LOSSES)[0] == meant
    assert did_you_mean(typed, LOSSES).startswith(f"Did you mean {meant}")


def test_options_keep_their_own_case():
    assert nearest("shaspecclasifier", ["ShaSpecClassifier", "Other"]) == ["ShaSpecClassifier"]
    assert nearest("avmnist", ["AVMNIST", "BraTS"]) == ["AVMNIST"]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(LOSSES), st.data())
def test_one_wrong_letter_is_forgiven_anywhere(name, data):
    position = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from(string.ascii_lowercase))
    assert name in nearest(name[:position] + letter + name[position + 1 :], LOSSES)


def test_nothing_close_lists_what_there_is():
    assert did_you_mean("zzz", ["b", "a"]) == "There are: a, b."


def test_a_long_list_is_cut():
    text = did_you_mean("zzz", [f"{number:02}" for number in range(30)])
    assert text == f"There are: {', '.join(f'{number:02}' for number in range(12))}, … (30 in all)."


def test_no_options_are_said_to_be_none():
    assert nearest("x", []) == []
    assert did_you_mean("x", iter(())) == "There are none."


def test_at_most_three_are_offered():
    assert len(nearest("mode", ["model", "modes", "moder", "node", "mod"])) == 3


def test_unknown_is_one_sentence_that_callers_can_catch_as_recipe_or_key_error():
    error = unknown("loss", "ring", LOSSES)
    assert isinstance(error, UnknownNameError)
    assert isinstance(error, RecipeError)
    assert isinstance(error, KeyError)
    assert str(error) == "'ring' is not a known loss. Did you mean ring_l1?"


def test_errors_survive_the_way_out_of_a_worker_process():
    error = pickle.loads(pickle.dumps(unknown("loss", "ring", LOSSES)))
    assert isinstance(error, UnknownNameError)
    assert str(error).startswith("'ring' is not")
