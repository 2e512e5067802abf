"""Losses of overlapping regions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from losses.segmentation import dice_bce, region_bce, soft_dice


def test_dice_of_a_perfect_prediction_is_all_but_free():
    target = torch.zeros(2, 3, 8, 8, 8)
    target[:, :, 2:6] = 1
    voxels = 2 * 4 * 64
    assert soft_dice(100 * (2 * target - 1), target).item() == pytest.approx(1 / (voxels + 1), abs=1e-6)


def test_an_empty_region_costs_one_whatever_is_predicted():
    target = torch.zeros(1, 1, 4, 4, 4)
    assert soft_dice(torch.full_like(target, -50.0), target) == 1
    assert soft_dice(torch.full_like(target, 50.0), target) == 1


def test_cross_entropy_is_summed_over_regions():
    logits, target = torch.randn(2, 3, 4, 4, 4), torch.randint(2, (2, 3, 4, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(
        region_bce(logits, target), 3 * F.binary_cross_entropy_with_logits(logits, target.float())
    )


def test_the_sum_takes_integer_masks_and_half_precision():
    logits, target = torch.randn(2, 3, 8, 8, 8), torch.randint(2, (2, 3, 8, 8, 8), dtype=torch.uint8)
    exact = dice_bce(logits, target, smooth=2.0)
    torch.testing.assert_close(exact, soft_dice(logits, target, smooth=2.0) + region_bce(logits, target))
    assert dice_bce(logits.bfloat16(), target, smooth=2.0).item() == pytest.approx(exact.item(), rel=0.01)
