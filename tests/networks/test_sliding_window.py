"""Windows over whole volumes."""

from __future__ import annotations

import torch

from zoo.networks.sliding_window import sliding_window


def test_what_every_voxel_gets_is_averaged_over_windows():
    image = torch.randn(1, 1, 15, 24, 26)
    torch.testing.assert_close(sliding_window(lambda x: 2 * x, image, (8, 12, 12)), 2 * image)


def test_windows_of_the_published_crop_start_where_published():
    image = torch.stack(torch.meshgrid(*map(torch.arange, (155, 240, 200)), indexing="ij"))[None].float()
    starts = []

    def seen(window: torch.Tensor) -> torch.Tensor:
        starts.append(window[0, :, 0, 0, 0].int().tolist())
        return window[:, :1].clone()

    sliding_window(seen, image, (80, 160, 160))
    assert [sorted({start[axis] for start in starts}) for axis in range(3)] == [[0, 54, 75], [0, 80], [0, 40]]


def test_a_volume_smaller_than_a_window_is_padded_with_zeros():
    sizes = []
    image = torch.ones(1, 2, 6, 20, 12)
    out = sliding_window(lambda x: sizes.append(x.shape) or x, image, (8, 12, 12))
    assert set(sizes) == {(1, 2, 8, 12, 12)}
    torch.testing.assert_close(out, image)
