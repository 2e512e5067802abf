"""Loaders: order and content are rules of (seed, epoch, index); exact to resume and evaluate; clear on bad files."""

import gc
import itertools
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.loading import BatchOrder, KeyedDataset, Loader
from zoo.core.errors import DataError, MissingExtraError, ZooError

sizes = st.integers(0, 40)
batch_sizes = st.integers(1, 9)
worlds = st.sampled_from([1, 2, 3])
epochs = st.integers(0, 5)


class Source:
    """Sample i is i, plus noise where it is augmented. Counts what is loaded; some files are bad."""

    def __init__(self, size: int, bad: tuple[int, ...] = (), error: Exception | None = None) -> None:
        self.size, self.bad, self.error, self.loaded = size, bad, error, []

    def __len__(self) -> int:
        return self.size

    def load(self, index, rng):
        self.loaded.append(index)
        if index in self.bad:
            raise self.error or DataError(f"file {index} is broken.")
        noise = 0.0 if rng is None else rng.normal()
        return {"x": torch.tensor(index + noise, dtype=torch.float64), "id": f"sample{index}"}


def orders(size: int, batch_size: int, world: int, epoch: int = 0, shuffle: bool = True, seed: int = 0):
    """One order per rank."""
    made = [BatchOrder(size, batch_size, shuffle, seed, rank, world) for rank in range(world)]
    for order in made:
        order.set_epoch(epoch)
    return made


def indices(order: BatchOrder) -> list[list[int]]:
    return [[index for _, index in batch] for batch in order]


def loader(source, batch_size=3, workers=0, augment=True, on_bad_file="stop", epoch=0, seed=0, shuffle=True, **kwargs):
    (order,) = orders(len(source), batch_size, world=1, epoch=epoch, shuffle=shuffle, seed=seed)
    return Loader(KeyedDataset(source, augment, on_bad_file, seed), order, workers, **kwargs)


def content(batches) -> list[tuple[list[int], list[float], list[str]]]:
    return [(batch["index"].tolist(), batch["x"].tolist(), batch["id"]) for batch in batches]


# -- order in training ------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(sizes, batch_sizes, worlds, epochs)
def test_ranks_share_each_global_batch_in_rank_order_and_equal_parts(size, batch_size, world, epoch):
    one = indices(orders(size, batch_size * world, world=1, epoch=epoch)[0])
    ranks = [indices(order) for order in orders(size, batch_size, world, epoch)]
    assert len({len(batches) for batches in ranks}) == 1
    for number, pieces in enumerate(zip(*ranks, strict=True)):
        assert len({len(piece) for piece in pieces}) == 1
        assert pieces[0]
        together = [index for piece in pieces for index in piece]
        assert together == one[number][: len(together)]
        left_out = len(one[number]) - len(together)
        assert left_out == 0 if number < len(one) - 1 else left_out < world


@settings(max_examples=100, deadline=None)
@given(sizes, batch_sizes, worlds, epochs)
def test_training_gives_each_sample_at_most_once_and_all_but_fewer_than_the_ranks(size, batch_size, world, epoch):
    seen = [index for order in orders(size, batch_size, world, epoch) for batch in indices(order) for index in batch]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(size))
    assert size - len(seen) < world


@settings(max_examples=50, deadline=None)
@given(sizes, batch_sizes, worlds, st.booleans())
def test_the_length_is_the_number_of_batches(size, batch_size, world, shuffle):
    for order in orders(size, batch_size, world, shuffle=shuffle):
        assert len(order) == len(list(order))


def test_the_order_is_keyed_by_seed_and_epoch():
    def order(seed, epoch):
        return indices(orders(30, 4, 1, epoch, seed=seed)[0])

    assert order(0, 1) == order(0, 1)
    assert len({str(order(*key)) for key in itertools.product([0, 1], [0, 1, 2])}) == 6
    assert indices(orders(30, 30, 1)[0]) != [list(range(30))]


def test_what_a_last_batch_leaves_out_changes_from_epoch_to_epoch():
    def left_out(epoch):
        seen = {i for order in orders(7, 3, 2, epoch) for batch in indices(order) for i in batch}
        return set(range(7)) - seen

    assert len(set.union(*(left_out(epoch) for epoch in range(10)))) > 1


def test_a_last_batch_of_one_is_given():
    assert [len(batch) for batch in indices(orders(7, 3, 1)[0])] == [3, 3, 1]
    assert content(loader(Source(7)))[-1][0] == indices(orders(7, 3, 1)[0])[-1]


# -- weighted order ---------------------------------------------------------------------------------------------------


def weighted(rank: int = 0, world: int = 1, epoch: int = 0) -> BatchOrder:
    """Sample 0 is never drawn in an even epoch, and sample 4 half of the times; odd epochs have no weights."""
    weights = torch.tensor([0.0, 1, 1, 1, 3] * 20)
    order = BatchOrder(100, 12 // world, True, 0, rank, world, lambda epoch: None if epoch % 2 else weights)
    order.set_epoch(epoch)
    return order


def test_a_weighted_epoch_draws_with_replacement_by_the_weights():
    drawn = torch.tensor(
        [index % 5 for epoch in range(0, 40, 2) for batch in weighted(epoch=epoch) for _, index, _ in batch]
    )
    assert len(drawn) == 20 * 100
    assert (drawn.bincount() / len(drawn)).tolist() == pytest.approx([0, 1 / 6, 1 / 6, 1 / 6, 1 / 2], abs=0.03)
    keys = [key for batch in weighted() for key in batch]
    assert [place for _, _, place in keys] == [*range(100)]
    assert len({index for _, index, _ in keys}) < 80
    assert list(weighted()) == list(weighted()) != list(weighted(epoch=2))


def test_weights_may_come_and_go_between_epochs():
    assert sorted(index for batch in weighted(epoch=1) for _, index in batch) == [*range(100)]


def test_ranks_share_weighted_batches_in_rank_order():
    for whole, left, right in zip(weighted(), weighted(0, 2), weighted(1, 2), strict=True):
        assert whole == left + right


def test_a_sample_drawn_twice_in_an_epoch_is_augmented_anew():
    dataset = KeyedDataset(Source(10), True, "stop", 0)
    first, again, other = (dataset[0, 3, place][0]["x"] for place in (5, 5, 6))
    assert first == again != other


class Staged(Source):
    """From epoch 2 on it is another."""

    def in_epoch(self, epoch: int) -> Source:
        return Source(self.size) if epoch >= 2 else self


def test_a_source_may_change_with_the_epoch_where_samples_are_augmented():
    for augment, early, late in ((True, 1, 0), (False, 1, 1)):
        for epoch, loaded in ((1, early), (2, late)):
            source = Staged(10)
            KeyedDataset(source, augment, "stop", 0)[epoch, 3]
            assert len(source.loaded) == loaded


# -- order in evaluation ----------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(sizes, batch_sizes, worlds)
def test_evaluation_gives_each_sample_once_unpadded_also_with_fewer_samples_than_ranks(size, batch_size, world):
    ranks = [indices(order) for order in orders(size, batch_size, world, shuffle=False)]
    assert sorted(index for batches in ranks for batch in batches for index in batch) == list(range(size))
    for rank, batches in enumerate(ranks):
        own = [index for batch in batches for index in batch]
        assert own == list(range(rank, size, world))
        assert all(0 < len(batch) <= batch_size for batch in batches)


def test_evaluation_does_not_depend_on_the_epoch():
    assert indices(orders(7, 2, 2, epoch=0, shuffle=False)[1]) == indices(orders(7, 2, 2, epoch=3, shuffle=False)[1])


# -- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [True, False])
def test_order_and_augmentation_do_not_depend_on_workers(augment):
    def batches(workers):
        made = loader(Source(11), workers=workers, augment=augment)
        found = []
        for epoch in (0, 1):
            made.sampler.set_epoch(epoch)
            found.append(content(made))
        return found

    assert batches(0) == batches(2)


def values(**kwargs) -> dict[int, float]:
    return {i: x for batch in content(loader(Source(11), **kwargs)) for i, x in zip(*batch[:2], strict=True)}


def test_augmentation_belongs_to_seed_epoch_and_sample_not_to_the_batch():
    found = values(epoch=1)
    assert found == values(epoch=1, batch_size=5) == values(epoch=1, shuffle=False)
    assert all(found[i] != values(epoch=2)[i] for i in found)
    assert all(found[i] != values(epoch=1, seed=1)[i] for i in found)
    noise = np.array([x - i for i, x in found.items()])
    assert len(set(noise)) == 11


def test_without_augmentation_samples_are_as_they_are():
    assert values(augment=False) == {i: float(i) for i in range(11)}


def test_batches_name_their_samples():
    (batch,) = loader(Source(2), shuffle=False)
    assert batch["index"].dtype == torch.int64
    assert batch["id"] == ["sample0", "sample1"]


# -- resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [0, 1, 3, 4])
def test_a_resumed_loader_goes_on_where_it_stood_and_loads_nothing_before(done):
    uncut = content(loader(Source(11), epoch=2))
    source = Source(11)
    resumed = loader(source)
    resumed.load_state_dict({"epoch": 2, "batches": done})
    resumed.sampler.set_epoch(2)  # Lightning does, before the first batch
    assert content(resumed) == uncut[done:]
    assert source.loaded == [index for batch in uncut[done:] for index in batch[0]]


@pytest.mark.parametrize("workers", [0, 2])
def test_only_the_resumed_epoch_is_shortened(workers):
    resumed = loader(Source(11), workers=workers)
    resumed.load_state_dict({"epoch": 2, "batches": 3})
    resumed.sampler.set_epoch(2)
    assert len(content(resumed)) == 1
    assert content(resumed) == content(loader(Source(11), epoch=2))
    resumed.sampler.set_epoch(3)
    assert content(resumed) == content(loader(Source(11), epoch=3))


def test_a_skip_that_was_never_used_ends_with_its_epoch():
    resumed = loader(Source(11))
    resumed.load_state_dict({"epoch": 2, "batches": 3})
    resumed.sampler.set_epoch(3)
    assert content(resumed) == content(loader(Source(11), epoch=3))


def test_the_length_is_the_whole_epochs_also_when_resumed():
    resumed = loader(Source(11))
    resumed.load_state_dict({"epoch": 0, "batches": 3})
    assert len(resumed) == 4


def test_the_state_is_what_the_training_says():
    assert loader(Source(11), position=lambda: (4, 2)).state_dict() == {"epoch": 4, "batches": 2}
    assert loader(Source(11), epoch=1).state_dict() == {"epoch": 1, "batches": 0}


def error_of(made: Loader) -> tuple[type, str, object]:
    """Type, message and cause; `pytest.raises` would hold on to the loader and its workers."""
    try:
        list(made)
    except ZooError as error:
        return type(error), str(error), error.__cause__
    raise AssertionError("no error")


# -- bad files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("on_bad_file", ["stop", "skip"])
def test_an_error_that_is_no_bad_file_stops_in_one_line(workers, on_bad_file):
    source = Source(11, bad=(4,), error=MissingExtraError("soundfile is missing."))
    found = error_of(loader(source, workers=workers, on_bad_file=on_bad_file))
    assert found == (MissingExtraError, "soundfile is missing.", None)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_stops_with_its_own_error_and_no_workers_traceback(workers):
    found = error_of(loader(Source(11, bad=(4,)), workers=workers))
    assert found == (DataError, "file 4 is broken.", None)


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_that_do_not_fit_together_stop_in_one_line(workers):
    class Uneven(Source):
        def load(self, index, rng):
            return {"x": torch.zeros(1 + (index == 4)), "id": f"sample{index}"}

    kind, said, cause = error_of(loader(Uneven(11), workers=workers))
    assert (kind, cause) == (DataError, None)
    assert "sample4" in said
    assert "\n" not in said


def test_a_mistake_in_the_code_is_not_taken_for_a_bad_file():
    source = Source(11, bad=(4,), error=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        content(loader(source, on_bad_file="skip"))


def test_workers_end_at_once_when_a_bad_file_stops_the_run():
    start = time.monotonic()
    error_of(loader(Source(11, bad=(4,)), workers=2))
    gc.collect()
    assert time.monotonic() - start < 4  # torch gives up after 5 s for each worker that was left alone


def with_replacements(**kwargs):
    told = []
    made = loader(Source(11, bad=(4, 7)), on_bad_file="skip", on_replaced=told.extend, **kwargs)
    return content(made), told


def test_a_skipped_file_is_replaced_in_its_place_and_told():
    whole = content(loader(Source(11)))
    found, told = with_replacements()
    assert {"file 4 is broken.", "file 7 is broken."} <= set(told)
    assert [len(batch[0]) for batch in found] == [len(batch[0]) for batch in whole]
    for batch, expected in zip(found, whole, strict=True):
        for index, x, name, wanted in zip(*batch, expected[0], strict=True):
            assert index == wanted if wanted not in (4, 7) else index not in (4, 7)
            assert name == f"sample{index}"
            assert abs(x - index) < 6  # its own augmentation, not the broken one's


def test_the_replacement_is_a_rule_of_seed_epoch_and_index():
    found, told = with_replacements()
    assert with_replacements(workers=2) == (found, told)
    substitutes = set()
    for epoch in range(5):
        whole = [i for batch in content(loader(Source(11), epoch=epoch)) for i in batch[0]]
        found = [i for batch in with_replacements(epoch=epoch)[0] for i in batch[0]]
        substitutes.add(found[whole.index(4)])
    assert len(substitutes) > 1


def test_a_data_set_with_next_to_no_good_file_stops():
    with pytest.raises(DataError, match=r"20 samples in a row could not be read; the last: file \d is broken\."):
        content(loader(Source(5, bad=(0, 1, 2, 3, 4)), on_bad_file="skip"))
