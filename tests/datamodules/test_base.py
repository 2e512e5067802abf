"""What every data module shares: where data lie, demo data whole or not at all, loaders, clear errors."""

import json
import logging
import multiprocessing
import os
import pickle
import re
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch

from datamodules import base
from datamodules.base import DEMO_RECORD, ZooDataModule, make_demo
from tests.toy.data import ToyData, ToySource
from tests.toy.method import Toy
from zoo.core.errors import DataError, RecipeError


@pytest.fixture
def data(tmp_path):
    made = ToyData(root=tmp_path / "toy", batch_size=5, demo=12)
    made.prepare_data()
    return made


def content(loader) -> list[tuple[list[int], list[list[float]]]]:
    return [(batch["index"].tolist(), batch["modalities"]["left"].tolist()) for batch in loader]


def break_files(data: ToyData, *indices: int) -> None:
    path = data.root / "train.npz"
    with np.load(path) as arrays:
        changed = {name: arrays[name].copy() for name in arrays.files}
    changed["left"][list(indices), 0] = np.nan
    np.savez(path, **changed)


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 0}, "data.batch_size is 0; it must be at least 1."),
        ({"batch_size": -3}, "data.batch_size is -3; it must be at least 1."),
        ({"demo": 0}, "data.demo is 0; it must be at least 1, or absent for real data."),
        ({"num_workers": -1}, "data.num_workers is -1; it must be at least 0."),
        ({"on_bad_file": "skipp"}, "'skipp' is not a known value of data.on_bad_file. Did you mean skip?"),
    ],
)
def test_arguments_are_checked_before_anything_is_read(arguments, said):
    with pytest.raises(RecipeError) as caught:
        ToyData(**arguments)
    assert str(caught.value) == said


def test_the_root_is_the_given_one_or_below_the_folder_of_all_data_sets(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("ZOO_DATA", raising=False)
    assert ToyData(root="~/sets/toy").root == Path("/home/someone/sets/toy")
    assert ToyData().root == Path("data/toydata")
    assert ToyData(demo=7).root == Path("data/demo/toydata-7")
    monkeypatch.setenv("ZOO_DATA", "/sets")
    assert ToyData().root == Path("/sets/toydata")
    assert ToyData(demo=7).root == Path("/sets/demo/toydata-7")
    assert ToyData(root="elsewhere", demo=7).root == Path("elsewhere")


def test_a_missing_root_says_how_to_name_it(tmp_path):
    with pytest.raises(DataError) as caught:
        ToyData(root=tmp_path / "none").prepare_data()
    said = str(caught.value)
    assert said.startswith(f"ToyData: the folder {tmp_path / 'none'} does not exist.")
    assert "--data.root" in said
    assert "ZOO_DATA" in said
    assert "--data.demo=200" in said


class OtherTask(ToyData):
    task = "other"
    asked = False

    def prepare_data(self):
        super().prepare_data()
        type(self).asked = True

    def source(self, split):
        raise AssertionError("data were read")


def test_a_model_of_another_task_is_refused_before_any_data_are_read(tmp_path):
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(RecipeError) as caught:
        trainer.fit(Toy(), OtherTask(root=tmp_path / "none", demo=5))
    assert str(caught.value).startswith("Toy takes batches of the task toy; OtherTask gives other.")
    assert not OtherTask.asked
    assert not (tmp_path / "none").exists()


# -- demo data --------------------------------------------------------------------------------------------------------


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_demo_data_are_written_once_with_a_record(tmp_path):
    root = tmp_path / "some" / "where"
    assert make_demo(ToyData, root, 7) is True
    assert json.loads((root / DEMO_RECORD).read_text()) == {"data_module": "toydata", "samples": 7}
    assert len(ToySource(root / "train.npz")) == 7
    before = files(root)
    assert make_demo(ToyData, root, 7) is False
    assert files(root) == before
    assert os.listdir(root.parent) == ["where"]


def test_an_empty_folder_may_become_the_demos_root(tmp_path):
    (tmp_path / "empty").mkdir()
    assert make_demo(ToyData, tmp_path / "empty", 7)


class Slow(ToyData):
    @classmethod
    def write_demo(cls, root, samples):
        super().write_demo(root, samples)
        time.sleep(0.05)


def test_of_two_that_begin_together_one_writes(tmp_path):
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(lambda _: make_demo(Slow, tmp_path / "demo", 7), range(2))) == [False, True]
    assert os.listdir(tmp_path) == ["demo"]


class Killed(ToyData):
    @classmethod
    def write_demo(cls, root, samples):
        (root / "half.npz").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_writer_killed_half_way_leaves_no_data_set_and_is_started_again(tmp_path):
    root = tmp_path / "demo"
    child = os.fork()
    if child == 0:
        make_demo(Killed, root, 7)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not root.exists()
    assert make_demo(ToyData, root, 7)
    assert "half.npz" not in files(root)
    assert os.listdir(tmp_path) == ["demo"]


@pytest.mark.parametrize("content_", [{"mine.txt": b"precious"}, {"toy/train.npz": b"precious"}])
def test_a_folder_with_anything_else_is_left_alone(tmp_path, content_):
    for name, text in content_.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(text)
    with pytest.raises(DataError, match="is not empty and holds no demo data"):
        make_demo(ToyData, tmp_path / "mine", 7)
    assert files(tmp_path / "mine") == content_


def test_a_file_in_the_roots_place_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(DataError, match="holds no demo data"):
        make_demo(ToyData, tmp_path / "file", 7)
    assert (tmp_path / "file").read_text() == "precious"


class OtherDemo(ToyData):
    name = "otherdemo"


@pytest.mark.parametrize(("cls", "samples"), [(ToyData, 8), (OtherDemo, 7)])
def test_another_demo_is_left_alone(tmp_path, cls, samples):
    root = tmp_path / "demo"
    make_demo(ToyData, root, 7)
    before = files(root)
    with pytest.raises(DataError, match=r"holds another demo \(.*toydata.*7.*\)\. Delete it or name another root\."):
        make_demo(cls, root, samples)
    assert files(root) == before


def test_a_record_that_is_no_json_is_another_demo(tmp_path):
    make_demo(ToyData, tmp_path / "demo", 7)
    (tmp_path / "demo" / DEMO_RECORD).write_text("{")
    with pytest.raises(DataError, match="holds another demo"):
        make_demo(ToyData, tmp_path / "demo", 7)


# -- loaders ----------------------------------------------------------------------------------------------------------


def test_training_is_shuffled_and_augmented_evaluation_is_neither(data):
    train = content(data.train_dataloader())
    assert [len(indices) for indices, _ in train] == [5, 5, 2]
    plain = {i: x for indices, rows in content(data.pass_loader("train")) for i, x in zip(indices, rows, strict=True)}
    assert [i for indices, _ in train for i in indices] != list(range(12))
    assert all(x != plain[i] for indices, rows in train for i, x in zip(indices, rows, strict=True))
    for made, n in ((data.val_dataloader(), 13), (data.test_dataloader(), 17), (data.predict_dataloader(), 3)):
        found = content(made)
        assert [i for indices, _ in found for i in indices] == list(range(n))
        assert found == content(made)


def test_a_pass_sees_the_whole_split_in_order(data):
    assert [indices for indices, _ in content(data.pass_loader("train"))] == [
        list(range(5)),
        list(range(5, 10)),
        [10, 11],
    ]


def test_a_pass_augments_as_training_does_in_that_epoch(data):
    train = data.train_dataloader()
    train.sampler.set_epoch(3)
    expected = {i: x for indices, rows in content(train) for i, x in zip(indices, rows, strict=True)}
    found = content(data.pass_loader("train", augment=True, epoch=3))
    assert {i: x for indices, rows in found for i, x in zip(indices, rows, strict=True)} == expected
    assert found != content(data.pass_loader("train", augment=True, epoch=2))


def test_orders_follow_the_runs_seed(data, monkeypatch):
    def order(seed):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        return [indices for indices, _ in content(data.train_dataloader())]

    assert order("3") == order("3") != order("4")


def test_a_split_is_read_once_however_often_it_is_looked_at(data, monkeypatch):
    asked = []
    monkeypatch.setattr(
        ToyData, "source", lambda self, split: asked.append(split) or ToySource(self.root / f"{split}.npz")
    )
    data.num_samples("train")
    for _ in range(3):
        list(data.pass_loader("train"))
    list(data.val_dataloader())
    assert asked == ["train", "val"]


def test_a_split_with_fewer_samples_than_processes_is_refused_on_every_rank(data, monkeypatch):
    monkeypatch.setattr(base, "world_size", lambda: 4)
    for rank in range(4):
        monkeypatch.setattr(base, "rank", lambda rank=rank: rank)
        with pytest.raises(DataError, match="ToyData: the split predict has 3 samples for 4 processes"):
            data.predict_dataloader()
    monkeypatch.setattr(base, "world_size", lambda: 3)
    monkeypatch.setattr(base, "rank", lambda: 2)
    assert len(data.predict_dataloader()) == 1


def test_data_modules_travel_to_other_processes(data):
    list(data.val_dataloader())
    copy = pickle.loads(pickle.dumps(data))
    assert content(copy.val_dataloader()) == content(data.val_dataloader())


# -- bad files --------------------------------------------------------------------------------------------------------


def fitted(data: ToyData, workers: int = 0) -> str | None:
    """The message of the DataError that ended a short training, if one did."""
    before = multiprocessing.active_children()
    data.num_workers = workers
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False,
    )  # fmt: skip
    try:
        trainer.fit(Toy(), data)
        said = None
    except DataError as error:
        said = str(error)
    assert multiprocessing.active_children() == before, "reading workers are left"
    return said


def test_workers_end_with_the_training(data):
    assert fitted(data, workers=2) is None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_stops_training_with_its_name(data, workers):
    break_files(data, 4)
    assert fitted(data, workers) == "sample 4 is broken."


def test_skipped_files_are_named_once_each_and_counted(data, caplog):
    break_files(data, 4, 7)
    data.on_bad_file = "skip"
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.INFO, "lightning.pytorch"):
        warnings.simplefilter("always")
        assert fitted(data) is None
    said = [str(warning.message) for warning in caught if "takes its place" in str(warning.message)]
    assert sorted(said) == [f"sample {i} is broken. Another sample takes its place." for i in (4, 7)]
    total = sum(data.replaced.values())
    assert total >= 4  # two files in two epochs; passes over the data count too
    assert re.search(
        rf"{total} times a sample was .* because its file could not be read \(2 different files\)", caplog.text
    )


def test_the_base_class_leaves_the_rest_to_its_subclasses(tmp_path):
    class Empty(ZooDataModule):
        name, task = "empty", "toy"

    for call in (lambda: Empty().source("train"), lambda: Empty.write_demo(tmp_path, 1), lambda: Empty.check(tmp_path)):
        with pytest.raises(NotImplementedError):
            call()


def test_batches_are_on_the_cpu_with_int64_indices(data):
    batch = next(iter(data.val_dataloader()))
    assert batch["index"].dtype == torch.int64
    assert batch["id"] == [f"sample{i}" for i in range(5)]


def test_a_split_that_a_data_module_does_not_have_is_told(data):
    with pytest.raises(RecipeError) as caught:
        data.pass_loader("meta")
    assert str(caught.value) == "ToyData has no split meta; it has train, val, test, predict."
