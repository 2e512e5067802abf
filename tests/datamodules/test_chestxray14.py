"""ChestX-ray14: its files, splits, batches, pairs, and what a broken copy says."""

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.base import make_demo
from datamodules.batch import check_batch
from datamodules.chestxray14 import ChestXray14
from datamodules.chestxray14_files import BOXES, ENTRIES, FINDINGS, LISTS, read_boxes, read_entries, read_findings
from datamodules.demo.chest import SIZE, draw_chest
from zoo.core.errors import DataError, RecipeError, UnknownNameError

pytestmark = pytest.mark.usefixtures("seed")
SAMPLES = 60
TABLE, BOX_TABLE = ENTRIES[0], BOXES


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "chestxray14"
    make_demo(ChestXray14, root, SAMPLES)
    return root


def chests(root: Path, **arguments) -> ChestXray14:
    return ChestXray14(root=root, **({"image_size": 32, "batch_size": 4} | arguments))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def line(path: Path, number: int) -> str:
    return path.read_text().splitlines()[number - 1]


# -- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", ["published", "mild", "mild_turned"])
def test_training_gives_single_pictures_then_pairs(demo, augmentation):
    data = chests(demo, pairs_from_epoch=2, augmentation=augmentation)
    loader = data.train_dataloader()
    for epoch in (0, 2):
        loader.sampler.set_epoch(epoch)
        batch = next(iter(loader))
        check_batch(batch, data.task)
        assert batch["image"].shape == (4, 3, 32, 32)
        assert ("partner" in batch) == ("second_view" in batch) == (epoch == 2)
    assert batch["partner"]["second_view"].shape == (4, 3, 32, 32)
    assert (batch["label"] * batch["partner"]["label"]).sum(dim=1).min() >= 1
    assert not torch.equal(batch["image"], batch["second_view"])
    images = data.source("train").images
    partner = batch["partner"]
    assert partner["id"] == [images.ids[index] for index in partner["index"]]
    assert torch.equal(partner["label"], images.labels[partner["index"]])


@pytest.mark.parametrize("split", ["val", "test", "predict"])
def test_other_splits_have_sizes_and_boxes(demo, split):
    data = chests(demo, pairs_from_epoch=0, validation=0.3)
    for batch in data.loader(split):
        check_batch(batch, data.task)
        assert batch["size"].tolist() == [[128, 128]] * len(batch["id"])
        assert "partner" not in batch
        for label, boxes in zip(batch["label"], batch["boxes"], strict=True):
            own = boxes[boxes[:, 0] >= 0]
            assert sorted(own[:, 0].long().tolist()) == label[:-1].nonzero()[:, 0].tolist()
            assert (own[:, 1:3] >= 0).all()
            assert (own[:, 1:3] + own[:, 3:] <= 128).all()
            assert (boxes[boxes[:, 0] < 0] == -1).all()


@pytest.mark.parametrize("side", [128, 64])
def test_boxes_are_in_pixels_of_the_file(copy, side):
    with (copy / BOX_TABLE).open(newline="") as file:
        name, finding, *numbers = next(row for row in csv.reader(file) if row[0] == line(copy / LISTS["test"], 1))[:6]
    path = copy / "images" / name
    Image.open(path).resize((side, side)).save(path)
    source = chests(copy).source("test")
    sample = source.load(source.images.ids.index(name), None)
    assert sample["size"].tolist() == [side, side]
    expected = [FINDINGS.index(finding), *(float(number) * side / 1024 for number in numbers)]
    assert sample["boxes"][0].tolist() == pytest.approx(expected)


def test_draws_are_a_rule_of_seed_epoch_index_and_place(demo):
    def epoch(number: int, workers: int = 0) -> list:
        data = chests(demo, pairs_from_epoch=0, augmentation="mild", num_workers=workers)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(number)
        return list(loader)

    one, again, other = epoch(0), epoch(0, workers=1), epoch(1)
    for first, second in zip(one, again, strict=True):
        assert torch.equal(first["index"], second["index"])
        assert torch.equal(first["second_view"], second["second_view"])
        assert torch.equal(first["partner"]["image"], second["partner"]["image"])
    assert [batch["index"].tolist() for batch in one] != [batch["index"].tolist() for batch in other]
    drawn = torch.cat([batch["index"] for batch in one])
    index = int(drawn.bincount().argmax())
    repeated = torch.cat([batch["image"] for batch in one])[drawn == index]
    assert len(repeated) > 1
    assert not torch.equal(repeated[0], repeated[1])  # a sample that comes again in an epoch is augmented anew


def test_rare_findings_are_drawn_more_often(demo):
    data = chests(demo, pairs_from_epoch=3)
    labels = data.source("train").images.labels
    before, after = data.sampling_weights(2), data.sampling_weights(3)
    normal = labels[:, -1] == 1
    counts = labels.sum(dim=0)
    assert before[normal].tolist() == pytest.approx([float(2 * counts.sum() / counts[-1])] * int(normal.sum()))
    assert torch.allclose(after[normal], 1.5 * before[normal])
    assert torch.equal(after[~normal], before[~normal])
    assert chests(demo, sampling="uniform").sampling_weights(0) is None
    uniform = torch.cat([batch["index"] for batch in chests(demo, sampling="uniform").train_dataloader()])
    assert sorted(uniform.tolist()) == [*range(42)]


def test_the_weights_of_the_two_rarest_classes_are_the_published_ones(demo, monkeypatch):
    monkeypatch.setattr(ChestXray14, "weight_limits", {"Hernia": 0.5})
    data = chests(demo, pairs_from_epoch=0)
    labels = data.source("train").images.labels
    alone = (labels[:, 13] == 1) & (labels.sum(dim=1) == 1)
    assert alone.any()
    assert data.sampling_weights(0)[alone].tolist() == [0.5] * int(alone.sum())


def test_partners_come_from_all_that_share_a_drawn_label(demo):
    source = chests(demo, pairs_from_epoch=0, augmentation="mild").source("train")
    labels = source.images.labels.numpy()
    index = int(labels.sum(axis=1).argmax())
    rng = np.random.default_rng(0)
    drawn = np.bincount([source._draw_partner(index, rng) for _ in range(3000)], minlength=len(labels)) / 3000
    own = np.flatnonzero(labels[index])
    expected = (labels[:, own] / labels[:, own].sum(axis=0)).mean(axis=1)
    assert drawn == pytest.approx(expected, abs=0.04)
    assert drawn[index] > 0


def test_without_augmentation_a_picture_is_all_of_it(demo):
    batch = next(iter(chests(demo, image_size=128).pass_loader("train")))
    image = Image.open(demo / "images" / batch["id"][0]).convert("L")
    assert torch.equal(batch["image"][0, 0], torch.from_numpy(np.asarray(image) / np.float32(255)))


# -- splits ----------------------------------------------------------------------------------------------------------


def test_patients_are_held_out_whole(demo, monkeypatch):
    data = chests(demo, validation=0.25)
    train, val, test = (data.source(split).images for split in ("train", "val", "test"))
    patients = [{name[:8] for name in images.ids} for images in (train, val, test)]
    assert not patients[0] & patients[1]
    assert not (patients[0] | patients[1]) & patients[2]
    assert len(patients[1]) == round(0.25 * len(patients[0] | patients[1]))
    assert sorted([*train.ids, *val.ids]) == sorted(chests(demo).source("train").images.ids)
    assert chests(demo, validation=0.25).source("val").images.ids == val.ids
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert chests(demo, validation=0.25).source("val").images.ids != val.ids
    assert chests(demo, validation="test").source("val").images.ids == test.ids
    assert chests(demo).val_dataloader() == []


@pytest.mark.parametrize("layout", ["data", "images_001/images", "images_012/images"])
def test_all_trees_are_read(demo, copy, layout):
    (copy / layout).mkdir(parents=True)
    for path in [*(copy / "images").iterdir()][::2]:  # partly: Kaggle's pictures lie in twelve folders
        path.rename(copy / layout / path.name)
    there, here = (chests(root).source("test") for root in (demo, copy))
    assert there.images.ids == here.images.ids
    assert torch.equal(there.load(3, None)["image"], here.load(3, None)["image"])
    assert list(ChestXray14.check(copy)) == []


@pytest.mark.parametrize("name", ["Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv.gz"])
def test_all_spellings_of_the_table_are_read(demo, copy, name):
    content = (copy / TABLE).read_bytes()
    (copy / TABLE).unlink()
    (copy / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert torch.equal(chests(demo).source("train").images.labels, chests(copy).source("train").images.labels)


def test_one_needs_no_boxes(copy):
    (copy / BOX_TABLE).unlink()
    batch = next(iter(chests(copy).test_dataloader()))
    check_batch(batch, ChestXray14.task)
    assert batch["boxes"].shape == (4, 0, 5)
    assert list(ChestXray14.check(copy)) == [f"{copy / BOX_TABLE} is missing: no picture has boxes."]


# -- one's own pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_own_pictures_of_any_depth_are_predicted(tmp_path, mode):
    grey = np.linspace(0, 255, 40 * 20).astype(np.uint8).reshape(20, 40)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(tmp_path / "mine.png")
    for where in (tmp_path, tmp_path / "mine.png"):
        (batch,) = chests(tmp_path / "absent", images=where).predict_dataloader()
        check_batch(batch, ChestXray14.task, predict=True)
        assert batch["id"] == ["mine"]
        assert batch["size"].tolist() == [[20, 40]]
        assert batch["image"][0, 0].mean() == pytest.approx(0.5, abs=0.02)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Cardiomegally|Mass", "'Cardiomegally' is not a known finding. Did you mean Cardiomegaly"),
        ("Infiltrate", "'Infiltrate' is not a known finding. Did you mean Infiltration"),
        ("Mass|", "a finding of 'Mass|' is empty"),
        ("", "a finding of '' is empty"),
        ("No Finding|Mass", "'No Finding|Mass' contradicts itself"),
        ("Mass|Mass", "names a finding twice"),
    ],
)
def test_findings_that_are_none_are_named(copy, text, said):
    with pytest.raises(DataError) as caught:
        read_findings(text)
    assert said in str(caught.value)
    first = line(copy / TABLE, 3).split(",")
    replace(copy / TABLE, ",".join(first), ",".join([first[0], text, *first[2:]]))
    with pytest.raises(DataError) as caught:
        chests(copy).source("train")
    assert str(caught.value).startswith(f"{copy / TABLE}, line 3: ")
    assert said in str(caught.value)
    assert list(ChestXray14.check(copy)) == [str(caught.value)]


def test_a_missing_picture_is_named(copy):
    name = line(copy / LISTS["train"], 5)
    (copy / "images" / name).unlink()
    with pytest.raises(DataError, match=rf"of 42 pictures of .*, 1 are missing under .*\(first: {name}\)"):
        chests(copy).source("train")
    assert list(ChestXray14.check(copy)) == [f"{name} of {copy / LISTS['train']} is missing."]


def test_a_listed_picture_without_an_entry_is_named(copy):
    replace(copy / LISTS["test"], line(copy / LISTS["test"], 2), "00009999_000.png")
    with pytest.raises(DataError, match=r"test_list.txt, line 2: '00009999_000.png' does not stand in .*Data_Entry"):
        chests(copy).source("test")


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "a\\..\\b.png", "a\0.png"])
@pytest.mark.parametrize("file", [TABLE, LISTS["test"]])
def test_names_may_not_leave_the_folder(copy, name, file):
    replace(copy / file, line(copy / file, 2).split(",")[0], name)
    with pytest.raises(DataError, match=r"line 2: .*(no relative path|NUL)"):
        chests(copy).source("test")


def test_a_broken_picture_is_found_by_check_and_stops_or_is_left_out(copy):
    broken = copy / "images" / line(copy / LISTS["test"], 1)
    broken.write_bytes(broken.read_bytes()[:200])
    (said,) = ChestXray14.check(copy)
    assert said.startswith(f"{broken} cannot be read")
    with pytest.raises(DataError, match="cannot be read"):
        next(iter(chests(copy).test_dataloader()))
    with pytest.warns(UserWarning, match="It is left out"):
        batch = next(iter(chests(copy, on_bad_file="skip").test_dataloader()))
    assert batch["index"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["00009999_000.png", "Mass", "1", "1", "2", "2"], "'00009999_000.png' does not stand in"),
        ([None, "Masss", "1", "1", "2", "2"], "'Masss' is not a known finding. Did you mean Mass"),
        ([None, "No Finding", "1", "1", "2", "2"], "'No Finding' is not a known finding"),
        ([None, "Mass", "one", "1", "2", "2"], "the box one, 1, 2, 2 is not four numbers"),
        ([None, "Mass", "1000", "1", "25", "2"], "width 25, height 2 is empty or leaves the picture of 1024×1024"),
        ([None, "Mass", "-1", "1", "25", "2"], "is empty or leaves the picture"),
        ([None, "Mass", "1", "1", "0", "2"], "is empty or leaves the picture"),
        ([None, "Mass", "nan", "1", "2", "2"], "is empty or leaves the picture"),
        ([None, "Mass", "1", "1", "2"], "has 5 cells"),
    ],
)
def test_a_box_that_is_wrong_is_named(copy, cells, said):
    cells[0] = cells[0] or line(copy / LISTS["test"], 1)
    with (copy / BOX_TABLE).open("a", newline="") as file:
        csv.writer(file).writerow(cells)
    number = len((copy / BOX_TABLE).read_text().splitlines())
    with pytest.raises(DataError) as caught:
        chests(copy).source("test")
    assert str(caught.value).startswith(f"{copy / BOX_TABLE}, line {number}")
    assert said in str(caught.value)
    assert list(ChestXray14.check(copy)) == [str(caught.value)]


def test_tables_that_are_none_are_refused(copy, tmp_path):
    content = (copy / TABLE).read_bytes()
    for name, broken, said in (
        (TABLE, content.replace(b"Patient ID", b"Patient"), "has no column 'Patient ID'. Did you mean Patient"),
        (TABLE, b"Image Index,Finding Labels,Patient ID\n\xff", "is no UTF-8 text"),
        (f"{TABLE}.gz", content, "is broken or no gzip file"),
        (f"{TABLE}.gz", gzip.compress(content)[:100], "is broken or no gzip file"),
    ):
        folder = tmp_path / f"{len([*tmp_path.iterdir()])}"
        folder.mkdir()
        (folder / name).write_bytes(broken)
        with pytest.raises(DataError) as caught:
            read_entries(folder)
        assert said in str(caught.value)
    with pytest.raises(DataError, match=r"has neither Data_Entry_2017.csv nor Data_Entry_2017_v2020.csv"):
        read_entries(tmp_path)
    assert list(ChestXray14.check(tmp_path))


def test_what_stands_twice_is_named(copy):
    doubled = (copy / TABLE).read_text() + line(copy / TABLE, 2) + "\n"
    (copy / TABLE).write_text(doubled)
    with pytest.raises(DataError, match=rf"line {SAMPLES + 2}: 00000001_000.png stands in the table twice"):
        read_entries(copy)


def test_a_patient_in_both_lists_is_found_by_check(copy):
    name = line(copy / LISTS["train"], 1)
    with (copy / LISTS["test"]).open("a") as file:
        file.write(f"{name}\n")
    assert list(ChestXray14.check(copy)) == [f"{copy}: 1 patients are in both lists (first: {int(name[:8])})."]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"image_size": 4}, RecipeError, "data.image_size is 4"),
        ({"pairs_from_epoch": -1}, RecipeError, "data.pairs_from_epoch is -1"),
        ({"validation": 2}, RecipeError, "share below 1, or test"),
        ({"sampling": "weigthed"}, UnknownNameError, "Did you mean weighted"),
        ({"augmentation": "mildly"}, UnknownNameError, "Did you mean mild"),
    ],
)
def test_arguments_are_checked(arguments, error, said):
    with pytest.raises(error, match=said):
        chests(Path("x"), **arguments)


# -- demo and real data ----------------------------------------------------------------------------------------------


def test_check_finds_nothing_in_a_demo(demo):
    assert list(ChestXray14.check(demo)) == []


@pytest.mark.parametrize("samples", [19, 5001])
def test_a_demo_too_small_or_too_large_is_refused(tmp_path, samples):
    with pytest.raises(RecipeError, match="from 20 to 5,000 samples"):
        make_demo(ChestXray14, tmp_path / "demo", samples)


def test_every_kind_is_in_a_small_demo(demo):
    for split in ("train", "test"):
        assert (chests(demo).source(split).images.labels.sum(dim=0) > 0).all()


@pytest.mark.parametrize("kind", range(14))
def test_a_lesion_is_in_its_box_and_nowhere_else(kind):
    for number in range(3):
        one, none = (draw_chest(kinds, "test", number) for kinds in ([kind], []))  # the same body
        left, top, width, height = (round(value * SIZE / 1024) for value in one.boxes[kind])
        changed = np.abs(np.asarray(one.image, float) - np.asarray(none.image, float))
        inside = np.zeros((SIZE, SIZE), bool)
        inside[top : top + height, left : left + width] = True
        assert 0.003 < inside.mean() < 0.25
        assert changed[inside].mean() > changed[~inside].mean() + 3
        # Edges are soft.
        far = np.ones_like(inside)
        far[max(top - 3, 0) : top + height + 3, max(left - 3, 0) : left + width + 3] = False
        assert np.quantile(changed[far], 0.99) < 45


def test_the_real_tables_are_read_whole():
    root = Path(os.environ.get("ZOO_TEST_DATA", "/nonexistent")) / "chestxray14"
    if not root.is_dir():
        pytest.skip("ZOO_TEST_DATA names no folder with chestxray14")
    entries = read_entries(root)
    counts = np.bincount([kind for kinds in entries.findings for kind in kinds]).tolist()
    of_findings = [11559, 2776, 13317, 19894, 5782, 6331, 1431, 5302, 4667, 2303, 2516, 1686, 3385, 227]
    assert counts == [*of_findings, 60361]
    assert (len(entries.rows), len(np.unique(entries.patients))) == (112120, 30805)
    boxes = read_boxes(root, entries)
    there = boxes[boxes[..., 0] >= 0]
    assert boxes.shape == (112120, 4, 5)
    assert there[:, 0].long().bincount().tolist() == [180, 146, 153, 123, 85, 79, 120, 98]
    assert int((boxes[:, 0, 0] >= 0).sum()) == 880
    (batch,) = chests(root, images=root / "images").predict_dataloader()
    check_batch(batch, ChestXray14.task, predict=True)
    assert batch["id"] == ["00000001_000", "00027426_000"]
    assert batch["size"].tolist() == [[512, 512]] * 2
