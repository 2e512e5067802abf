"""CUB, Cars, Dogs and Pets: what the lists say is what batches hold, and bad files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.batch import check_batch
from datamodules.demo.birds import CLASSES, NUM_CLASSES, SHAPES, novel_combination, novel_shape
from datamodules.fine_grained import CUB200, DATA_SETS, FineGrained, OxfordPets, StanfordCars
from zoo.core.errors import DataError, RecipeError
from zoo.core.randomness import numpy_generator

SMALL = {"demo": 48, "image_size": 32, "batch_size": 8}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return tmp_path_factory.mktemp("birds")


def made(cls: type[FineGrained], root: Path, **settings: object) -> FineGrained:
    data = cls(root=root / cls.name, **{**SMALL, **settings})
    data.prepare_data()
    return data


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_layout_gives_batches_of_its_official_splits(roots, name):
    data = made(DATA_SETS[name], roots)
    train, test = (data.source(split).pictures for split in ("train", "test"))
    assert len(train) + len(test) == 48
    assert {picture.label for picture in train} == {picture.label for picture in test} == set(range(NUM_CLASSES))
    assert not {picture.path for picture in train} & {picture.path for picture in test}
    for loader in (data.train_dataloader(), *data.test_dataloader(), data.pass_loader()):
        check_batch(next(iter(loader)), "image_classification")
    assert [*type(data).check(data.root)] == []
    assert len(data.classes) == data.num_classes == NUM_CLASSES


@pytest.fixture
def cub(tmp_path):
    """A copy that a test may spoil."""
    data = made(CUB200, tmp_path)
    return data, data.root / "CUB_200_2011"


def again(data: FineGrained, **settings: object) -> FineGrained:
    return type(data)(root=data.root, **{**SMALL, **settings})


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_validation_is_a_share_of_each_class_or_the_test_split(roots):
    data = made(CUB200, roots, validation=0.5)
    ids = {split: {picture.id for picture in data.source(split).pictures} for split in ("train", "val", "test")}
    assert len(ids["train"]) == len(ids["val"]) == 12
    assert not ids["train"] & ids["val"]
    assert len({picture.label for picture in data.source("val").pictures}) == 12
    assert {picture.id for picture in made(CUB200, roots).source("val").pictures} == ids["test"]
    assert made(CUB200, roots, validation=0).val_dataloader() == []


def test_out_of_distribution_sets_have_no_label_and_names(roots):
    data = made(CUB200, roots)
    assert data.test_names == ("test", "new_combination", "new_shape")
    for loader in data.test_dataloader()[1:]:
        assert (next(iter(loader))["label"] == -1).all()


def test_real_out_of_distribution_sets_are_other_data_sets_whole(roots):
    pets = made(OxfordPets, roots)
    data = CUB200(root=roots / "cub200", demo=None, image_size=32, ood={"oxford_pets": str(pets.root)})
    OxfordPets.published_classes, kept = NUM_CLASSES, OxfordPets.published_classes
    try:
        assert {name: len(found) for name, found in data._unknown.items()} == {"oxford_pets": 48}
    finally:
        OxfordPets.published_classes = kept
    with pytest.raises(RecipeError, match="stanford_cars"):
        CUB200(ood={"cifar": None})


def test_novel_birds_are_no_class():
    for number in range(50):
        rng = numpy_generator("test", number)
        shape, combination = novel_shape(rng), novel_combination(rng)
        assert sum(part == SHAPES for part in shape) == 1
        assert max(combination) < SHAPES
        assert combination not in CLASSES


def test_parts_lie_where_they_were_drawn_also_in_the_box(roots):
    whole, boxed = (made(CUB200, roots, fitting="squash", crop_to_box=crop).source("test") for crop in (False, True))
    first, cut = whole.load(0, None), boxed.load(0, None)
    left, top, width, height = whole.pictures[0].box
    assert first["size"].tolist() == [64, 64]
    assert cut["size"].tolist() == [round(height), round(width)]
    shown = first["parts"][:, 2] > 0
    torch.testing.assert_close(cut["parts"][shown, :2], first["parts"][shown, :2] - torch.tensor([left, top]).floor())
    assert "parts" not in made(CUB200, roots, fitting="crop").source("test").load(0, None)
    assert made(CUB200, roots).part_names[1] == "beak"


def test_grey_and_16_bit_pictures_become_rgb(cub):
    data, _ = cub
    first, second = (picture.path for picture in data.source("test").pictures[:2])
    grey = np.asarray(Image.open(first).convert("L"))
    Image.fromarray(grey).save(first)
    Image.fromarray(grey.astype(np.uint16) * 257).save(second)
    source = again(data, image_size=64, fitting="squash").source("test")
    one, two = (source.load(number, None)["image"] for number in (0, 1))
    assert one.shape == (3, 64, 64)
    assert torch.equal(one, two)
    torch.testing.assert_close(one[0], torch.from_numpy(grey / np.float32(255)))


def test_a_corrupt_picture_is_named_or_skipped(cub):
    data, _ = cub
    path = data.source("train").pictures[3].path
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=path.name):
        [*again(data).pass_loader()]
    with pytest.warns(UserWarning, match=path.name):
        assert sum(len(batch["id"]) for batch in again(data, on_bad_file="skip").pass_loader()) == 24
    (line,) = CUB200.check(data.root)
    assert path.name in line


def test_a_list_that_names_a_missing_file_is_told_before_training(cub):
    data, _ = cub
    path = data.source("train").pictures[3].path
    path.unlink()
    with pytest.raises(DataError, match=f"1 of 48 files are missing .*{path.stem}.*zoo data check cub200"):
        again(data).source("train")


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("images.txt", "1 001.", "1 ../../001.", "no relative path"),
        ("image_class_labels.txt", "1 1\n", "1 77\n", "image 1 is of class 77"),
        ("image_class_labels.txt", "\n2 2\n", "\n", "no entry for 2"),
        ("train_test_split.txt", "\n2 1\n", "\n1 1\n", "line 2: 1 occurs twice"),
        ("bounding_boxes.txt", "1 ", "1 nine ", "should be numbers|fields"),
        ("classes.txt", "9 009.", "9", "fields"),
        ("parts/part_locs.txt", "1 2 ", "1 99 ", "99 is no part"),
    ],
)
def test_a_broken_list_is_told_with_file_and_entry(cub, file, old, new, told):
    data, inner = cub
    replace_in(inner / file, old, new)
    with pytest.raises(DataError, match=told):
        again(data).source("train")
    assert any("txt" in line or "path" in line for line in CUB200.check(data.root))


def test_a_mat_file_that_is_none_is_told(tmp_path):
    data = made(StanfordCars, tmp_path)
    (data.root / "cars_annos.mat").write_bytes(b"MATLAB 5.0 nonsense")
    with pytest.raises(DataError, match=r"cars_annos\.mat cannot be read"):
        again(data).source("train")


def test_own_pictures_are_predicted_without_the_data_set(roots, tmp_path):
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "deep/a.jpg"):
        Image.new("RGB", (50, 40), "red").save(folder / name)
    data = CUB200(root=tmp_path / "nowhere", image_size=32, images=folder)
    source = data.source("predict")
    assert [picture.id for picture in source.pictures] == ["b", "deep/a"]
    sample = source.load(0, None)
    assert "label" not in sample
    assert sample["size"].tolist() == [40, 50]
    with pytest.raises(DataError, match="neither a picture nor a folder"):
        CUB200(images=tmp_path / "none").source("predict")
