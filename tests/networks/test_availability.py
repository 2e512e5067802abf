import random
from collections import Counter

import pytest

from zoo.networks.availability import draw_availability


@pytest.mark.parametrize("max_available", [1, 3, 4])
def test_sizes_are_uniform_and_subsets_of_a_size_equally_likely(max_available):
    rng = random.Random(0)
    drawn = [tuple(draw_availability(rng, 4, max_available)) for _ in range(6000)]
    assert all(len(set(draw)) == len(draw) and set(draw) <= set(range(4)) for draw in drawn)
    sizes = Counter(map(len, drawn))
    assert set(sizes) == set(range(1, max_available + 1))
    assert all(abs(count / 6000 - 1 / max_available) < 0.03 for count in sizes.values())
    ordered_pairs = Counter(draw for draw in drawn if len(draw) == 2)
    if ordered_pairs:
        assert len(ordered_pairs) == 12
        assert max(ordered_pairs.values()) < 1.6 * min(ordered_pairs.values())


def test_own_generator_draws_as_the_global_one_does():
    random.seed(3)
    replayed = [random.sample([0, 1, 2, 3], random.randint(1, 4)) for _ in range(5)]
    rng = random.Random(3)
    assert [draw_availability(rng, 4, 4) for _ in range(5)] == replayed
