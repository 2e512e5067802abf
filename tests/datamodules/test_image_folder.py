import shutil
from pathlib import Path

import pytest
import torch

from datamodules.base import make_demo
from datamodules.batch import check_batch
from datamodules.image_folder import ImageFolder
from datamodules.own_data import DEMO_CLASSES
from zoo.core.errors import DataError, RecipeError

pytest.importorskip("sklearn")


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "images"
    make_demo(ImageFolder, root, 70)
    return root


@pytest.fixture
def listed(copy) -> Path:
    """The same with a list, of half of the images of a split."""
    rows = ["image,label,split"]
    for path in sorted(copy.glob("*/*/*.png"))[::2]:
        part, label, _ = path.relative_to(copy).parts
        rows.append(f"{path.relative_to(copy)},{label},{part}")
    (copy / "samples.csv").write_text("\n".join(rows) + "\n")
    return copy


@pytest.mark.parametrize("split", ["train", "val", "test", "predict"])
def test_batches_keep_the_contract(demo, split):
    data = ImageFolder(root=demo, size=24, batch_size=4)
    batch = next(iter(data.loader(split, augment=split == "train")))
    check_batch(batch, data.task)
    assert batch["image"].shape == (4, 3, 24, 24)


def test_folders_name_parts_and_classes(demo):
    data = ImageFolder(root=demo)
    assert data.classes == DEMO_CLASSES
    assert data.num_classes == 10
    assert [data.num_samples(split) for split in ("train", "val", "test", "predict")] == [42, 7, 21, 21]
    sample = data.source("test").load(0, None)
    assert sample["id"].startswith("test/eight/")
    assert sample["label"] == 0
    assert list(ImageFolder.check(demo)) == []


def test_a_list_goes_before_folders(listed):
    data = ImageFolder(root=listed, size=16)
    assert sum(data.num_samples(split) for split in ("train", "val", "test")) == 35
    assert data.source("train").load(0, None)["id"].startswith("train/")
    assert list(ImageFolder.check(listed)) == []


def test_without_a_split_the_list_is_split(listed):
    path = listed / "samples.csv"
    path.write_text("\n".join(line.rpartition(",")[0] for line in path.read_text().splitlines()))
    data = ImageFolder(csv=path, size=16)
    assert [data.num_samples(split) for split in ("train", "val", "test")] == [21, 4, 10]


def test_a_plain_folder_is_predicted_in_order(demo, tmp_path):
    for number, path in enumerate(sorted((demo / "test").glob("*/*.png"))[:5]):
        shutil.copy(path, tmp_path / f"{9 - number}.png")
    data = ImageFolder(root=tmp_path, size=16, batch_size=8)
    batch = next(iter(data.predict_dataloader()))
    check_batch(batch, data.task, predict=True)
    assert batch["id"] == ["5", "6", "7", "8", "9"]
    assert data.num_classes is None
    with pytest.raises(DataError, match=r"ImageFolder: there is no .*samples\.csv"):
        data.source("train")


def test_augmentation_is_a_rule_of_seed_epoch_and_index(demo):
    data = ImageFolder(root=demo, size=16, batch_size=4)
    one, two, other = (next(iter(data.pass_loader("train", True, epoch)))["image"] for epoch in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_checkpoint_knows_its_classes(demo, copy):
    state = ImageFolder(root=demo).state_dict()
    assert state == {"classes": list(DEMO_CLASSES)}
    for part in ("train", "val", "test"):
        (copy / part / "two").rename(copy / part / "zwei")
    with pytest.raises(DataError, match=r"other classes than the checkpoint .* 'two'"):
        ImageFolder(root=copy).load_state_dict(state)


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_size_that_is_none_is_refused():
    with pytest.raises(RecipeError, match=r"data\.size is 0"):
        ImageFolder(root="x", size=0)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("../secret.png,two,train", "line 2: '../secret.png' is no relative path"),
        ("/etc/passwd,two,train", "line 2: '/etc/passwd' is no relative path"),
        (",two,train", "line 2 has no image"),
        ("train/two/x.png,,train", "line 2 has no label"),
        ("train/two/x.png,two,tarin", "Did you mean train"),
        ("train/two/x.png,two", "has 2 cells, the header has 3"),
    ],
)
def test_a_row_that_is_wrong_is_named(listed, row, said):
    lines = (listed / "samples.csv").read_text().splitlines()
    (listed / "samples.csv").write_text("\n".join([lines[0], row, *lines[2:]]))
    with pytest.raises(DataError, match=said):
        ImageFolder(root=listed).source("train")
    (line,) = ImageFolder.check(listed)
    assert "line 2" in line


def test_a_row_that_names_a_missing_file_is_named(listed):
    missing = ImageFolder(root=listed).source("train").rows[0].image
    missing.unlink()
    with pytest.raises(DataError, match=rf"ImageFolder: 1 of 35 files .*first: {missing.relative_to(listed)}"):
        ImageFolder(root=listed).source("train")
    assert list(ImageFolder.check(listed)) == [f"{missing} is missing."]


def test_a_column_of_sounds_is_not_known_here(listed):
    path = listed / "samples.csv"
    path.write_text(path.read_text().replace("image,label,split", "image,label,audio"))
    with pytest.raises(DataError, match="a column 'audio' that is not known"):
        ImageFolder(root=listed).source("train")


def test_a_class_without_images_is_named(copy):
    shutil.rmtree(copy / "train" / "two")
    with pytest.raises(DataError, match=r"the class 'two' occurs in val, but not in train|in test, but not in train"):
        ImageFolder(root=copy).source("train")
    (copy / "train" / "two").mkdir()
    with pytest.raises(DataError, match=r"train/two has no png or jpg files"):
        ImageFolder(root=copy).source("train")


def test_a_broken_image_is_found_by_check(copy):
    path = next((copy / "train" / "two").iterdir())
    path.write_bytes(path.read_bytes()[:60])
    (line,) = ImageFolder.check(copy)
    assert line.startswith(str(path))
