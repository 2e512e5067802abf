"""Label vectors and the weights by which samples are drawn."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.multi_label import class_weights, multi_hot, own_pictures, sample_weights
from zoo.core.errors import DataError

CLASSES = 5
lists = st.lists(st.sets(st.integers(0, CLASSES - 1), min_size=1).map(sorted), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(lists)
def test_label_vectors_are_1_at_the_classes_alone(classes):
    labels = multi_hot(classes, CLASSES)
    assert labels.dtype == torch.float32
    assert [row.nonzero()[:, 0].tolist() for row in labels] == classes
    assert set(labels.unique().tolist()) <= {0, 1}


@settings(max_examples=25, deadline=None)
@given(lists)
def test_drawn_by_these_weights_all_classes_weigh_the_same(classes):
    """Where each sample has one class, all classes that occur are drawn equally often."""
    single = multi_hot([own[:1] for own in classes], CLASSES)
    drawn = (sample_weights(single, class_weights(single))[:, None] * single).sum(dim=0)
    there = single.sum(dim=0) > 0
    assert torch.allclose(drawn[there], drawn[there][0])


def test_a_sample_weighs_the_mean_of_its_classes():
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 0, 0]])
    weights = class_weights(labels)
    assert weights.tolist() == pytest.approx([4 / 3, 4, 4])  # of the last class, none is there
    assert sample_weights(labels, weights).tolist() == pytest.approx([4 / 3, 8 / 3, 4 / 3])


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no png, jpg or|has no png or jpg"):
        own_pictures(tmp_path, CLASSES)
    with pytest.raises(DataError, match="cannot be read"):
        own_pictures(tmp_path / "absent", CLASSES)
