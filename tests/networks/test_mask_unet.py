"""The U-Net of complex masks: sizes, the complex product, what it refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.core.errors import RecipeError
from zoo.networks.mask_unet import (
    MaskDecoder,
    MaskEncoder,
    bottleneck_size,
    complex_product,
    initialise,
    resized,
)


@settings(max_examples=10, deadline=None)
@given(st.integers(32, 90), st.integers(32, 70))
def test_any_spectrogram_gets_a_mask_of_whole_halvings(bins, frames):
    encoder, decoder = MaskEncoder(2), MaskDecoder(16, 2)
    *skips, bottleneck = encoder(torch.randn(2, 2, bins, frames))
    assert tuple(bottleneck.shape[-2:]) == bottleneck_size((bins, frames))
    mask = decoder(bottleneck, skips)
    assert mask.shape == (2, 2, bins // 32 * 32, frames // 32 * 32)
    assert (mask.abs() <= 1).all()
    assert resized(mask, (bins, frames)).shape == (2, 2, bins, frames)


def test_too_small_a_spectrogram_is_refused():
    with pytest.raises(RecipeError, match=r"257 bins and 31 frames; the U-Net needs at least 32 .* model\.window"):
        bottleneck_size((257, 31))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_complex_product_is_that_of_complex_numbers(seed):
    a, b = torch.randn(2, 3, 2, 5, 4, generator=torch.Generator().manual_seed(seed))
    found = complex_product(a, b)
    expected = torch.complex(*a.unbind(1)) * torch.complex(*b.unbind(1))
    torch.testing.assert_close(torch.complex(*found.unbind(1)), expected)


def test_resizing_to_the_same_size_changes_nothing():
    x = torch.randn(1, 2, 5, 4)
    assert resized(x, (5, 4)) is x
    torch.testing.assert_close(resized(resized(x, (9, 7)), (5, 4)), x)  # corners on corners: 5 → 9 → 5 is exact


def test_weights_are_drawn_as_published():
    net = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 4), torch.nn.BatchNorm2d(4096), torch.nn.Linear(300, 300))
    initialise(net)
    for weight, mean in ((net[0].weight, 0.0), (net[1].weight, 1.0), (net[2].weight, 0.0)):
        assert float(weight.mean()) == pytest.approx(mean, abs=0.002)
        assert float(weight.std()) == pytest.approx(0.02, rel=0.05)
    assert net[1].bias.abs().sum() == 0
    assert net[0].bias.abs().sum() > 0
