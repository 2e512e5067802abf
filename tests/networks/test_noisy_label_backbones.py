"""The networks of the benchmarks with noisy labels."""

from __future__ import annotations

import pytest
import torch

from zoo.core.errors import RecipeError, UnknownNameError
from zoo.networks.noisy_label_backbones import BACKBONES, backbone


@pytest.mark.parametrize(
    ("name", "dim"), [("resnet34", 32), ("preact_resnet18", 32), ("vgg19_bn", 256), ("resnet50", 128)]
)
def test_widths_scale_all_features(name, dim):
    made = backbone(name, width=4).eval()
    assert made.dim == dim
    assert made(torch.randn(2, 3, 32, 32)).shape == (2, dim)


def test_a_cifar_resnet_takes_images_of_any_size():
    made = backbone("resnet34", width=2).eval()
    assert made(torch.randn(1, 3, 48, 40)).shape == (1, 16)


def test_a_network_of_one_width_says_so():
    with pytest.raises(RecipeError, match=r"leave model\.width at 64, not 32"):
        backbone("inception_resnet_v2", width=32)


def test_a_typo_is_told():
    assert "resnet34" in BACKBONES
    with pytest.raises(UnknownNameError, match="Did you mean resnet34"):
        backbone("resnet43")
    with pytest.raises(RecipeError, match=r"model\.width is 0"):
        backbone("resnet34", width=0)
