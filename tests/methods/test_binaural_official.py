"""Published weights of CCStereo and Mono2Binaural, in every form in which they are found."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from tests.support import binaural
from zoo.checkpoints import import_state, load_weights
from zoo.core.errors import CheckpointError

# Our keys to Mono2Binaural's published ones, network by network.
VISUAL = [
    (r"^visual\.layers\.conv1\.", "feature_extraction.0."),
    (r"^visual\.layers\.bn1\.", "feature_extraction.1."),
    *((rf"^visual\.layers\.layer{n}\.", f"feature_extraction.{n + 3}.") for n in range(1, 5)),
]
AUDIO = [
    (r"^audio\.project\.", "conv1x1."),
    *((rf"^audio\.encoder\.layers\.{n}\.", f"audionet_convlayer{n + 1}.") for n in range(5)),
    *((rf"^audio\.decoder\.layers\.{n}\.", f"audionet_upconvlayer{n + 1}.0.") for n in range(5)),
    *((rf"^audio\.decoder\.norms\.{n}\.", f"audionet_upconvlayer{n + 1}.1.") for n in range(4)),
]


def published(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dicts of the visual and of the audio network, as published."""
    parts: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for key, value in model.state_dict().items():
        for rules, part in zip((VISUAL, AUDIO), parts, strict=True):
            for pattern, replacement in rules:
                new, found = re.subn(pattern, replacement, key)
                if found:
                    part[new] = value.clone()
    assert sum(map(len, parts)) == len(model.state_dict())
    return parts


@pytest.fixture
def trained():
    model = binaural.mono2binaural()
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.rand(value.shape))
    return model


def assert_same_weights(model: nn.Module, other: nn.Module) -> None:
    for key, value in other.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_mono2binaural_comes_in_two_files(trained, tmp_path):
    visual, audio = published(trained)
    torch.save(visual, tmp_path / "visual_best.pth")
    torch.save(audio, tmp_path / "audio_best.pth", _use_new_zipfile_serialization=False)  # as before torch 1.6
    model = binaural.mono2binaural()
    report = load_weights(model, tmp_path)
    assert_same_weights(model, trained)
    assert len(report.matched) == len(trained.state_dict())
    with pytest.raises(CheckpointError, match=r"Rule.*conv1x1.* matches no key"):
        load_weights(model, tmp_path / "visual_best.pth")


def test_mono2binaural_comes_in_one_file_with_both_networks_named(trained):
    visual, audio = published(trained)
    both = {f"net_visual.{key}": value for key, value in visual.items()}
    both |= {f"net_audio.{key}": value for key, value in audio.items()}
    model = binaural.mono2binaural()
    import_state(model, both, model.official.rules)
    assert_same_weights(model, trained)


def test_files_of_the_first_pytorch_lack_counters(trained):
    visual, audio = published(trained)
    old = {key: value for key, value in {**visual, **audio}.items() if not key.endswith("num_batches_tracked")}
    model = binaural.mono2binaural()
    with pytest.raises(CheckpointError, match=r"--allow-missing '\*\.num_batches_tracked'"):
        import_state(model, old, model.official.rules)
    import_state(model, old, model.official.rules, allow_missing=["*.num_batches_tracked"])
    assert torch.equal(model.visual.layers.bn1.weight, trained.visual.layers.bn1.weight)


def test_a_networks_rules_refuse_the_other_ones_weights(trained):
    visual, audio = published(trained)
    model = binaural.ccstereo()
    with pytest.raises(CheckpointError, match="matches no key"):
        import_state(model, {**visual, **audio}, model.official.rules)
