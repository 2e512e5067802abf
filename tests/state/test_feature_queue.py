from collections import deque

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.state import ClassQueue

C, D = 3, 2
pushes = st.lists(st.lists(st.integers(-1, C), max_size=12), min_size=1, max_size=6)
sizes = st.integers(1, 5)


def numbered(label_lists: list[list[int]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pushes whose features are 1, 2, 3, …, so that no two are alike and none is zero."""
    ends = torch.tensor([len(labels) for labels in label_lists]).cumsum(0).tolist()
    return [
        (torch.arange(end - len(labels), end)[:, None].expand(-1, D) + 1.0, torch.tensor(labels, dtype=torch.int64))
        for labels, end in zip(label_lists, ends, strict=True)
    ]


def filled(label_lists: list[list[int]], size: int) -> ClassQueue:
    queue = ClassQueue(C, size, D)
    for features, labels in numbered(label_lists):
        queue.push(features, labels)
    return queue


@given(pushes, sizes)
@settings(max_examples=80, deadline=None)
def test_queue_equals_a_deque_per_class(label_lists, size):
    reference = [deque(maxlen=size) for _ in range(C)]
    for features, labels in numbered(label_lists):
        for feature, label in zip(features, labels.tolist(), strict=True):
            if 0 <= label < C:
                reference[label].append(feature)
    queue = filled(label_lists, size)
    ordered = queue.ordered()
    for c, expected in enumerate(reference):
        assert queue.count[c] == len(expected)
        assert queue.is_full[c] == (len(expected) == size)
        assert torch.equal(ordered[c, : len(expected)], torch.stack([*expected]) if expected else torch.empty(0, D))
        assert not ordered[c, len(expected) :].any()
        assert sorted(queue.features[c, queue.valid[c], 0].tolist()) == sorted(f[0].item() for f in expected)


@given(pushes, sizes)
@settings(max_examples=40, deadline=None)
def test_pushing_at_once_equals_pushing_one_by_one(label_lists, size):
    at_once, one_by_one = filled(label_lists, size), ClassQueue(C, size, D)
    for features, labels in numbered(label_lists):
        for row in range(len(labels)):
            one_by_one.push(features[row : row + 1], labels[row : row + 1])
    for name, buffer in at_once.state_dict().items():
        assert torch.equal(buffer, one_by_one.state_dict()[name]), name


@given(pushes, sizes, st.permutations(range(C)))
@settings(max_examples=40, deadline=None)
def test_permuting_classes_permutes_the_queue(label_lists, size, permutation):
    renamed = [[permutation[label] if 0 <= label < C else label for label in labels] for labels in label_lists]
    queue, permuted = filled(label_lists, size), filled(renamed, size)
    for name, buffer in queue.state_dict().items():
        assert torch.equal(buffer, permuted.state_dict()[name][list(permutation)]), name


def test_sixth_of_six_entries_wraps_to_slot_zero():
    queue = filled([[0] * 6], size=5)
    assert queue.features[0, :, 0].tolist() == [6, 2, 3, 4, 5]
    assert queue.pointer[0] == 1


def test_state_is_saved_and_goes_on_from_there():
    queue, resumed = filled([[0, 1, 1], [1, 1, 2]], size=3), ClassQueue(C, 3, D)
    resumed.load_state_dict(queue.state_dict())
    for each in (queue, resumed):
        each.push(torch.full((2, D), 99.0), torch.tensor([1, 0]))
    assert set(queue.state_dict()) == {"features", "pointer", "count"}
    for name, buffer in queue.state_dict().items():
        assert torch.equal(buffer, resumed.state_dict()[name]), name


def test_cleared_classes_are_as_new_and_others_untouched():
    queue, untouched = filled([[0, 0, 1, 2, 2, 2]], size=2), filled([[0, 0, 1, 2, 2, 2]], size=2)
    queue.clear(torch.tensor([True, False, True]))
    assert queue.count.tolist() == [0, 1, 0]
    assert queue.pointer.tolist() == [0, 1, 0]
    assert not queue.features[[0, 2]].any()
    assert torch.equal(queue.features[1], untouched.features[1])


def test_features_of_lower_precision_are_taken_without_gradient():
    queue = ClassQueue(C, 2, D)
    queue.push(torch.ones(1, D, dtype=torch.bfloat16, requires_grad=True), torch.tensor([1]))
    assert queue.features.dtype == torch.float32
    assert not queue.features.requires_grad
    assert queue.features[1, 0].tolist() == [1, 1]
