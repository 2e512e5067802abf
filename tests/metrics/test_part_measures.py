"""Measures of parts: what a perfect and a blind prototype score, and that batches and ranks add up."""

import torch

from zoo.metrics.part_hits import class_purity, consistency, merge_sides, part_hits, patch_of_cell, peaks
from zoo.metrics.part_measures import PartMetric

NAMES, SIZE = ("beak", "left wing", "right wing", "tail"), 224


def case(images: int = 12) -> dict[str, torch.Tensor]:
    """Two classes, two prototypes each: the first finds the beak, the second always looks at one corner."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(1, 6, (images, 2), generator=generator)
    maps = torch.rand(images, 2, 2, 7, 7, generator=generator) * 0.1
    maps[torch.arange(images), :, 0, cells[:, 0], cells[:, 1]] = 1
    maps[:, :, 1, 6, 6] = 1
    parts = torch.zeros(images, 4, 3)
    parts[:, 0, :2] = (cells.flip(1) * 32 + 16) * 2.0  # files are twice as large
    parts[:, 0, 2] = 1
    size = torch.full((images, 2), 2 * SIZE)
    return {"maps": maps, "label": torch.arange(images) % 2, "parts": parts, "size": size}


def measured(made: dict[str, torch.Tensor], *cuts: slice) -> PartMetric:
    metric = PartMetric(2, 2, NAMES, SIZE)
    own = made["maps"][torch.arange(len(made["label"])), made["label"]]
    for cut in cuts or (slice(None),):
        metric.update(made["maps"][cut], own[cut], made["label"][cut], made["parts"][cut], made["size"][cut])
    return metric


def test_the_one_that_finds_its_part_is_consistent_and_the_other_is_not():
    found = measured(case()).compute()
    assert found.consistency == 0.5
    assert found.stability == 1
    assert 0.5 <= found.purity < 1
    assert 0.5 <= found.patch_purity < 1


def test_batches_add_up_whatever_their_sizes():
    made = case(25)
    assert measured(made).compute() == measured(made, slice(0, 7), slice(7, 24), slice(24, 25)).compute()


def test_no_image_is_no_measure():
    assert PartMetric(2, 2, NAMES, SIZE).compute() is None


def test_a_part_that_is_not_visible_is_never_met():
    parts = torch.tensor([[[10.0, 20.0, 1.0], [10.0, 20.0, 0.0]]])
    hits = part_hits(torch.tensor([[[20, 10]]]), parts, torch.tensor([[100, 100]]), 100, 0)
    assert hits.tolist() == [[[True, False]]]


def test_consistency_counts_images_that_show_the_part():
    hits, visible = torch.tensor([[4, 1], [3, 0]]), torch.tensor([[5, 10], [5, 0]])
    assert consistency(hits, visible).tolist() == [True, False]


def test_purity_looks_at_the_images_that_excite_most():
    activation = torch.tensor([[3.0], [2.0], [1.0], [-torch.inf]])
    hits = torch.tensor([[[True]], [[False]], [[True]], [[True]]])
    assert class_purity(activation, hits, top=2).tolist() == [0.5]
    assert class_purity(activation, hits, top=4).tolist() == [2 / 3]


def test_left_parts_count_as_right_ones():
    hits = torch.tensor([[False, True, False, False]])
    assert merge_sides(hits, list(NAMES)).tolist() == [[False, True, False]]


def test_patches_end_at_the_border():
    starts = patch_of_cell(torch.arange(7), 7, 224)
    assert starts.tolist() == [0, 32, 64, 96, 128, 160, 192]
    assert patch_of_cell(torch.arange(26), 26, 224).tolist()[:3] == [0, 4, 12]
    assert patch_of_cell(torch.tensor([25]), 26, 224).tolist() == [192]


def test_a_peak_is_where_the_upsampled_map_is_highest():
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 2] = 1
    (y, x) = peaks(maps, 32)[0, 0].tolist()
    assert (y // 8, x // 8) == (1, 2)
