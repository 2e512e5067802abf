"""The parts of the 3-D U-Net."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.core.errors import RecipeError
from zoo.networks.unet3d import Decoder3d, Encoder3d, InstanceNorm3d, StandardisedConv3d
from zoo.networks.unet3d_multimodal import MultimodalUNet3d

SIZE = (16, 32, 64)


def test_filters_have_mean_zero_and_unbiased_variance_one():
    conv = StandardisedConv3d(5, 7, 3).double()
    torch.nn.init.normal_(conv.weight, mean=3.0, std=2.0)
    found = conv(torch.eye(135).double().reshape(135, 5, 3, 3, 3)).flatten(1).T  # row f: the weight of filter f
    torch.testing.assert_close(found.mean(1), torch.zeros(7).double())
    torch.testing.assert_close(found.var(1), torch.ones(7).double())


def test_a_field_of_one_voxel_gives_the_bias_and_no_gradient():
    norm = InstanceNorm3d(3).double()
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 3, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    out = norm(x)
    torch.testing.assert_close(out.flatten(1), norm.bias.expand(2, 3))
    out.square().sum().backward()
    assert not x.grad.any()
    assert not norm.weight.grad.any()
    assert norm.bias.grad.all()


def test_other_fields_are_normalised():
    norm = InstanceNorm3d(3)
    x = torch.randn(2, 3, 2, 4, 4)
    torch.testing.assert_close(norm(x), F.instance_norm(x))


def test_published_sizes():
    with torch.device("meta"):
        encoder, decoder = Encoder3d(), Decoder3d(volumes=4, regions=3)
    assert sum(p.numel() for p in encoder.parameters()) == 35_127_872
    assert sum(p.numel() for p in decoder.parameters()) == 8_528_800


def test_shapes_and_recomputed_activations():
    network = MultimodalUNet3d(modalities=2, regions=5, width=2)
    again = MultimodalUNet3d(modalities=2, regions=5, width=2, checkpointing=True)
    again.load_state_dict(network.state_dict())
    images, available = torch.randn(1, 2, *SIZE), [[0, 1]]
    gradients = []
    for net in (network.double(), again.double()):
        logits = net(images.double(), available)
        assert logits.shape == (1, 5, *SIZE)
        logits.square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    torch.testing.assert_close(*gradients)


@pytest.fixture(scope="module")
def network() -> MultimodalUNet3d:
    torch.manual_seed(0)
    return MultimodalUNet3d(modalities=3, regions=2, width=2).double()


def test_the_zero_volume_stands_for_all_missing_modalities(network):
    images = torch.randn(2, 3, *SIZE).double()
    available = [[2, 0], [1]]
    zeroed = images.clone()
    zeroed[0, 1] = zeroed[1, 0] = zeroed[1, 2] = 0
    torch.testing.assert_close(network(images, available), network(zeroed, [[0, 1, 2]] * 2))


def test_missing_volumes_are_encoded_once_and_available_ones_not_twice(network, monkeypatch):
    seen, forward = [], network.shared_encoder.forward
    monkeypatch.setattr(
        network.shared_encoder, "forward", lambda volumes: seen.append(len(volumes)) or forward(volumes)
    )
    images = torch.randn(2, 3, *SIZE).double()
    network(images, [[2, 0], [1]])
    network(images, [[2, 0, 1], [0, 1, 2]])
    zero = network.encode_zero(SIZE, images)
    network.decode(network.encode(images, [[0], []], zero), [[0], []])
    assert seen == [4, 6, 1, 1]


@pytest.mark.parametrize("available", [[[2, 0], [1]], [[2, 0], [0, 1, 2]], [[], [1]]])
def test_a_zero_volume_each_gives_the_same(network, monkeypatch, available):
    images = torch.randn(2, 3, *SIZE).double()
    shared = network(images, available)
    monkeypatch.setattr(network, "share_zero", False)
    torch.testing.assert_close(network(images, available), shared)
    encodings = network.encode(images, available)
    assert len(encodings.features) == 6
    missing = {(n, m) for n in range(2) for m in range(3) if m not in available[n]}
    assert len({encodings.zeros[pair] for pair in missing}) == len(missing)


def test_volumes_that_strides_do_not_divide_are_refused(network):
    with pytest.raises(RecipeError, match="16×32×40 voxels: depth must be a multiple of 16, height and width of 32"):
        network(torch.randn(1, 3, 16, 32, 40).double(), [[0]])


def test_an_odd_width_is_refused():
    with pytest.raises(RecipeError, match="width is 3"):
        MultimodalUNet3d(modalities=1, regions=1, width=3)
