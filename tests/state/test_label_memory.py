import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.core.errors import DataError
from zoo.state import LabelMemory

N, D = 6, 2
updates = st.lists(st.lists(st.integers(0, N - 1), max_size=10), min_size=1, max_size=4)


def values_for(batch: int, index: list[int]) -> torch.Tensor:
    return (torch.arange(len(index) * D).view(-1, D) + 100.0 * (batch + 1)) / 7


@given(updates, st.sampled_from([None, 0.0, 0.3, 0.9]), st.sampled_from([0.0, 0.5]))
@settings(max_examples=60, deadline=None)
def test_memory_equals_a_dictionary_in_which_the_last_write_counts_once(index_lists, momentum, initial):
    memory, reference = LabelMemory(N, D, initial), {i: torch.full((D,), initial) for i in range(N)}
    seen = set()
    for batch, index in enumerate(index_lists):
        values = values_for(batch, index)
        memory.update(torch.tensor(index, dtype=torch.int64), values, momentum)
        for i, value in dict(zip(index, values, strict=True)).items():
            reference[i] = value if momentum is None else momentum * reference[i] + (1 - momentum) * value
            seen.add(i)
    for i in range(N):
        assert torch.allclose(memory[torch.tensor([i])][0], reference[i], rtol=1e-5)
        assert memory.seen[i] == (i in seen)


def test_read_rows_are_in_the_order_of_the_index():
    memory = LabelMemory(N, D)
    memory.update(torch.tensor([4, 1]), torch.tensor([[4.0, 4.0], [1.0, 1.0]]))
    assert memory[torch.tensor([1, 4, 0])].tolist() == [[1, 1], [4, 4], [0, 0]]


@pytest.mark.parametrize("bad", [-1, N])
def test_index_outside_the_memory_is_refused(bad):
    with pytest.raises(DataError, match="label memory of 6 samples"):
        LabelMemory(N, D).update(torch.tensor([0, bad]), torch.zeros(2, D))


def test_state_is_saved_without_gradient():
    memory, resumed = LabelMemory(N, D), LabelMemory(N, D)
    memory.update(torch.tensor([3]), torch.ones(1, D, requires_grad=True), momentum=0.5)
    resumed.load_state_dict(memory.state_dict())
    assert set(memory.state_dict()) == {"values", "seen"}
    assert not memory.values.requires_grad
    for name, buffer in memory.state_dict().items():
        assert torch.equal(buffer, resumed.state_dict()[name]), name
