"""Animal-10N, Red Mini-ImageNet, Clothing1M and mini-WebVision, and what they share."""

import shutil
from pathlib import Path

import pytest
import torch

from datamodules.animal10n import Animal10N
from datamodules.base import DEMO_RECORD, make_demo
from datamodules.batch import check_batch
from datamodules.clothing1m import Clothing1M
from datamodules.image_list import ImageList, missing_files, read_labels, safe_name
from datamodules.red_mini_imagenet import RedMiniImageNet
from datamodules.webvision import WebVision
from zoo.core.errors import DataError, RecipeError, UnknownNameError

pytest.importorskip("sklearn")

SIZES = {Animal10N: 64, RedMiniImageNet: 32, Clothing1M: 224, WebVision: 299}
MODULES = list(SIZES)
# A list of training images, and where the first of them lies.
TRAIN = {
    RedMiniImageNet: "mini-imagenet/split/red_noise_nl_0.2",
    Clothing1M: "noisy_train_key_list.txt",
    WebVision: "info/train_filelist_google.txt",
}
SAMPLES = 60


@pytest.fixture(scope="session")
def demos(tmp_path_factory) -> dict[type, Path]:
    root = tmp_path_factory.mktemp("demos")
    for module in MODULES:
        make_demo(module, root / module.name, SAMPLES)
    return {module: root / module.name for module in MODULES}


@pytest.fixture(autouse=True)
def seed(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")


@pytest.fixture
def copy(demos, tmp_path):
    """Makes a demo to break."""
    return lambda module: shutil.copytree(demos[module], tmp_path / module.name)


def replace_line(path: Path, number: int, line: str) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")


# -- batches and splits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("split", ["train", "test", "predict"])
def test_batches_keep_the_contract(demos, module, split):
    data = module(root=demos[module], batch_size=4)
    batch = next(iter(data.loader(split, augment=split == "train")))
    check_batch(batch, data.task)
    assert batch["image"].shape == (4, 3, SIZES[module], SIZES[module])
    assert batch["label"].max() < data.num_classes


@pytest.mark.parametrize("module", MODULES)
def test_augmentation_is_a_rule_of_seed_epoch_and_index(demos, module):
    data = module(root=demos[module], batch_size=4)
    one, two, other = (next(iter(data.pass_loader("train", True, epoch)))["image"] for epoch in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("module", [Animal10N, RedMiniImageNet, WebVision])
def test_a_share_of_the_given_labels_is_held_out(demos, module):
    ids = {}
    for validation in (0.0, 0.25, "test"):
        data = module(root=demos[module], validation=validation)
        ids[validation] = {split: [*data.source(split).images.names] for split in ("train", "val", "test")}
    assert len(ids[0.25]["val"]) == round(0.25 * len(ids[0.0]["train"]))
    assert sorted(ids[0.25]["train"] + ids[0.25]["val"]) == sorted(ids[0.0]["train"]) == sorted(ids["test"]["train"])
    assert ids["test"]["val"] == ids["test"]["test"]
    assert module(root=demos[module]).val_dataloader() == []
    with pytest.raises(RecipeError, match="share below 1, or test"):
        module(root="x", validation=2)


def test_clothing1m_has_its_own_validation(demos):
    data = Clothing1M(root=demos[Clothing1M])
    assert [data.num_samples(split) for split in ("train", "val", "test")] == [42, 6, 12]
    assert len(list(data.val_dataloader())) == 1


def test_clothing1m_is_read_without_its_folder_of_images_too(demos, copy):
    root = copy(Clothing1M)
    for folder in (root / "images").iterdir():
        folder.rename(root / folder.name)
    (root / "images").rmdir()
    for path in root.glob("*.txt"):
        path.write_text(path.read_text().replace("images/", ""))
    there, here = (Clothing1M(root=place).source("train") for place in (demos[Clothing1M], root))
    assert there.images.names == here.images.names
    assert torch.equal(there.load(5, None)["image"], here.load(5, None)["image"])
    assert list(Clothing1M.check(root)) == []


def test_animal10n_is_read_flat_and_in_folders(demos, copy):
    root = copy(Animal10N)
    for part in ("training", "testing"):
        for number in range(10):
            (root / part / str(number)).mkdir()
        for path in (root / part).glob("*.jpg"):
            path.rename(path.parent / path.name[0] / path.name)
    flat, foldered = (Animal10N(root=place).source("train") for place in (demos[Animal10N], root))
    assert [name.split("/")[1] for name in foldered.images.names] == list(flat.images.names)
    assert torch.equal(flat.images.labels, foldered.images.labels)
    assert list(Animal10N.check(root)) == []


def test_red_mini_imagenet_has_a_list_for_each_rate(demos):
    clean, noisy = (RedMiniImageNet(root=demos[RedMiniImageNet], noise_rate=r).source("train") for r in (0, 0.8))
    wrong = (clean.images.labels != noisy.images.labels).double().mean()
    assert 0.7 < wrong < 0.85
    with pytest.raises(RecipeError, match=r"noise_rate is 0.25; published are 0.0, 0.05"):
        RedMiniImageNet(root="x", noise_rate=0.25)


def test_a_rate_that_a_copy_lacks_is_named(copy):
    root = copy(RedMiniImageNet)
    (root / "mini-imagenet/split/red_noise_nl_0.8").unlink()
    assert list(RedMiniImageNet.check(root)) == []
    with pytest.raises(DataError, match=r"red_noise_nl_0.8 cannot be read"):
        RedMiniImageNet(root=root, noise_rate=0.8).source("train")


def test_webvision_leaves_later_classes_out_and_tests_on_imagenet_too(demos, copy):
    root = copy(WebVision)
    with (root / TRAIN[WebVision]).open("a") as file:
        file.write("google/q0999/000001.jpg 999\n")
    assert WebVision(root=root).num_samples("train") == 42
    own, imagenet = (WebVision(root=root, test_set=name).source("test") for name in ("webvision", "imagenet"))
    assert imagenet.images.names[0].startswith("0/")
    assert sorted(own.images.labels) == sorted(imagenet.images.labels)
    with pytest.raises(UnknownNameError, match="Did you mean imagenet"):
        WebVision(root="x", test_set="imagnet")


# -- broken copies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_check_finds_nothing_in_a_demo(demos, module):
    assert list(module.check(demos[module])) == []


@pytest.mark.parametrize("module", MODULES)
def test_an_empty_folder_is_no_data_set(tmp_path, module):
    assert list(module.check(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path)):
        module(root=tmp_path).source("train")


@pytest.mark.parametrize("module", TRAIN)
def test_a_listed_file_that_is_missing_is_named(copy, module):
    root = copy(module)
    images = module(root=root).source("train").images
    (images.folder / images.names[3]).unlink()
    with pytest.raises(DataError, match=rf"of 42 files of .*, 1 are missing under .*first: {images.names[3]}"):
        module(root=root).source("train")
    assert list(module.check(root)) == [f"{images.folder / images.names[3]} is missing."]


@pytest.mark.parametrize("module", MODULES)
def test_a_broken_image_is_found_by_check_and_stops_or_is_replaced(copy, module):
    root = copy(module)
    images = module(root=root).source("test").images
    broken = images.folder / images.names[0]
    broken.write_bytes(broken.read_bytes()[:200])
    (line,) = module.check(root)
    assert line.startswith(f"{broken} cannot be read")
    with pytest.raises(DataError, match="cannot be read"):
        next(iter(module(root=root, batch_size=4).test_dataloader()))
    with pytest.warns(UserWarning, match="It is left out"):
        batch = next(iter(module(root=root, batch_size=4, on_bad_file="skip").test_dataloader()))
    assert batch["index"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("module", TRAIN)
@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/passwd", "a/../../b.jpg", "a\\..\\b.jpg"])
def test_a_list_may_not_leave_its_folder(copy, module, name):
    root = copy(module)
    replace_line(root / TRAIN[module], 2, f"{name} 0" if module is not Clothing1M else name)
    with pytest.raises(DataError, match=r"line 2: .*is no relative path"):
        module(root=root).source("train")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.jpg", "line 3: 'a.jpg' is not '<file> <class>'"),
        ("a.jpg -1", "line 3: 'a.jpg -1' is not '<file> <class>'"),
        ("a.jpg 1.0", "is not '<file> <class>'"),
        ("a.jpg 99999999999999999999", "is not '<file> <class>'"),
        ("a.jpg 10", "line 3: the class is 10; there are 0 to 9"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, line, said):
    (tmp_path / "list.txt").write_text(f"b.jpg 1\n\n{line}\n")
    with pytest.raises(DataError, match=said):
        list(read_labels(tmp_path / "list.txt", 10))


def test_a_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a.jpg 1\n\xff\xfe")
    with pytest.raises(DataError, match="no UTF-8 text"):
        list(read_labels(tmp_path / "list.txt", 10))


def test_a_zero_byte_is_no_name():
    with pytest.raises(DataError, match="no relative path"):
        safe_name("a\0.jpg", "list.txt, line 1")


def test_a_key_without_label_is_named(copy):
    root = copy(Clothing1M)
    replace_line(root / "noisy_train_key_list.txt", 4, "images/0/unlabelled.jpg")
    with pytest.raises(DataError, match=r"line 4: 'images/0/unlabelled.jpg' has no label in .*noisy_label_kv"):
        Clothing1M(root=root).source("train")


@pytest.mark.parametrize("module", MODULES)
def test_a_class_without_images_is_an_error_in_real_data(copy, module):
    root = copy(module)
    (root / DEMO_RECORD).unlink()
    for path in (root / "training").glob("7_*.jpg"):
        path.unlink()
    for path in root.glob("noisy_label_kv.txt"):
        path.write_text(path.read_text().replace(" 7\n", " 8\n"))
    with pytest.raises(DataError, match=r"has no images of class .*7"):
        module(root=root).source("train")


def test_animal10n_counts_its_images(copy):
    root = copy(Animal10N)
    (root / DEMO_RECORD).unlink()
    with pytest.raises(DataError, match="has 42 images; 50,000 belong there"):
        Animal10N(root=root).source("train")


@pytest.mark.parametrize(
    ("name", "said"), [("cat_1.jpg", "does not begin with a class"), ("12.jpg", "does not begin with a class")]
)
def test_an_animal_of_no_class_is_named(copy, name, said):
    root = copy(Animal10N)
    (root / "training" / name).touch()
    with pytest.raises(DataError, match=f"{name}: the name {said}"):
        Animal10N(root=root).source("train")


def test_a_folder_of_no_class_is_named(copy):
    root = copy(Animal10N)
    (root / "training" / "cat").mkdir()
    with pytest.raises(DataError, match="cat is no folder of a class; these are 0, 1"):
        Animal10N(root=root).source("train")


def test_many_files_are_looked_for_folder_by_folder(tmp_path):
    names = [f"{number % 3}/{number}.jpg" for number in range(9)]
    for name in names[:7]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images = ImageList(tmp_path, [*names, "absent/1.jpg"], torch.zeros(10), tmp_path)
    assert missing_files(images) == [*names[7:], "absent/1.jpg"]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("samples", [19, 1001])
def test_a_demo_too_small_or_too_large_is_refused(tmp_path, module, samples):
    with pytest.raises(RecipeError, match="from 20 to 1,000 samples"):
        make_demo(module, tmp_path / "demo", samples)
