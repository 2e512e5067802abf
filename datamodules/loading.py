"""Loaders whose order is a rule of (seed, epoch), not a state: exact to resume, exact to evaluate.

Lightning and torch offer samplers that pad the last batch (a metric then counts samples twice) and loaders that start
an epoch again when they are resumed. These do neither.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.batch import collate
from zoo.core.errors import DataError, ZooError
from zoo.core.randomness import numpy_generator, torch_generator

OnBadFile = Literal["stop", "skip"]
Sample = dict[str, Any]


class Source(Protocol):
    """One split of a data set: what a data module provides."""

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """Sample `index`, without its `index` entry; `rng` draws its augmentation, `None` means none.

        Raises:
            DataError: naming the file that cannot be read.
        """
        ...


@runtime_checkable
class EpochSource(Source, Protocol):
    """A source that gives other samples in some epochs than in others, such as pairs after a first stage."""

    def in_epoch(self, epoch: int) -> Source:
        """What augmented samples of this epoch are read from."""
        ...


class KeyedDataset(Dataset):
    """A source read by keys (epoch, index), so that a sample's augmentation is a rule of (seed, epoch, index).

    Where an epoch may hold a sample more than once, keys end in the place of the draw, and so does the rule.

    Args:
        source: what is read.
        augment: whether samples are augmented.
        on_bad_file: "stop" raises; "skip" puts another sample in its place, chosen by a rule of (seed, epoch, index).
        seed: the run's seed.
        replace: whether "skip" does so; else it leaves the sample out.
    """

    attempts = 20

    def __init__(self, source: Source, augment: bool, on_bad_file: OnBadFile, seed: int, replace: bool = True) -> None:
        self.source, self.augment, self.on_bad_file, self.seed = source, augment, on_bad_file, seed
        self.replace = replace

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, ...]) -> tuple[Sample | None, list[str]] | ZooError:
        epoch, index, *place = key
        source = self.source.in_epoch(epoch) if self.augment and isinstance(self.source, EpochSource) else self.source
        substitutes = numpy_generator(self.seed, "substitute", *key)
        problems: list[str] = []
        for _ in range(self.attempts):
            rng = numpy_generator(self.seed, "augment", epoch, index, *place) if self.augment else None
            try:
                return {**source.load(index, rng), "index": torch.tensor(index)}, problems
            except DataError as error:
                if self.on_bad_file == "stop":
                    return error  # returned, not raised: a worker would wrap it in its own traceback
                problems.append(str(error))
                if not self.replace:
                    return None, problems
            except ZooError as error:
                return error
            index = int(substitutes.integers(len(self)))
        return DataError(f"{self.attempts} samples in a row could not be read; the last: {problems[-1]}")


def _collate(
    items: Sequence[tuple[Sample | None, list[str]] | ZooError],
) -> tuple[Sample | None, list[str]] | ZooError:
    """A batch, `None` if all its samples were left out; and what was wrong with files."""
    for item in items:
        if isinstance(item, ZooError):
            return item
    try:
        samples = [sample for sample, _ in items if sample is not None]
        batch = collate(samples) if samples else None
    except ZooError as error:
        return error
    return batch, [problem for _, problems in items for problem in problems]


def _ignore_interrupts(worker: int) -> None:
    """A terminal sends Ctrl-C to all processes; the training process says when its workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class BatchOrder(Sampler):
    """Which keys (epoch, index) form each batch of this rank.

    Training: a permutation keyed by (seed, epoch), or as many draws with replacement by `weights(epoch)`, cut into
    global batches of `world * batch_size`, and these into one piece per rank: two ranks with half the batch see what
    one process sees, and what is gathered in rank order is in its order. All ranks get equally many samples: of a last
    global batch of b samples, b mod world are left out (other ones each epoch). Evaluation: the data set's order, rank
    r takes every `world`-th sample from the r-th on; nothing is padded.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        rank: int,
        world: int,
        weights: Callable[[int], Tensor | None] = lambda epoch: None,
    ) -> None:
        self.size, self.batch_size, self.shuffle, self.seed = size, batch_size, shuffle, seed
        self.rank, self.world, self.weights = rank, world, weights
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        if not self.shuffle:
            return -(-len(range(self.rank, self.size, self.world)) // self.batch_size)
        whole, rest = divmod(self.size, self.batch_size * self.world)
        return whole + (rest >= self.world)

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        start, self.start = self.start, 0  # the skip belongs to the resumed epoch alone
        for batch in range(start, len(self)):
            yield [(self.epoch, *draw) for draw in self._draws(batch)]

    def _draws(self, batch: int) -> list[tuple[int, ...]]:
        if not self.shuffle:
            own = range(self.rank, self.size, self.world)
            return [(index,) for index in own[batch * self.batch_size : (batch + 1) * self.batch_size]]
        step = self.batch_size * self.world
        chunk = self._order()[batch * step : (batch + 1) * step]
        share = len(chunk) // self.world
        return chunk[self.rank * share : (self.rank + 1) * share]

    def _order(self) -> list[tuple[int, ...]]:
        """Of the epoch: (index), or (index, place) where an index may come again."""
        if getattr(self, "_cached", (None, None))[0] != self.epoch:
            generator, weights = torch_generator(self.seed, "order", self.epoch), self.weights(self.epoch)
            if weights is None:
                order = [(index,) for index in torch.randperm(self.size, generator=generator).tolist()]
            else:
                drawn = torch.multinomial(weights, self.size, replacement=True, generator=generator)
                order = [(index, place) for place, index in enumerate(drawn.tolist())]
            self._cached = (self.epoch, order)
        return self._cached[1]


class Loader:
    """Iterates over batches; knows where it stands (`state_dict`) and skips to there without loading.

    Deliberately no subclass of torch's DataLoader: Lightning takes those apart and puts its own samplers in.

    Args:
        dataset, order: what is read, in which batches.
        num_workers: processes that read; the batches do not depend on it.
        position: (epoch, batches done in it) of the training that consumes this loader, for its checkpoints.
        on_replaced: told the messages of bad files that were replaced.
    """

    def __init__(
        self,
        dataset: KeyedDataset,
        order: BatchOrder,
        num_workers: int,
        position: Callable[[], tuple[int, int]] | None = None,
        on_replaced: Callable[[list[str]], None] = lambda problems: None,
    ) -> None:
        self.sampler = self.batch_sampler = order  # the names under which Lightning looks for `set_epoch`
        self.dataset = dataset
        self._position, self._on_replaced = position, on_replaced
        self._loader = DataLoader(
            dataset,
            batch_sampler=order,
            num_workers=num_workers,
            collate_fn=_collate,
            worker_init_fn=_ignore_interrupts,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Sample]:
        for fetched in self._loader:
            if isinstance(fetched, ZooError):
                try:
                    raise fetched
                finally:
                    del fetched  # else error and frame hold each other, and workers are ended only after a timeout
            batch, problems = fetched
            if problems:
                self._on_replaced(problems)
            if batch is not None:
                yield batch

    @property
    def _iterator(self) -> Any:
        """Where Lightning looks for workers that it must end when a run is over."""
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: Any) -> None:
        self._loader._iterator = iterator

    def state_dict(self) -> dict[str, int]:
        epoch, batches = self._position() if self._position else (self.sampler.epoch, 0)
        return {"epoch": epoch, "batches": batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.epoch, self.sampler.start = state["epoch"], state["batches"]
