"""ODIR: labels by keywords, workbooks, splits, and what a broken copy says."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.base import make_demo
from datamodules.batch import check_batch
from datamodules.demo.fundus import write_sheet
from datamodules.odir import (
    CLASSES,
    COLUMNS,
    FOLDERS,
    INNER,
    ODIR,
    SHEETS,
    crop_to_retina,
    eye_classes,
    labelled_eyes,
    read_part,
)
from datamodules.xlsx import read_sheet
from zoo.core.errors import DataError, RecipeError, UnknownNameError

pytestmark = pytest.mark.usefixtures("seed")
SAMPLES = 60
SPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "odir"
    make_demo(ODIR, root, SAMPLES)
    return root


def eyes(root: Path, **arguments) -> ODIR:
    return ODIR(root=root, **({"image_size": 32, "batch_size": 4} | arguments))


def sheet(root: Path, part: str = "on_site") -> Path:
    return root / INNER / FOLDERS[part] / SHEETS[part]


# -- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "classes"),
    [
        ("normal fundus", [7]),
        ("normal fundus\uff0clens dust", [7]),
        ("normal fundus\uff0cdrusen", [6]),
        ("lens dust\uff0clow image quality", []),
        ("severe nonproliferative retinopathy\uff0cdry age-related macular degeneration", [0, 3]),
        ("sever hypertension\uff0csuspected cataract\uff0csuspected pathological myopia", [2, 4, 5]),
        ("glaucoma\uff0csuspected glaucoma", [1]),
        ("glaucoma, cataract", [6]),  # one item: the separator is the full-width comma
        (" glaucoma", [6]),  # as published, nothing is stripped
    ],
)
def test_keywords_tell_the_classes_of_an_eye(keywords, classes):
    assert eye_classes(keywords) == classes


def test_left_eyes_come_first_and_unlabelled_ones_are_left_out():
    rows = [("normal fundus", "no fundus image"), ("lens dust", "cataract"), ("glaucoma", "drusen")]
    assert labelled_eyes(rows) == [(0, 0, [7]), (2, 0, [1]), (1, 1, [2]), (2, 1, [6])]


# -- batches and splits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test", "predict"])
def test_batches_keep_the_contract(demo, split):
    data = eyes(demo, pairs_from_epoch=0)
    batch = next(iter(data.loader(split, augment=split == "train")))
    check_batch(batch, data.task)
    assert batch["image"].shape == (4, 3, 32, 32)
    assert batch["label"].shape == (4, len(CLASSES))
    assert ("partner" in batch) == (split == "train")


def test_single_views_are_augmented_too(demo):
    check_batch(next(iter(eyes(demo).train_dataloader())), ODIR.task)


def test_tests_are_on_site_or_off_site(demo):
    on_site, off_site = (eyes(demo, test_set=name).source("test").images.ids for name in ("on_site", "off_site"))
    assert len(on_site) == len(off_site) == 10
    assert not {*on_site} & {*off_site}
    assert not {*on_site, *off_site} & {*eyes(demo).source("train").images.ids}
    with pytest.raises(UnknownNameError, match="Did you mean on_site"):
        eyes(demo, test_set="onsite")


def test_patients_are_held_out_with_both_eyes(demo):
    data = eyes(demo, validation=0.25)
    train, val = (data.source(split).images for split in ("train", "val"))
    assert not {*train.patients} & {*val.patients}
    assert len(np.unique(val.patients)) == 5
    assert [len(train.ids), len(val.ids)] == [30, 10]


def test_normal_eyes_are_drawn_three_times_as_often_as_their_number_says(demo):
    data = eyes(demo)
    labels = data.source("train").images.labels
    normal = labels[:, -1] == 1
    expected = float(3 * labels.sum() / labels[:, -1].sum())
    assert data.sampling_weights(0)[normal].tolist() == pytest.approx([expected] * int(normal.sum()))


# -- pictures --------------------------------------------------------------------------------------------------------


def test_the_dark_border_is_cut_off_and_crops_are_taken_as_they_are(copy):
    source = eyes(copy).source("test")
    whole = source.images.paths[0]
    assert source.load(0, None)["size"].tolist() == [88, 88]
    crop = whole.parents[1] / "Images_crop" / whole.name
    crop.parent.mkdir()
    Image.new("RGB", (70, 50), "black").save(crop)
    source = eyes(copy).source("test")
    assert source.images.paths[0] == crop
    assert source.images.paths[1].parent.name == "Images"
    assert source.load(0, None)["size"].tolist() == [50, 70]
    dark = Image.new("RGB", (7, 5), (10, 10, 10))
    assert crop_to_retina(dark).size == (7, 5)
    dark.putpixel((3, 2), (11, 11, 11))
    assert crop_to_retina(dark).size == (1, 1)


def test_without_the_outer_folder_it_is_read_too(demo, copy):
    for path in (copy / INNER).iterdir():
        path.rename(copy / path.name)
    (copy / INNER).rmdir()
    assert torch.equal(eyes(demo).source("test").images.labels, eyes(copy).source("test").images.labels)
    assert list(ODIR.check(copy)) == []


# -- bad input -------------------------------------------------------------------------------------------------------


def test_check_finds_nothing_in_a_demo(demo):
    assert list(ODIR.check(demo)) == []


def test_an_empty_folder_is_no_data_set(tmp_path):
    assert len(list(ODIR.check(tmp_path))) == 3
    with pytest.raises(DataError, match=r"training annotation .*cannot be read"):
        eyes(tmp_path).source("train")


def test_missing_and_broken_pictures_are_named(copy):
    missing, broken = read_part(copy, "on_site").paths[:2]
    missing.unlink()
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"of 10 pictures 1 are missing \(first: .*{missing.name}\)"):
        eyes(copy).source("test")
    first, second = ODIR.check(copy)
    assert first == f"{missing} is missing."
    assert second.startswith(f"{broken} cannot be read")


ROW = ["1", "1_left.jpg", "1_right.jpg", "glaucoma", "cataract"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [["ID", *COLUMNS[1:3], "Left-Diagnostic Keyword", COLUMNS[4]], ROW],
            "Left-Diagnostic Keyword or",
        ),
        ([COLUMNS, ["one", *ROW[1:]]], "row 2: the ID 'one' is no number"),
        ([COLUMNS, ROW, [*ROW[:4], ""]], "row 3: Right-Diagnostic Keywords is empty"),
        ([COLUMNS, ["1", "../../secret.jpg", *ROW[2:]]], "row 2: '../../secret.jpg' is no relative path"),
        ([COLUMNS, [*ROW[:3], "lens dust", "image offset"]], "has no eye with a diagnosis"),
        ([COLUMNS], "has no eye with a diagnosis"),
    ],
)
def test_a_workbook_that_is_wrong_says_where(copy, rows, said):
    write_sheet(sheet(copy), rows)
    with pytest.raises(DataError) as caught:
        eyes(copy).source("test")
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(sheet(copy)))


def write_workbook(path: Path, sheet: str, strings: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
        if strings is not None:
            archive.writestr("xl/sharedStrings.xml", strings)
    return path


def test_cells_of_all_kinds_are_read(tmp_path):
    rows = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="C1"><v>7</v></c></row><row r="2"/>'
        '<row r="3"><c r="B3" t="inlineStr"><is><t>x</t></is></c><c t="str"><v>y</v></c></row>'
    )
    strings = f"<sst {SPACE}><si><r><t>a</t></r><r><t>b</t></r><rPh><t>spoken</t></rPh></si></sst>"
    path = write_workbook(tmp_path / "a.xlsx", f"<worksheet {SPACE}><sheetData>{rows}</sheetData></worksheet>", strings)
    assert list(read_sheet(path)) == [["ab", "", "7"], [], ["", "x", "y"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<worksheet", "is a broken Excel workbook"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><worksheet>&b;</worksheet>', "defines entities"),
        (f'<worksheet {SPACE}><row><c r="A1" t="s"><v>3</v></c></row></worksheet>', "is a broken Excel workbook"),
        (f'<worksheet {SPACE}><row><c r="ZZZZZZ1"><v>3</v></c></row></worksheet>', "none of its first 1,000 columns"),
    ],
)
def test_a_hostile_or_broken_workbook_is_refused(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        list(read_sheet(write_workbook(tmp_path / "a.xlsx", content)))


def test_what_is_no_workbook_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.xlsx"
    path.write_bytes(b"ID,Left-Fundus")
    with pytest.raises(DataError, match="broken or no Excel workbook"):
        list(read_sheet(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(DataError, match="it has no sheet"):
        list(read_sheet(path))
    monkeypatch.setattr("datamodules.xlsx.LARGEST_MEMBER", 10)
    with pytest.raises(DataError, match="holds more than 10 bytes"):
        list(read_sheet(write_workbook(path, f"<worksheet {SPACE}/>")))


@pytest.mark.parametrize("samples", [23, 5001])
def test_a_demo_too_small_or_too_large_is_refused(tmp_path, samples):
    with pytest.raises(RecipeError, match="from 24 to 5,000 samples"):
        make_demo(ODIR, tmp_path / "demo", samples)
