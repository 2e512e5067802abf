"""Steps of CIPL's augmentation."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from datamodules.paired_views import (
    Blur,
    Cutout,
    Elastic,
    Enhance,
    OneOf,
    VerticalFlip,
    Views,
    chest_views,
    fundus_views,
    mild_turned_views,
    mild_views,
)

# Every pixel tells its place.
ACROSS, DOWN = np.meshgrid(np.arange(64), np.arange(48))
IMAGE = Image.fromarray(np.stack([4 * ACROSS, 5 * DOWN, np.full_like(DOWN, 128)], axis=-1).astype(np.uint8))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.int64)


def test_elastic_moves_a_grey_picture_smoothly():
    grey = pixels(IMAGE.convert("L"))[..., None]
    for seed in range(3):
        bent = pixels(Elastic(1, 1)(IMAGE, rng(seed)))
        assert bent.shape == (48, 64, 3)
        assert (bent == bent[..., :1]).all()
        assert 0 < np.abs(bent - grey)[8:-8, 8:-8].mean() < 12
    assert np.abs(pixels(Elastic(0, 0)(IMAGE, rng())) - grey).max() <= 1


def test_a_square_is_cut_out_and_clipped():
    sizes = set()
    for seed in range(60):
        black = (pixels(Cutout(9)(IMAGE, rng(seed))) == 0).all(axis=-1)
        rows, columns = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
        assert black.sum() == len(rows) * len(columns)
        sizes.add((len(rows), len(columns)))
    assert max(sizes) == (9, 9)
    assert min(size for pair in sizes for size in pair) < 9
    assert (pixels(IMAGE)[..., 2] == 128).all()  # the picture itself is left as it was


def test_an_enhancer_keeps_to_its_range():
    means = [pixels(Enhance(ImageEnhance.Brightness)(IMAGE, rng(seed)))[..., 2].mean() / 128 for seed in range(50)]
    assert 0.79 < min(means) < 0.85
    assert 1.15 < max(means) < 1.21


@pytest.mark.parametrize("step", [VerticalFlip(), Blur(1, 2)])
def test_half_of_the_pictures_are_changed(step):
    changed = [not np.array_equal(pixels(step(IMAGE, rng(seed))), pixels(IMAGE)) for seed in range(200)]
    assert 0.4 < np.mean(changed) < 0.6


def test_one_of_the_steps_is_taken():
    def colour(ink: int):
        return lambda image, rng: Image.new("RGB", image.size, (ink, 0, 0))

    inks = [int(pixels(OneOf([colour(1), colour(2)])(IMAGE, rng(seed)))[0, 0, 0]) for seed in range(100)]
    assert 35 < inks.count(1) < 65
    assert {*inks} == {1, 2}


def test_two_views_share_the_first_steps_and_draw_the_others_anew():
    def at_random(image, rng):
        return Image.new("RGB", image.size, (int(rng.integers(1000)) % 256, 0, 0))

    def add(image, rng):
        return Image.fromarray((pixels(image) + np.array([0, rng.integers(200), 0])).astype(np.uint8))

    one, two = (pixels(view)[0, 0] for view in Views((), (at_random,), (add,)).two(IMAGE, rng()))
    assert one[0] == two[0]
    assert one[1] != two[1]


@pytest.mark.parametrize("views", [chest_views, fundus_views, mild_views, mild_turned_views])
def test_views_are_squares_and_a_rule_of_the_generator(views):
    made = views(40)
    for seed in range(6):
        first, second = ((made.one(IMAGE, draw := rng(seed)), *made.two(IMAGE, draw)) for _ in range(2))
        assert [view.size for view in first] == [(40, 40)] * 3
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("views", [mild_views, mild_turned_views])
def test_geometry_is_that_of_both_views(views):
    """The brightest spot is at nearly the same place, if it is in the picture."""
    spot = np.zeros((96, 96, 3), np.uint8)
    spot[30:36, 60:66] = 255
    found = 0
    for seed in range(30):
        one, two = (np.asarray(view.convert("L"), float) for view in views(96).two(Image.fromarray(spot), rng(seed)))
        if one.max() > 128 and two.max() > 128:
            peaks = [np.array(np.nonzero(view > 128)).mean(axis=1) for view in (one, two)]
            assert np.abs(peaks[0] - peaks[1]).max() < 6
            found += 1
    assert found > 20


@pytest.mark.parametrize(("views", "share"), [(mild_views, 0), (mild_turned_views, 0.5)])
def test_half_of_the_turned_views_are_upside_down(views, share):
    """What is white above and black below shows which way up it is."""
    ramp = Image.fromarray(np.tile(np.linspace(255, 0, 40, dtype=np.uint8)[:, None, None], (1, 40, 3)))
    made = views(40)
    for of_seed in (made.one, lambda image, draw: made.two(image, draw)[1]):
        seen = [np.asarray(of_seed(ramp, rng(seed)).convert("L"), float) for seed in range(60)]
        assert np.mean([view[:10].mean() < view[-10:].mean() for view in seen]) == pytest.approx(share, abs=0.2)
