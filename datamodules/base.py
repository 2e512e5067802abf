"""ZooDataModule: what every data module shares, and nothing of any one data set."""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, get_args

import lightning.pytorch as L
from torch import Tensor

from datamodules.loading import BatchOrder, KeyedDataset, Loader, OnBadFile, Source
from zoo.core.distributed import rank, world_size
from zoo.core.errors import DataError, RecipeError
from zoo.core.locks import lock
from zoo.core.names import unknown
from zoo.core.randomness import global_seed

log = logging.getLogger("lightning.pytorch")

Split = Literal["train", "val", "test", "predict", "meta"]
"""`meta`: what a method learns from apart from its network, and never trains on; few data modules have it."""

DEMO_RECORD = ".zoo-demo.json"


class ZooDataModule(L.LightningDataModule):
    """Base of all data modules.

    A subclass names its `task` (a key of :data:`datamodules.batch.TASKS`) and implements :meth:`source`,
    :meth:`write_demo` and :meth:`check`.

    Args:
        root: the data set's folder, laid out as its public download. `None`: `$ZOO_DATA/<folder>`, or `data/<folder>`
            where `ZOO_DATA` is not set; with `demo`, a folder of its own beside them.
        batch_size: samples per step and device.
        num_workers: reading processes. The order and the content of batches do not depend on it.
        demo: write this many samples of generated data in the data set's layout, and use them.
        on_bad_file: "stop" ends the run with an error that names the file; "skip" puts another sample in its place in
            training, leaves it out of evaluations (which would count the other one twice), and reports how many.
    """

    name: ClassVar[str]  # as registered
    folder: ClassVar[str] = ""  # of the download, below the folder that holds all data sets
    task: ClassVar[str]
    split_names: ClassVar[tuple[Split, ...]] = ("train", "val", "test", "predict")
    downloadable: ClassVar[bool] = False  # whether it takes the argument `download`

    def __init__(
        self,
        root: str | Path | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        demo: int | None = None,
        on_bad_file: OnBadFile = "stop",
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise RecipeError(f"data.batch_size is {batch_size}; it must be at least 1.")
        if demo is not None and demo < 1:
            raise RecipeError(f"data.demo is {demo}; it must be at least 1, or absent for real data.")
        if num_workers < 0:
            raise RecipeError(f"data.num_workers is {num_workers}; it must be at least 0.")
        if on_bad_file not in get_args(OnBadFile):
            raise unknown("value of data.on_bad_file", on_bad_file, get_args(OnBadFile))
        base = Path(os.environ.get("ZOO_DATA") or "data")
        default = base / "demo" / f"{self.name}-{demo}" if demo else base / self.folder
        self.root = Path(root).expanduser() if root is not None else default
        self.batch_size, self.num_workers, self.demo, self.on_bad_file = batch_size, num_workers, demo, on_bad_file
        self.replaced: Counter[str] = Counter()
        self._sources: dict[Split, Source] = {}

    # -- to be implemented ------------------------------------------------------------------------------------------

    def source(self, split: Split) -> Source:
        """The samples of one split. Called after :meth:`prepare_data`; raises DataError if the root is not whole."""
        raise NotImplementedError

    @classmethod
    def write_demo(cls, root: Path, samples: int) -> None:
        """Write generated data in the data set's layout; test samples come from other seeds than training ones."""
        raise NotImplementedError

    @classmethod
    def check(cls, root: Path) -> Iterable[str]:
        """Walk a copy of the data set and yield one line per file that is missing or broken."""
        raise NotImplementedError

    def sampling_weights(self, epoch: int) -> Tensor | None:
        """How likely each training sample is drawn, with replacement, float64 [N]; `None`: each comes once an epoch."""
        return None

    # -- shared -----------------------------------------------------------------------------------------------------

    def num_samples(self, split: Split) -> int:
        """Samples of one split, over all ranks."""
        return len(self._source(split))

    def _source(self, split: Split) -> Source:
        """Made once: passes over the data ask for it again and again."""
        if split not in self._sources:
            if split not in self.split_names:
                raise RecipeError(f"{type(self).__name__} has no split {split}; it has {', '.join(self.split_names)}.")
            self._sources[split] = self.source(split)
        return self._sources[split]

    def prepare_data(self) -> None:
        self._check_task()
        if self.demo:
            make_demo(type(self), self.root, self.demo)
        elif not self.root.is_dir():
            download = "have it downloaded with --data.download=true, " if self.downloadable else ""
            raise DataError(
                f"{type(self).__name__}: the folder {self.root} does not exist. Name the data set's folder with "
                f"--data.root or ZOO_DATA, {download}or try generated data with --data.demo=200."
            )

    def setup(self, stage: str) -> None:
        self._check_task()

    @property
    def model(self) -> L.LightningModule | None:
        """What the batches are for, once a trainer has put both together."""
        return self.trainer.lightning_module if self.trainer is not None else None

    def _check_task(self) -> None:
        wanted = getattr(self.model, "task", self.task)
        if wanted != self.task:
            raise RecipeError(
                f"{type(self.model).__name__} takes batches of the task {wanted}; {type(self).__name__} gives "
                f"{self.task}. Pair a model with a data module of its task (`zoo list`, `zoo data list`)."
            )

    def train_dataloader(self) -> Loader:
        return self.loader("train", shuffle=True, augment=True, replace=True)

    def val_dataloader(self) -> Loader:
        return self.loader("val")

    def test_dataloader(self) -> Loader:
        return self.loader("test")

    def predict_dataloader(self) -> Loader:
        return self.loader("predict")

    def pass_loader(
        self, split: Split = "train", augment: bool = False, epoch: int = 0, batch_size: int | None = None
    ) -> Loader:
        """A look at a whole split between training steps: ordered, unpadded, sharded over ranks.

        Args:
            split: which split.
            augment: whether samples are augmented, by the rule of (seed, `epoch`, index).
            batch_size: `None`: the recipe's.
        """
        loader = self.loader(split, augment=augment, replace=True, batch_size=batch_size)
        loader.sampler.set_epoch(epoch)
        return loader

    def meta_loader(self, split: Split, batch_size: int, epoch: int = 0) -> Loader:
        """A split to learn from between training steps: shuffled and augmented by the rule of (seed, `epoch`, index),
        whole on every rank."""
        seed = global_seed()
        dataset = KeyedDataset(self._source(split), True, self.on_bad_file, seed)
        order = BatchOrder(len(dataset), batch_size, True, seed, rank=0, world=1)
        order.set_epoch(epoch)
        note = partial(self._note_bad, what="Another sample takes its place.")
        return Loader(dataset, order, self.num_workers, on_replaced=note)

    def usual_batch_size(self, split: Split, augment: bool) -> int:
        """Samples per batch where nothing else is asked for: the recipe's number."""
        return self.batch_size

    def loader(
        self,
        split: Split,
        shuffle: bool = False,
        augment: bool = False,
        replace: bool = False,
        batch_size: int | None = None,
    ) -> Loader:
        """A loader of one split.

        Args:
            replace: whether another sample takes the place of one that cannot be read; else it is left out.
            batch_size: `None`: :meth:`usual_batch_size`.
        """
        seed = global_seed()
        dataset = KeyedDataset(self._source(split), augment, self.on_bad_file, seed, replace)
        if 0 < len(dataset) < world_size():  # on all ranks alike: one that raised alone would leave the others waiting
            raise DataError(
                f"{type(self).__name__}: the split {split} has {len(dataset)} samples for {world_size()} processes; "
                "each needs at least one."
            )
        size, world = batch_size or self.usual_batch_size(split, augment), world_size()
        order = BatchOrder(len(dataset), size, shuffle, seed, rank(), world, self.sampling_weights)
        note = partial(self._note_bad, what="Another sample takes its place." if replace else "It is left out.")
        return Loader(dataset, order, self.num_workers, self._position if shuffle else None, note)

    def _position(self) -> tuple[int, int]:
        """(epoch, batches done in it) of the running training, as the trainer's own counters say."""
        loop = self.trainer.fit_loop
        epochs_done, epochs_begun = loop.epoch_progress.current.processed, loop.epoch_progress.current.ready
        if epochs_done == epochs_begun:  # between two epochs
            return epochs_done, 0
        return epochs_done, loop.epoch_loop.batch_progress.current.ready

    def _note_bad(self, problems: list[str], what: str) -> None:
        for problem in problems:
            if problem not in self.replaced:
                # Each rank for itself: they read different files.
                warnings.warn(f"{problem} {what}", stacklevel=2)
            self.replaced[problem] += 1

    def teardown(self, stage: str) -> None:
        if self.replaced:
            where = f"rank {rank()}: " if world_size() > 1 else ""
            log.info(
                f"{where}{self.replaced.total()} times a sample was replaced or left out because its file could not be "
                f"read ({len(self.replaced)} different files)."
            )


def make_demo(datamodule: type[ZooDataModule], root: Path, samples: int) -> bool:
    """Write a demo data set, whole or not at all; nothing if `root` already holds just this one.

    Returns:
        Whether anything was written.

    Raises:
        DataError: if `root` holds anything else.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with lock(root.parent):  # two trainings that begin together
        return _make_demo(datamodule, root, samples)


def _make_demo(datamodule: type[ZooDataModule], root: Path, samples: int) -> bool:
    wanted = json.dumps({"data_module": datamodule.name, "samples": samples})
    record = root / DEMO_RECORD
    if record.is_file():
        if record.read_text() == wanted:
            return False
        raise DataError(f"{root} holds another demo ({record.read_text().strip()}). Delete it or name another root.")
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise DataError(f"{root} is not empty and holds no demo data. Name another folder for the demo.")
    unfinished = root.with_name(f"{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    datamodule.write_demo(unfinished, samples)
    (unfinished / DEMO_RECORD).write_text(wanted)
    if root.exists():
        root.rmdir()
    unfinished.rename(root)
    return True
