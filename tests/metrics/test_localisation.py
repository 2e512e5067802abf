"""Localisation: boxes are scaled as published, masks are compared over pixels, findings weigh the same."""

from __future__ import annotations

import torch

from zoo.metrics.localisation import LocalisationMetric, box_iou, map_masks, scale_boxes


def test_boxes_are_truncated_to_pixels_of_the_input():
    boxes, size = torch.tensor([[101.0, 33.0, 55.0, 77.0]]), torch.tensor([[1024, 2048]])
    assert scale_boxes(boxes, size, (512, 512)).tolist() == [[25, 16, 13, 38]]


def test_a_mask_that_fills_its_box_has_iou_one():
    masks = torch.zeros(2, 8, 10, dtype=torch.bool)
    masks[:, 2:5, 3:7] = True
    iou = box_iou(masks, torch.tensor([[3, 2, 4, 3], [3, 2, 2, 3]]))
    torch.testing.assert_close(iou, torch.tensor([1.0, 0.5]))


def test_a_mask_does_not_depend_on_a_maps_scale():
    maps = torch.rand(3, 4, 4)
    assert torch.equal(map_masks(maps, (16, 16)), map_masks(0.01 * maps + 5, (16, 16)))


def test_the_share_is_per_finding_and_absent_boxes_do_not_count():
    maps = torch.zeros(2, 3, 8, 8)
    maps[:, :, 2:6, 2:6] = 1.0
    boxes = -torch.ones(2, 2, 5)
    boxes[0, 0] = torch.tensor([0.0, 2, 2, 4, 4])  # met
    boxes[0, 1] = torch.tensor([2.0, 0, 0, 1, 1])  # missed
    boxes[1, 0] = torch.tensor([2.0, 2, 2, 4, 4])  # met
    metric = LocalisationMetric(num_findings=3)
    metric.update(maps, boxes, torch.full((2, 2), 8), (8, 8))
    found = metric.compute()
    assert found[0].tolist() == [1.0] * 7
    assert found[1].isnan().all()
    assert found[2].tolist() == [0.5] * 7
