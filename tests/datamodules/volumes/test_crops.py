from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.volumes.crops import draw_box, draw_mirror

VOLUME = (30, 70, 60)
CROP = (16, 24, 20)


def regions(*boxes: tuple[slice, slice, slice] | None) -> np.ndarray:
    masks = np.zeros((len(boxes), *VOLUME), np.uint8)
    for mask, box in zip(masks, boxes, strict=True):
        if box:
            mask[box] = 1
    return masks


@given(
    st.tuples(st.integers(4, 40), st.integers(4, 60), st.integers(4, 60)),
    st.tuples(*[st.integers(2, 40)] * 3),
    st.integers(0, 2**32),
    st.sampled_from(["papers", "2024"]),
)
def test_a_box_lies_inside_and_has_nearly_the_crops_size(volume, crop, seed, sampler):
    masks = np.random.default_rng(seed).random((3, *volume)) < 0.1
    masks[0] = 0
    box = draw_box(masks, crop, np.random.default_rng(seed), sampler)
    for start, stop, side, whole in zip(box.start, box.stop, crop, volume, strict=True):
        assert 0 <= start < stop <= whole
        low, high = (int(0.9 * side) - 1, int(1.1 * side)) if box.scaled else (side - 1, side)
        assert min(max(low, 1), whole - 1) <= stop - start <= high


@pytest.mark.parametrize(("sampler", "share"), [("papers", 3 / 8), ("2024", 1 / 2)])
def test_the_older_sampler_draws_fewer_boxes_around_the_tumour(sampler, share):
    corner = (slice(0, 2), slice(0, 2), slice(0, 2))  # where no box drawn anywhere lies
    masks = regions(corner, corner, corner)
    draws = [draw_box(masks, CROP, np.random.default_rng(seed), sampler) for seed in range(1000)]
    assert abs(np.mean([box.start[1:] == (0, 0) for box in draws]) - share) < 0.05
    assert abs(np.mean([box.scaled for box in draws]) - 0.5) < 0.05


def test_without_a_tumour_boxes_lie_anywhere_away_from_the_rim():
    draws = [draw_box(regions(None, None, None), CROP, np.random.default_rng(seed)) for seed in range(300)]
    assert min(box.start[1] for box in draws) == 15
    assert min(box.start[2] for box in draws) == 10
    assert max(box.stop[1] for box in draws) == VOLUME[1] - 15
    assert max(box.stop[2] for box in draws) == VOLUME[2] - 10
    assert min(box.start[0] for box in draws) == 0
    assert max(box.stop[0] for box in draws) == VOLUME[0]


def test_mirrors_are_drawn_as_often_as_published():
    drawn = Counter(draw_mirror(np.random.default_rng(seed)) for seed in range(3000))
    assert abs(drawn.pop(()) / 3000 - 0.3) < 0.03
    assert len(drawn) == 7
    assert all(abs(count / 3000 - 0.1) < 0.03 for count in drawn.values())
