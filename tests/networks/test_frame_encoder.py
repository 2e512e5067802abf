"""Frames to maps: sizes, names."""

import pytest
import torch

from zoo.core.errors import UnknownNameError
from zoo.networks.frame_encoder import FrameEncoder, grid


@pytest.mark.parametrize("size", [(64, 128), (70, 33)])
def test_the_map_has_the_size_that_the_grid_tells(size):
    encoder = FrameEncoder("test_resnet").eval()
    assert encoder(torch.zeros(1, 3, *size)).shape == (1, encoder.num_features, *grid(size))


def test_a_mistyped_backbone_is_told_with_near_names():
    with pytest.raises(UnknownNameError, match=r"'resnet81' is not a known ResNet of timm.*resnet18"):
        FrameEncoder("resnet81")
