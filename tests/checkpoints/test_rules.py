"""The rules' meaning, one promise after the other."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.checkpoints import Rule, apply_rules, strip_wrappers
from zoo.core.errors import CheckpointError


def numbered(*keys):
    return {key: torch.tensor(float(number)) for number, key in enumerate(keys)}


def renamed(rules, *keys):
    return {key: int(value) for key, value in apply_rules(numbered(*keys), rules).tensors.items()}


def test_without_rules_keys_stay():
    assert renamed([], "a.weight", "b") == {"a.weight": 0, "b": 1}


def test_rules_apply_in_order_each_to_what_the_former_left():
    rules = [Rule(r"^net\."), Rule(r"^encoder\.layer(\d)\.", r"network.backbone.layer\1."), Rule("layer1", "stem")]
    assert renamed(rules, "net.encoder.layer1.w", "net.encoder.layer2.w") == {
        "network.backbone.stem.w": 0,
        "network.backbone.layer2.w": 1,
    }


def test_all_matches_in_a_key_are_replaced():
    assert renamed([Rule("blk", "block")], "blk1.blk2") == {"block1.block2": 0}


def test_a_prefix_can_be_added():
    assert renamed([Rule("^", "network.")], "a", "b") == {"network.a": 0, "network.b": 1}


def test_a_rule_that_matches_nothing_is_an_error_unless_optional():
    with pytest.raises(CheckpointError, match=r"Rule\('proto', 'prototypes'\) matches no key.*a, b, … \(2 in all\)"):
        renamed([Rule("proto", "prototypes")], "a", "b")
    result = apply_rules(numbered("a"), [Rule("proto", "prototypes", optional=True)])
    assert list(result.tensors) == ["a"]
    assert [str(rule) for rule in result.idle] == ["Rule('proto', 'prototypes')"]


def test_a_rule_hidden_by_an_earlier_one_is_an_error():
    with pytest.raises(CheckpointError, match=r"Rule\('\^a\$', 'c'\) matches no key"):
        renamed([Rule("^a$", "b"), Rule("^a$", "c")], "a")


def test_two_tensors_with_one_key_are_an_error_that_names_both():
    with pytest.raises(CheckpointError, match=r"gives left\.w and right\.w the same key w"):
        renamed([Rule(r"^(left|right)\.")], "left.w", "right.w")
    with pytest.raises(CheckpointError, match="gives a and b the same key b"):
        renamed([Rule("^a$", "b")], "a", "b")


def test_dropped_tensors_are_named_by_the_files_keys_and_seen_by_no_later_rule():
    result = apply_rules(numbered("module.fc.w", "module.a"), [Rule(r"^fc\.", drop=True), Rule("a", "b")])
    assert list(result.tensors) == ["b"]
    assert result.dropped == ("module.fc.w",)
    with pytest.raises(CheckpointError, match="matches no key"):
        apply_rules(numbered("fc.w", "a"), [Rule(r"^fc\.", drop=True), Rule("fc", "head")])


def test_transforms_change_the_tensors_that_match():
    tensors = {"proto": torch.arange(6).reshape(2, 3), "other": torch.arange(6).reshape(2, 3)}
    result = apply_rules(tensors, [Rule("^proto$", "prototypes", transform=lambda w: w.transpose(0, 1))])
    assert result.tensors["prototypes"].shape == (3, 2)
    assert result.tensors["other"].shape == (2, 3)
    assert result.sources == {"prototypes": "proto", "other": "other"}


def test_a_transform_that_fails_names_its_tensor():
    with pytest.raises(CheckpointError, match=r"Rule\('a', 'b'\) cannot transform a, of shape \[\]: .*ermute"):
        apply_rules(numbered("a"), [Rule("a", "b", transform=lambda w: w.permute(1, 0))])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_that_all_keys_bear_come_off(prefix):
    assert renamed([Rule("^a", "x")], f"{prefix}a", f"{prefix}b") == {"x": 0, "b": 1}
    assert list(strip_wrappers(numbered(f"{prefix}a"))) == ["a"]


def test_wrappers_that_some_keys_lack_stay():
    assert renamed([], "module.a", "b") == {"module.a": 0, "b": 1}
    assert strip_wrappers({}) == {}


def test_rules_that_mean_nothing_are_refused_when_written():
    with pytest.raises(ValueError, match="no regular expression"):
        Rule("(")
    with pytest.raises(ValueError, match="invalid group reference"):
        Rule("a", r"\1")
    with pytest.raises(ValueError, match="drops what it also renames"):
        Rule("a", "b", drop=True)


keys = st.lists(st.text("abc.", min_size=1, max_size=6), min_size=1, max_size=12, unique=True)
rules = st.lists(
    st.builds(
        Rule,
        st.sampled_from(["a", "b$", "^c", r"\.", "ab", "."]).filter(lambda pattern: pattern != "."),
        st.sampled_from(["", "x", "y."]),
        optional=st.just(True),
    )
    | st.builds(Rule, st.sampled_from(["aa", "cb", r"^b"]), drop=st.just(True), optional=st.just(True)),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(keys, rules)
def test_each_tensor_is_used_once_or_dropped_by_name(keys, rules):
    tensors = numbered(*keys)
    try:
        result = apply_rules(tensors, rules)
    except CheckpointError as error:
        assert re.search("the same key", str(error))  # noqa: PT017
        return
    kept = [tensors[source] for source in result.sources.values()]
    assert sorted([*result.sources.values(), *result.dropped]) == sorted(keys)
    assert all(a is b for a, b in zip(result.tensors.values(), kept, strict=True))
