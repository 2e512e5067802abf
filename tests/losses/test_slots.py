"""Slots: what a recipe may put into them, how that is merged over the paper's choice, and what it is told else."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from losses.registry import register
from losses.slots import LossSlots, Slot, Weight, problems, resolve
from zoo.core.errors import RecipeError, UnknownNameError


@register("tests_power", kind="alignment")
def power(
    features: Tensor,
    *,
    exponent: float = 2.0,
    rounds: int = 1,
    signed: bool = False,
    per_modality: list[float] | None = None,
) -> Tensor:
    """A loss with settings of several types."""
    return features.abs().pow(exponent).mean()


@register("tests_needy", kind="alignment")
def needy(features: Tensor, *, temperature: float, scale: float = 1.0) -> Tensor:
    """A loss whose temperature has no default."""
    return features.mean() / temperature


@register("tests_remembering", kind="classification")
class Remembering(nn.Module):
    """A loss with memory."""

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum

    def setup(self, num_samples: int, num_classes: int) -> None:
        self.register_buffer("memory", torch.zeros(num_samples, num_classes))

    def forward(
        self, logits: Tensor, labels: Tensor, *, index: Tensor | None = None, epoch: int | None = None
    ) -> Tensor:
        return nn.functional.cross_entropy(logits + self.memory[index], labels)


SLOTS = {
    "task": Slot("classification", "cross_entropy", settings={"label_smoothing": 0.2}),
    "align": Slot("alignment", "tests_power", weight=0.1, settings={"exponent": 3.0, "rounds": 4}),
    "ramped": Slot("alignment", "ring_l1", weight={"ramp": [0.0, 0.5], "epochs": 10}),
}


def weight_of(slots: LossSlots, slot: str) -> float:
    return slots.weights[slot].at(step=10**6, epoch=10**6)


# -- merging -----------------------------------------------------------------------------------------------------------


def test_without_a_recipe_the_papers_choice_stands():
    assert resolve(SLOTS, "align", {})[:2] == ("tests_power", {"exponent": 3.0, "rounds": 4})
    slots = LossSlots(SLOTS)
    assert {slot: weight_of(slots, slot) for slot in SLOTS} == {"task": 1.0, "align": 0.1, "ramped": 0.5}


def test_a_setting_is_merged_over_the_papers_settings():
    name, settings_, weight = resolve(SLOTS, "align", {"exponent": 1.0, "signed": True})
    assert (name, settings_) == ("tests_power", {"exponent": 1.0, "rounds": 4, "signed": True})
    assert weight.at(0, 0) == 0.1


def test_a_weight_alone_changes_nothing_else():
    name, settings_, weight = resolve(SLOTS, "align", {"weight": 7})
    assert (name, settings_, weight.at(0, 0)) == ("tests_power", {"exponent": 3.0, "rounds": 4}, 7.0)


@pytest.mark.parametrize("override", ["ring_l1", {"name": "ring_l1"}])
def test_another_loss_drops_the_replaced_ones_settings_and_keeps_its_weight(override):
    name, settings_, weight = resolve(SLOTS, "align", override)
    assert (name, settings_, weight.at(0, 0)) == ("ring_l1", {}, 0.1)


def test_naming_the_papers_own_loss_keeps_its_settings():
    assert resolve(SLOTS, "align", {"name": "tests_power"})[1] == {"exponent": 3.0, "rounds": 4}


def test_slots_that_a_recipe_does_not_name_stay():
    slots = LossSlots(SLOTS, {"align": {"weight": 0}})
    assert weight_of(slots, "align") == 0
    assert weight_of(slots, "task") == 1


def test_the_recipe_itself_is_not_changed():
    recipe = {"align": {"name": "tests_power", "weight": {"ramp": [0, 1], "steps": 2}, "exponent": 1}}
    before = repr(recipe)
    LossSlots(SLOTS, recipe)
    assert repr(recipe) == before


def test_a_slot_is_called_with_its_settings():
    slots = LossSlots(SLOTS, {"align": {"exponent": 1.0}})
    assert slots.align(torch.full((2, 3), -4.0)) == 4
    assert LossSlots(SLOTS).align(torch.full((2, 3), -4.0)) == 64


def test_slots_as_a_whole_cannot_be_called():
    with pytest.raises(NotImplementedError, match=r"self\.losses\.<slot>"):
        LossSlots(SLOTS)(torch.zeros(2))


# -- types -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "typed"),
    [
        ({"exponent": "0.5"}, {"exponent": 0.5}),
        ({"exponent": 2}, {"exponent": 2.0}),
        ({"exponent": "1e-3"}, {"exponent": 0.001}),
        ({"rounds": "3"}, {"rounds": 3}),
        ({"signed": "true"}, {"signed": True}),
        ({"per_modality": "[1, 0.5]"}, {"per_modality": [1.0, 0.5]}),
        ({"per_modality": None}, {"per_modality": None}),
    ],
)
def test_settings_get_the_types_of_the_signature(given_, typed):
    found = resolve(SLOTS, "align", {"name": "tests_power", "exponent": 1.0, "rounds": 1} | given_)[1]
    for key, value in typed.items():
        assert found[key] == value
        assert type(found[key]) is type(value)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"exponent": "high"}, "losses.align.exponent must be float, not 'high'."),
        ({"rounds": 1.5}, "losses.align.rounds must be int, not 1.5."),
        ({"rounds": None}, "losses.align.rounds must be int, not None."),
        ({"signed": "perhaps"}, "losses.align.signed must be bool, not 'perhaps'."),
        ({"per_modality": ["a"]}, "losses.align.per_modality must be list[float] | None, not ['a']."),
    ],
)
def test_a_value_of_another_type_names_the_key_the_type_and_the_value(given_, said):
    assert problems(SLOTS, {"align": given_}) == [said]


# -- errors ------------------------------------------------------------------------------------------------------------


def test_an_unknown_slot_offers_the_nearest():
    assert problems(SLOTS, {"algin": {}}) == ["losses.algin is not a slot of this method. Did you mean align?"]


def test_an_unknown_setting_offers_the_nearest():
    (said,) = problems(SLOTS, {"align": {"exponant": 1}})
    assert said == "losses.align.exponant is not a setting of the loss 'tests_power'. Did you mean exponent?"
    (said,) = problems(SLOTS, {"ramped": {"margin": 1}})
    assert said.endswith("It has none beside name and weight.")


def test_a_loss_without_a_setting_that_it_needs_is_refused():
    assert problems(SLOTS, {"align": "tests_needy"}) == ["losses.align: the loss 'tests_needy' needs temperature."]
    assert problems(SLOTS, {"align": {"name": "tests_needy", "temperature": 1}}) == []


def test_a_loss_of_another_kind_is_refused_with_both_kinds_and_what_fits():
    (said,) = problems(SLOTS, {"align": "cross_entropy"})
    assert "losses.align takes kind alignment (features [M, B, ...])" in said
    assert "'cross_entropy' is kind classification" in said
    assert "ring_l1" in said.partition("Of this kind: ")[2]
    assert "cross_entropy" not in said.partition("Of this kind: ")[2]


@pytest.mark.parametrize("name", ["ring_l2", 5, None])
def test_an_unknown_loss_names_the_slot(name):
    with pytest.raises(UnknownNameError, match=rf"^losses\.align: '{name}' is not a known loss\."):
        resolve(SLOTS, "align", {"name": name})


@pytest.mark.parametrize("override", [3, ["ring_l1"], None])
def test_an_override_that_is_no_mapping_shows_one(override):
    (said,) = problems(SLOTS, {"align": override})
    assert said == f"losses.align must be a mapping such as {{name: tests_power}}, not {override!r}."


@pytest.mark.parametrize(
    "weight",
    [
        "much",
        None,
        [0, 1],
        float("nan"),
        float("inf"),
        {},
        {"ramp": [0, 1]},
        {"ramp": [0], "steps": 3},
        {"ramp": 1, "steps": 3},
        {"ramp": ["a", 1], "steps": 3},
        {"ramp": [0, 1], "steps": "soon"},
        {"ramp": [0, 1], "steps": -1},
        {"ramp": [0, 1], "steps": 3, "epochs": 3},
        {"ramp": [0, 1], "batches": 3},
        {"steps": 3},
    ],
    ids=str,
)
def test_what_is_no_weight_is_refused_by_slot(weight):
    (said,) = problems(SLOTS, {"align": {"weight": weight}})
    assert said.startswith("losses.align.weight: ")
    assert "is no weight; give a number" in said


def test_all_mistakes_are_told_at_once():
    recipe = {"algin": {}, "align": {"exponant": 1}, "task": {"name": "ring_l1"}, "ramped": {"weight": "x"}}
    said = problems(SLOTS, recipe)
    assert len(said) == 4
    with pytest.raises(RecipeError) as caught:
        LossSlots(SLOTS, recipe)
    assert all(sentence in str(caught.value) for sentence in said)


def test_paths_are_as_the_caller_says():
    assert problems(SLOTS, {"algin": {}}, path="model.losses")[0].startswith("model.losses.algin")


# -- weights -----------------------------------------------------------------------------------------------------------

finite = st.floats(-1e6, 1e6)


@settings(max_examples=100, deadline=None)
@given(finite, finite, st.integers(0, 1000), st.sampled_from(["steps", "epochs"]))
def test_a_ramp_is_linear_and_then_constant(first, last, length, unit):
    weight = Weight({"ramp": [first, last], unit: length})

    def at(now):
        return weight.at(now, -1) if unit == "steps" else weight.at(-1, now)

    values = [at(now) for now in range(length + 3)]
    assert values[0] == (first if length else last)
    assert values[length:] == [last] * 3
    differences = [b - a for a, b in itertools.pairwise(values[: length + 1])]
    expected = (last - first) / max(length, 1)
    assert differences == pytest.approx([expected] * length, abs=1e-9 + 1e-9 * max(abs(first), abs(last)))


@settings(max_examples=30, deadline=None)
@given(finite, st.integers(0, 10**9), st.integers(0, 10**6))
def test_a_number_is_constant(value, step, epoch):
    assert Weight(value).at(step, epoch) == value
    assert Weight(str(value)).at(step, epoch) == value


# -- stateful losses ---------------------------------------------------------------------------------------------------


def test_a_stateful_loss_is_told_the_sizes_and_its_buffers_are_state():
    slots = LossSlots(SLOTS, {"task": {"name": "tests_remembering", "momentum": 0.5}})
    assert slots.task.momentum == 0.5
    slots.setup_losses(num_samples=11, num_classes=3)
    assert {key: value.shape for key, value in slots.state_dict().items()} == {"task.memory": (11, 3)}


def test_losses_without_memory_need_no_setup():
    slots = LossSlots(SLOTS)
    slots.setup_losses(num_samples=11, num_classes=3)
    assert slots.state_dict() == {}
