"""Backbones of the prototype methods: fine maps, and weights that come from elsewhere once."""

import pytest
import torch

from zoo.core.errors import CheckpointError, UnknownNameError
from zoo.networks import feature_map
from zoo.networks.feature_map import FeatureMap


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("densenet121", 1024), ("small", 96)])
def test_maps_are_twice_as_fine_as_a_classifiers(name, channels):
    backbone = FeatureMap(name).eval()
    cells = 8 if name == "small" else 4
    with torch.no_grad():
        assert backbone(torch.rand(1, 3, 64, 64)).shape == (1, channels, cells, cells)
    assert backbone.channels == channels


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121", "vgg11_bn"])
def test_the_other_map_is_the_classifiers(name):
    backbone = FeatureMap(name, finer=False).eval()
    with torch.no_grad():
        assert backbone(torch.rand(1, 3, 64, 64)).shape == (1, backbone.channels, 2, 2)


def test_a_fine_map_sees_a_patch_about_the_middle_of_each_cell():
    backbone = FeatureMap("small_fine").double().eval()
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    backbone(image)[0, :, 7, 8].sum().backward()
    rows, columns = (image.grad[0].abs().amax(0).amax(axis).nonzero().flatten() for axis in (1, 0))
    assert len(rows) == len(columns) == 26
    assert rows.float().mean() == 7 * 4 + 1.5
    assert columns.float().mean() == 8 * 4 + 1.5


def test_an_unknown_backbone_is_told_with_near_misses():
    with pytest.raises(UnknownNameError, match="resnet18"):
        FeatureMap("resnet17")


def test_pretrained_weights_are_loaded_unless_others_were(monkeypatch):
    other = FeatureMap("resnet18")
    monkeypatch.setattr(feature_map, "_imagenet", lambda name: other.body.state_dict())
    fresh, resumed = FeatureMap("resnet18", "imagenet"), FeatureMap("resnet18", "imagenet")
    kept = {key: value.clone() for key, value in resumed.state_dict().items()}
    resumed.load_state_dict(kept)
    for backbone in (fresh, resumed):
        backbone.load_pretrained()
    assert torch.equal(fresh.body.conv1.weight, other.body.conv1.weight)
    assert torch.equal(resumed.body.conv1.weight, kept["body.conv1.weight"])


def test_weights_of_another_network_are_refused(monkeypatch):
    monkeypatch.setattr(feature_map, "_imagenet", lambda name: {"conv1.weight": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"resnet18.tv_in1k does not fit resnet18: .* conv1.weight"):
        FeatureMap("resnet18", "imagenet").load_pretrained()
    with pytest.raises(CheckpointError, match="no ImageNet weights for small"):
        FeatureMap("small", "imagenet")


def test_keys_of_bbn_become_the_blocks_of_the_last_stage(tmp_path):
    names = ("backbone.conv1.weight", "backbone.cb_block.bn1.bias", "backbone.rb_block.bn1.bias", "classifier.weight")
    torch.save({"state_dict": {f"module.{name}": torch.zeros(1) for name in names}}, tmp_path / "bbn.pth")
    found = feature_map._inaturalist(str(tmp_path / "bbn.pth"))
    assert {*found} == {"conv1.weight", "layer4.2.bn1.bias", "layer4.3.bn1.bias"}
