import torch

from datamodules.brats import labels_to_regions, regions_to_labels


def volume(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, -1)


def test_regions_are_et_wt_tc():
    regions = labels_to_regions(volume(0, 1, 2, 4))
    assert regions.dtype == torch.uint8
    assert regions.flatten(1).tolist() == [[0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 0, 1]]


def test_labels_survive_the_way_there_and_back_also_in_batches():
    labels = torch.tensor([0, 1, 2, 4])[torch.randint(4, (2, 3, 4, 5), generator=torch.Generator().manual_seed(0))]
    assert torch.equal(regions_to_labels(labels_to_regions(labels).float()), labels.to(torch.uint8))


def test_later_regions_overwrite_and_nesting_is_not_enforced():
    et, wt, tc = [0.9, 0.2, 0.2, 0.2, 0.5], [0.1, 0.9, 0.1, 0.9, 0.5], [0.1, 0.9, 0.9, 0.1, 0.5]
    labels = regions_to_labels(torch.tensor([et, wt, tc]).view(3, 1, 1, 5))
    assert labels.flatten().tolist() == [4, 1, 1, 2, 0]
