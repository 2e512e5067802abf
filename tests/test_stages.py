"""Training stages: which one holds follows from epoch and step alone; a wrong list is refused when it is read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.core.errors import RecipeError
from zoo.stages import Stages

OPTIONS = {"train_backbone": True, "lr_factor": 1.0}


def test_without_a_list_there_is_one_stage_with_all_defaults():
    for specs in (None, []):
        stage = Stages(specs, OPTIONS).at(epoch=99, step=99999)
        assert stage.name == "train"
        assert (stage["train_backbone"], stage["lr_factor"]) == (True, 1.0)


def test_a_stage_sets_some_options_and_leaves_the_others():
    stages = Stages([{"name": "warmup", "until_epoch": 2, "train_backbone": False}, {"name": "joint"}], OPTIONS)
    assert [stages.at(epoch, 0)["train_backbone"] for epoch in range(4)] == [False, False, True, True]
    assert stages.at(0, 0)["lr_factor"] == 1.0


def test_an_option_that_no_stage_has_is_a_key_error():
    with pytest.raises(KeyError):
        Stages(None, OPTIONS).at(0, 0)["learning_rate"]


@st.composite
def lists_of_stages(draw):
    """Units mixed, the ends of each unit increasing."""
    units = draw(st.lists(st.sampled_from(["until_epoch", "until_step"]), max_size=4))
    ends = {unit: iter(sorted(draw(st.sets(st.integers(1, 30), min_size=4)))) for unit in ("until_epoch", "until_step")}
    return [{"name": str(number), unit: next(ends[unit])} for number, unit in enumerate(units)] + [{"name": "last"}]


@settings(max_examples=50, deadline=None)
@given(lists_of_stages(), st.integers(1, 5))
def test_stages_follow_one_another_as_in_a_loop_that_leaves_each_when_it_ends(specs, steps_per_epoch):
    stages, current = Stages(specs, {}), 0
    for step in range(40 * steps_per_epoch):
        epoch = step // steps_per_epoch
        now = {"until_epoch": epoch, "until_step": step}
        while any(unit in specs[current] and now[unit] >= specs[current][unit] for unit in now):
            current += 1
        assert stages.at(epoch, step).name == specs[current]["name"]


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ([{"until_epoch": 3}], "stages.0 needs a name."),
        (
            [{"name": "a", "train_backbne": False}],
            "stages.0.train_backbne is not an option of a stage here. Did you mean train_backbone?",
        ),
        (
            [{"name": "a", "until_epochs": 3}, {"name": "b"}],
            "stages.0.until_epochs is not an option of a stage here. Did you mean until_epoch",
        ),
        ([{"name": "a"}, {"name": "b"}], "stages.0 (a) needs until_epoch or until_step: another follows it."),
        ([{"name": "a", "until_step": 3}], "stages.0 (a) is the last one and lasts until training ends."),
        (
            [{"name": "a", "until_step": 3, "until_epoch": 1}, {"name": "b"}],
            "stages.0 (a) has until_epoch and until_step; give one of them.",
        ),
        ([{"name": "a", "until_step": "3"}, {"name": "b"}], "stages.0 (a) ends at '3'; give a whole number"),
        ([{"name": "a", "until_epoch": 0}, {"name": "b"}], "stages.0 (a) ends at 0; give a whole number"),
        (
            [{"name": "a", "until_epoch": 5}, {"name": "b", "until_epoch": 5}, {"name": "c"}],
            "stages: until_epoch must increase from stage to stage, not [5, 5].",
        ),
        (
            [{"name": "a", "until_step": 5}, {"name": "b", "until_step": 4}, {"name": "c"}],
            "stages: until_step must increase from stage to stage, not [5, 4].",
        ),
    ],
)
def test_a_wrong_list_is_refused_in_one_sentence(specs, said):
    with pytest.raises(RecipeError) as caught:
        Stages(specs, OPTIONS)
    assert str(caught.value).startswith(said)


def test_stages_that_set_an_option_tell_when_they_end():
    stages = Stages(
        [{"name": "a", "until_epoch": 3, "push": True}, {"name": "b", "until_epoch": 5}, {"name": "c", "push": 2}],
        {"push": False},
    )
    assert stages.ends("push", last=9) == {3: True, 9: 2}
    assert stages.ends("push", last=None) == {3: True}


def test_an_option_of_the_stages_end_needs_an_epoch():
    stages = Stages([{"name": "a", "until_step": 3, "push": True}, {"name": "b"}], {"push": False})
    with pytest.raises(RecipeError, match=r"stages\.0 .a. sets push, so it must end by until_epoch"):
        stages.ends("push", last=9)
