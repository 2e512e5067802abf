import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.metrics.region_dice import RegionDice, region_dice


def samples(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, 4, 5, 6)
    return torch.rand(shape, generator=generator), torch.randint(2, shape, generator=generator, dtype=torch.uint8)


@given(st.integers(0, 1000), st.sampled_from([0.0, 1.0, 2.5]))
@settings(max_examples=20, deadline=None)
def test_dice_is_twice_the_overlap_over_the_sizes(seed, smooth):
    prediction, target = samples(2, seed)
    dice = region_dice(prediction, target, smooth=smooth)
    for n in range(2):
        for r in range(3):
            p, y = prediction[n, r].double(), target[n, r].double()
            assert torch.isclose(dice[n, r].double(), 2 * (p * y).sum() / (p.sum() + y.sum() + smooth), atol=1e-6)


def test_empty_target_gives_zero_also_if_nothing_is_predicted():
    empty = torch.zeros(1, 1, 2, 2, 2)
    assert region_dice(empty, empty).item() == 0
    assert region_dice(torch.ones_like(empty), empty).item() == 0


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_metric_counts_each_sample_once_whatever_the_batches_and_ranks(threshold):
    prediction, target = samples(7)
    hard = prediction if threshold is None else (prediction > threshold).float()
    expected = region_dice(hard, target).mean(0)
    for cuts in ([7], [3, 3, 1], [1, 6]):
        metric = RegionDice(3, threshold)
        for p, y in zip(prediction.split(cuts), target.split(cuts), strict=True):
            metric.update(p, y)
        assert torch.allclose(metric.compute(), expected, atol=1e-6)

    ranks = [RegionDice(3, threshold) for _ in range(2)]
    for rank, metric in enumerate(ranks):
        metric.update(prediction[rank::2], target[rank::2])
    # What torchmetrics does when it synchronises: the states' own reductions over ranks.
    merged = RegionDice(3, threshold)
    for name, reduction in merged._reductions.items():
        setattr(merged, name, reduction(torch.stack([getattr(metric, name) for metric in ranks])))
    merged._update_count = 1
    assert torch.allclose(merged.compute(), expected, atol=1e-6)


def test_without_smoothing_a_region_that_both_lack_scores_one():
    target = torch.zeros(1, 2, 4, 4, 4)
    prediction = target.clone()
    prediction[0, 1, 0] = 1
    assert region_dice(prediction, target, smooth=0.0).tolist() == [[1.0, 0.0]]
