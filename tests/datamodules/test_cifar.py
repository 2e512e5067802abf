import os
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datamodules import cifar_files
from datamodules.base import DEMO_RECORD, make_demo
from datamodules.batch import check_batch
from datamodules.cifar import CIFAR, KEPT
from datamodules.cifar_files import FAMILIES, read_batch
from zoo.core.errors import DataError, RecipeError, UnknownNameError
from zoo.core.reading import read_pickle

pytest.importorskip("sklearn")

TEN, HUNDRED = FAMILIES["cifar10"], FAMILIES["cifar100"]
KINDS = [("cifar10", name) for name in TEN.human_labels] + [("cifar100", "human")]


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "cifar"
    make_demo(CIFAR, root, 300)
    return root


@pytest.fixture(autouse=True)
def seed(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")


def rewrite(path: Path, **changes) -> None:
    """Change entries of a pickled batch; `None` removes one."""
    content = read_pickle(path) | changes
    path.write_bytes(pickle.dumps({key: value for key, value in content.items() if value is not None}, protocol=2))


def labels_of(data: CIFAR, split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    """True and given labels of a split."""
    samples = [data.source(split).load(index, None) for index in range(data.num_samples(split))]
    return tuple(torch.stack([sample[key] for sample in samples]) for key in ("clean_label", "label"))


# -- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", FAMILIES)
@pytest.mark.parametrize("split", ["train", "val", "test", "predict"])
def test_batches_keep_the_contract(demo, dataset, split):
    data = CIFAR(root=demo, dataset=dataset, validation=0.2, batch_size=16)
    batch = next(iter(data.loader(split, augment=split == "train")))
    check_batch(batch, data.task)
    assert batch["image"].shape == (16, 3, 32, 32)
    assert 0 <= batch["image"].min() <= batch["image"].max() <= 1
    assert batch["label"].max() < data.num_classes == FAMILIES[dataset].num_classes


def test_images_are_planes_of_rows_and_samples_are_counted_through_the_files(demo):
    train = CIFAR(root=demo).source("train")
    first = read_pickle(demo / "cifar-10-batches-py" / "data_batch_1")
    second = read_pickle(demo / "cifar-10-batches-py" / "data_batch_2")
    place = len(first["labels"]) + 3
    sample = train.load(place, None)
    planes = torch.from_numpy(second["data"][3].copy()).view(3, 32, 32)
    assert torch.equal(sample["image"], planes / 255)
    assert sample["label"] == second["labels"][3]
    assert sample["id"] == f"train/{place}"


def test_classes_have_the_names_of_the_file_if_it_is_there(copy):
    assert CIFAR(root=copy).classes[:2] == ("zero", "one")
    assert CIFAR(root=copy, dataset="cifar100").classes[21] == "one on colour 2"
    meta = copy / TEN.folder / "batches.meta"
    meta.write_bytes(pickle.dumps({b"label_names": [b"zero"] * 9}))
    with pytest.raises(DataError, match=r"batches\.meta names 9 classes; there are 10"):
        _ = CIFAR(root=copy).classes
    (line,) = CIFAR.check(copy)
    assert "batches.meta" in line
    meta.unlink()
    assert CIFAR(root=copy).classes is None


def test_augmentation_is_a_rule_of_seed_epoch_and_index(demo):
    data = CIFAR(root=demo, batch_size=8)
    images = [next(iter(data.pass_loader("train", augment=True, epoch=epoch)))["image"] for epoch in (0, 0, 1)]
    plain = next(iter(data.pass_loader("train")))["image"]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert not torch.equal(images[0], plain)


def test_a_folder_without_the_download_is_named(copy):
    shutil.rmtree(copy / HUNDRED.folder)
    with pytest.raises(DataError, match=r"^CIFAR: there is no folder cifar-100-python in .*--data\.root or ZOO_DATA"):
        CIFAR(root=copy, dataset="cifar100").prepare_data()


# -- splits ----------------------------------------------------------------------------------------------------------


def test_validation_is_held_out_of_the_given_labels_and_never_trained_on(demo):
    data = CIFAR(root=demo, noise="human_worse", validation=0.2)
    rows = {split: set(data.source(split).rows) for split in ("train", "val")}
    assert not rows["train"] & rows["val"]
    assert rows["train"] | rows["val"] == set(range(210))
    assert len(rows["val"]) == 42
    clean, given = labels_of(data, "val")
    assert (clean != given).any()


def test_without_validation_all_is_trained_on_and_with_test_it_is_the_test_set(demo):
    assert CIFAR(root=demo).val_dataloader() == []
    assert CIFAR(root=demo).num_samples("train") == 210
    data = CIFAR(root=demo, validation="test")
    assert data.num_samples("train") == 210
    assert [data.source("val").load(row, None)["id"] for row in range(90)] == [f"test/{row}" for row in range(90)]


def test_a_subset_has_so_many_of_each_true_class_and_contains_smaller_ones(demo, monkeypatch):
    few, more = (CIFAR(root=demo, samples_per_class=count, noise="human_worse") for count in (5, 15))
    assert labels_of(few)[0].bincount().tolist() == [5] * 10
    assert set(few.source("train").rows) < set(more.source("train").rows)
    assert few.num_samples("test") == 90
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    other = CIFAR(root=demo, samples_per_class=5, noise="human_worse")
    assert set(few.source("train").rows) != set(other.source("train").rows)


def test_a_subset_larger_than_a_class_is_an_error_in_real_data_and_all_of_a_demo(demo, monkeypatch):
    assert CIFAR(root=demo, samples_per_class=22).num_samples("train") == 210
    monkeypatch.setattr(CIFAR, "_read", lambda self, part: cifar_files.read_part(demo, TEN, part, whole=False))
    monkeypatch.setattr(CIFAR, "_whole", True)
    with pytest.raises(DataError, match=r"samples_per_class is 22, but a class under .* has 21"):
        CIFAR(root=demo, samples_per_class=22).source("train")


# -- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "wrong"), [("symmetric", 0.36), ("asymmetric", 0.2), ("instance", 0.4), ("none", 0)])
def test_drawn_noise_is_wrong_as_often_as_said_and_the_test_stays_clean(copy, noise, wrong):
    data = CIFAR(root=copy, noise=noise, noise_rate=None if noise == "none" else 0.4)
    data.prepare_data()
    clean, given = labels_of(data)
    assert (clean != given).double().mean() == pytest.approx(wrong, abs=0.09)
    assert torch.equal(*labels_of(data, "test"))


def test_drawn_labels_are_kept_and_used_again(copy, monkeypatch):
    data = CIFAR(root=copy, noise="instance", noise_rate=0.4)
    data.prepare_data()
    assert os.listdir(copy / KEPT) == ["cifar10_instance_0.4_seed0.safetensors"]
    monkeypatch.setattr(CIFAR, "_draw", lambda self, seed: pytest.fail("drawn anew"))
    again = CIFAR(root=copy, noise="instance", noise_rate=0.4, noise_seed=0)
    again.prepare_data()
    assert torch.equal(labels_of(again)[1], labels_of(data)[1])


@pytest.mark.parametrize("stage", ["testing", "predicting"])
def test_evaluation_draws_no_labels(copy, stage):
    data = CIFAR(root=copy, noise="instance", noise_rate=0.4)
    data.trainer = SimpleNamespace(**{"testing": False, "predicting": False, "lightning_module": None} | {stage: True})
    data.prepare_data()
    data.source("test")
    assert not (copy / KEPT).exists()


def test_labels_follow_the_runs_seed_if_none_is_named(copy, monkeypatch):
    first = labels_of(CIFAR(root=copy, noise="symmetric", noise_rate=0.4))[1]
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert not torch.equal(first, labels_of(CIFAR(root=copy, noise="symmetric", noise_rate=0.4))[1])
    assert torch.equal(first, labels_of(CIFAR(root=copy, noise="symmetric", noise_rate=0.4, noise_seed=0))[1])


def test_labels_drawn_for_other_images_are_refused(copy):
    CIFAR(root=copy, noise="instance", noise_rate=0.4).prepare_data()
    batch = copy / "cifar-10-batches-py" / "data_batch_1"
    rewrite(batch, data=255 - read_pickle(batch)["data"])
    with pytest.raises(DataError, match="drawn for other images or true labels"):
        CIFAR(root=copy, noise="instance", noise_rate=0.4).prepare_data()


@pytest.mark.parametrize(("dataset", "noise"), KINDS)
def test_human_labels_are_read(demo, dataset, noise):
    clean, given = labels_of(CIFAR(root=demo, dataset=dataset, noise=noise))
    assert 0.02 < (clean != given).double().mean() < 0.55


def test_human_labels_in_another_order_are_refused(copy):
    content = read_pickle(copy / TEN.human_file)
    torch.save({key: value[::-1].copy() for key, value in content.items()}, copy / TEN.human_file)
    with pytest.raises(DataError, match=r"CIFAR-10_human\.pt: its true labels differ .* another order"):
        CIFAR(root=copy, noise="human_worse").source("train")


# -- checkpoints -----------------------------------------------------------------------------------------------------


def test_a_checkpoint_goes_on_with_its_own_labels_alone(copy):
    data = CIFAR(root=copy, noise="instance", noise_rate=0.4)
    data.source("train")
    assert data.state_dict() == {}  # only what a run has asked for
    data.num_samples("train")
    state = data.state_dict()
    same = CIFAR(root=copy, noise="instance", noise_rate=0.4)
    same.load_state_dict(state)
    same.source("train")
    for other in ({"noise_seed": 5}, {"noise_seed": 0, "validation": 0.1}, {"samples_per_class": 3}):
        changed = CIFAR(root=copy, noise="instance", noise_rate=0.4, **other)
        changed.load_state_dict(state)
        with pytest.raises(DataError, match="trained on other samples or other labels"):
            changed.source("train")
        changed.source("test")  # which the labels have nothing to do with


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"dataset": "cifar20"}, UnknownNameError, "Did you mean cifar10"),
        ({"noise": "symetric", "noise_rate": 0.2}, UnknownNameError, "Did you mean symmetric or asymmetric"),
        ({"dataset": "cifar100", "noise": "asymmetric", "noise_rate": 0.2}, UnknownNameError, "for cifar100"),
        ({"noise": "instance"}, RecipeError, "needs a data.noise_rate"),
        ({"noise": "human_worse", "noise_rate": 0.4}, RecipeError, "human_worse has no rate"),
        ({"noise": "instance", "noise_rate": 1.2}, RecipeError, "from 0 to 1"),
        ({"noise": "instance", "noise_rate": 0.2, "noise_seed": -1}, RecipeError, "noise_seed is -1"),
        ({"validation": 1.0}, RecipeError, "share below 1, or test"),
        ({"validation": "tset"}, RecipeError, "share below 1, or test"),
        ({"samples_per_class": 0}, RecipeError, "at least 1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        CIFAR(root="x", **arguments)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": list(range(5))}, "test_batch: the labels should be 90, and there are 5"),
        ({"labels": [0] * 89 + [10]}, "should be 0 to 9; that of sample 89 is 10"),
        ({"labels": [0] * 89 + [-1]}, "should be 0 to 9; that of sample 89 is -1"),
        ({"labels": [0.5] * 90}, "'labels' is no list of whole numbers"),
        ({"labels": [0] * 89 + [2**70]}, "'labels' is no list of whole numbers"),
        ({"labels": None, "fine_labels": [0] * 90}, "has no entry 'labels'. Did you mean fine_labels"),
        ({"data": np.zeros((90, 3071), np.uint8)}, r"'data' is not uint8 \[N, 3072\]"),
        ({"data": np.zeros((90, 3072), np.float32)}, r"'data' is not uint8 \[N, 3072\]"),
        ({"data": None}, r"'data' is not uint8 \[N, 3072\]"),
    ],
)
def test_a_batch_of_another_kind_is_refused_and_found_by_check(copy, changes, said):
    rewrite(copy / "cifar-10-batches-py" / "test_batch", **changes)
    with pytest.raises(DataError, match=said):
        CIFAR(root=copy).source("test")
    (line,) = CIFAR.check(copy)
    assert str(copy / "cifar-10-batches-py" / "test_batch") in line


class Runs:
    def __reduce__(self):
        return os.system, ("touch /tmp/was-run-by-test-cifar",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda b: b[: len(b) // 2], "broken"),
        (lambda b: pickle.dumps({"data": Runs()}), "names code to run on loading"),
        (lambda b: pickle.dumps([1, 2]), "holds a list where a dictionary belongs"),
        (lambda b: b"", "is empty"),
    ],
)
def test_a_broken_or_hostile_file_is_refused(copy, content, said):
    path = copy / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(DataError, match=f"data_batch_3.*{said}"):
        CIFAR(root=copy).source("train")
    assert any(str(path) in line for line in CIFAR.check(copy))
    assert not Path("/tmp/was-run-by-test-cifar").exists()


def test_a_missing_file_is_named(copy):
    (copy / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 does not exist"):
        CIFAR(root=copy).source("train")


def test_a_real_batch_with_samples_missing_is_refused(copy):
    (copy / DEMO_RECORD).unlink()
    with pytest.raises(DataError, match=r"test_batch has 90 images; 10,000 belong there"):
        CIFAR(root=copy).source("test")


def test_check_finds_nothing_in_a_whole_copy_and_says_when_there_is_none(demo, tmp_path):
    assert list(CIFAR.check(demo)) == []
    (said,) = CIFAR.check(tmp_path)
    assert "holds neither cifar-10-batches-py nor cifar-100-python" in said


# -- demo ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_no_digit_of_the_demo_is_in_two_parts(demo, family):
    images = {}
    for part in ("train", "test"):
        found = cifar_files.read_part(demo, family, part, whole=False).images
        images[part] = {image.tobytes() for image in found}
        assert len(images[part]) == len(found)
    assert not images["train"] & images["test"]


def test_the_demo_is_balanced_and_equal_every_time(demo, tmp_path):
    make_demo(CIFAR, tmp_path / "again", 300)
    for family in FAMILIES.values():
        for name in (*family.train, *family.test):
            file = Path(family.folder) / name
            assert (demo / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    labels = read_batch(demo / TEN.folder / "test_batch", TEN).labels
    assert labels.bincount().tolist() == [9] * 10


@pytest.mark.parametrize("samples", [19, 1701])
def test_a_demo_too_small_or_too_large_is_refused(tmp_path, samples):
    with pytest.raises(RecipeError, match="from 20 to 1,700 samples"):
        make_demo(CIFAR, tmp_path / "demo", samples)
