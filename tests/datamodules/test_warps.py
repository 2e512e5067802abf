"""Pictures that are bent."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images import to_tensor
from datamodules.warps import RandomAffine, RandomPerspective
from zoo.core.randomness import numpy_generator

# Every pixel tells its place.
ACROSS, DOWN = np.meshgrid(np.arange(64), np.arange(48))
IMAGE = Image.fromarray(np.stack([4 * ACROSS, 5 * DOWN, np.full_like(DOWN, 128)], axis=-1).astype(np.uint8))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.int64)


@pytest.mark.parametrize("step", [RandomPerspective(0.2, p=1.0), RandomAffine(25, (15, 0), 0.05)])
def test_a_warp_keeps_the_size_and_is_a_rule_of_its_key(step):
    image = Image.fromarray(numpy_generator("warp").integers(0, 255, (20, 30, 3)).astype(np.uint8))
    one, two, other = (to_tensor(step(image, numpy_generator(key))) for key in (1, 1, 2))
    assert one.shape == (3, 20, 30)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_an_affine_map_of_nothing_changes_nothing_and_a_quarter_turn_turns():
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert np.array_equal(np.asarray(RandomAffine()(image, numpy_generator(0))), np.asarray(image))

    class Always:
        def uniform(self, low: float, high: float) -> float:
            return high

    turned = np.asarray(RandomAffine(degrees=90)(image, Always()))
    assert np.array_equal(turned, np.rot90(np.asarray(image), -1))


def test_no_perspective_is_the_picture_itself():
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    same = np.asarray(RandomPerspective(0.0, p=1.0)(image, numpy_generator(0)))
    assert np.abs(same.astype(int) - np.asarray(image)).max() <= 1  # Pillow rounds down


def test_a_scale_brings_what_was_nearer_to_the_middle():
    doubled = pixels(RandomAffine(scale=(2, 2))(IMAGE, rng()))
    assert np.abs(doubled[4, 8, :2] - pixels(IMAGE)[14, 20, :2]).max() <= 5


def test_a_shift_is_at_most_the_share_and_black_beyond():
    shifts = set()
    for seed in range(40):
        moved = pixels(RandomAffine(translate=0.25)(IMAGE, rng(seed)))
        there = moved[..., 2] == 128
        shifts.add((np.flatnonzero(there.any(axis=0))[0], np.flatnonzero(there.any(axis=1))[0]))
        assert there.sum() >= (64 - 16) * (48 - 12)
        assert (moved[~there] == 0).all()
    assert max(across for across, _ in shifts) > 10
    assert max(down for _, down in shifts) > 8


@pytest.mark.parametrize(("degrees", "shear"), [(30, 0), (0, 25), (20, 20)])
def test_rotation_and_shear_keep_the_middle_and_the_area(degrees, shear):
    square = Image.new("L", (200, 200))
    square.paste(255, (70, 70, 130, 130))
    for seed in range(5, 10):
        moved = np.asarray(RandomAffine(degrees, (shear, shear))(square, rng(seed))) > 0
        y, x = np.nonzero(moved)
        assert (x.mean(), y.mean()) == pytest.approx((99.5, 99.5), abs=0.7)
        # Shears along one axis keep the area, and so does a rotation.
        assert moved.sum() == pytest.approx(3600, rel=0.03)
        assert not np.array_equal(moved, np.asarray(square) > 0)
