"""Projection: which image each prototype takes, and which patch."""

from __future__ import annotations

import torch

from zoo.tasks.projection import best_of_classes, choose, patch_features


def test_an_image_serves_one_prototype_and_a_class_without_images_keeps_its_own():
    activation = torch.tensor([[5.0, 9.0], [4.0, 8.0], [1.0, 1.0]])[:, None, None].expand(3, 1, 3, 2)
    has = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 0]]).bool()
    assert choose(best_of_classes(activation, has)).tolist() == [[0, 1], [2, -1], [-1, -1]]


def test_an_image_with_several_labels_is_taken_once():
    activation = torch.tensor([[1.0, 5.0], [0.5, 4.0]])[:, None, :, None]
    assert choose(best_of_classes(activation, torch.ones(2, 2).bool())).tolist() == [[0], [1]]


def test_the_patch_is_where_the_prototype_fits_best():
    features = torch.arange(24.0).reshape(2, 3, 2, 2)
    activation = torch.zeros(2, 4, 2, 2)
    activation[0, 2, 1, 0], activation[1, 3, 0, 1] = 1.0, 1.0
    found = patch_features(activation, features, torch.tensor([2, 1]))
    assert torch.equal(found, torch.stack([features[0, :, 1, 0], features[1, :, 1, 1]]))
