import numpy as np
import pytest
import torch

from datamodules.volumes import augmentation
from datamodules.volumes.augmentation import augment, deform, disturb

pytest.importorskip("monai.transforms")


class Always:
    """A generator for which everything happens."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.uniform, self.normal, self.standard_normal = self.rng.uniform, self.rng.normal, self.rng.standard_normal

    def random(self, size: int | None = None) -> float | np.ndarray:
        return 0.0 if size is None else np.zeros(size)


@pytest.fixture(scope="module")
def crop():
    mask = torch.zeros(3, 16, 32, 32, dtype=torch.uint8)
    mask[1, 4:12, 8:24, 8:24] = 1
    mask[2, 6:10, 12:20, 12:20] = 1
    image = torch.randn(4, 16, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.1 + mask[1] * 3 - mask[2]
    return image, mask


def test_shapes_and_dtypes_stay_and_regions_stay_binary(crop):
    for rng in (*map(np.random.default_rng, range(8)), Always(0)):
        image, mask = augment(*crop, rng)
        assert type(image) is type(mask) is torch.Tensor
        assert (image.shape, image.dtype) == (crop[0].shape, torch.float32)
        assert (mask.shape, mask.dtype) == (crop[1].shape, torch.uint8)
        assert torch.isfinite(image).all()
        assert mask.max() <= 1


def test_equal_generators_give_equal_crops_whatever_the_global_ones_did(crop):
    torch.manual_seed(1)
    first = augment(*crop, Always(3))
    torch.manual_seed(2)
    second = augment(*crop, Always(3))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_labels_follow_the_image(crop):
    for seed in range(6):
        image, mask = deform(*crop, Always(seed))
        assert not torch.equal(mask, crop[1])
        seen = (image.mean(0) > 1) | (mask[2] == 1)
        overlap = (seen & (mask[1] == 1)).sum() / (seen | (mask[1] == 1)).sum()
        assert overlap > 0.85


def test_nothing_is_deformed_in_about_half_of_the_crops(crop):
    same = [deform(*crop, np.random.default_rng(seed))[0] is crop[0] for seed in range(60)]
    assert 0.35 < np.mean(same) < 0.68  # 0.8 ** 3


def test_displacements_are_as_large_as_those_of_noise_that_is_smoothed_at_every_voxel():
    drawn = [augmentation._displacements(torch.Size((48,) * 3), 900, 9.0, np.random.default_rng(i)) for i in range(80)]
    centre = torch.stack(drawn)[..., 22:26, 22:26, 22:26]
    expected = 900 / 3**0.5 / (2 * 9.0 * np.pi**0.5) ** 1.5  # deviation of uniform noise, after the filter
    assert abs(float(centre.std()) / expected - 1) < 0.2


def test_disturbing_keeps_the_volumes_resemblance(crop):
    for seed in range(5):
        disturbed = disturb(crop[0], Always(seed))
        assert not torch.equal(disturbed, crop[0])
        for before, after in zip(crop[0], disturbed, strict=True):
            assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.8
