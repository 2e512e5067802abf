import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.base import make_demo
from datamodules.batch import check_batch
from datamodules.nifti_folder import NiftiFolder
from tests.support.volumes import SHAPE, brain, tumour, write_case
from zoo.core.errors import DataError, RecipeError, UnknownNameError

pytest.importorskip("nibabel")


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "own"
    make_demo(NiftiFolder, root, 6)
    return root


@pytest.fixture
def own(tmp_path) -> Path:
    """Two cases of a study with sequences and labels of its own."""
    for name in ("p1", "p2"):
        write_case(tmp_path / "files" / name, suffix=".nii", t1=None, flair=None)
    write_list(tmp_path, "p1,files/p1/p1_t2.nii,files/p1/p1_t1ce.nii,files/p1/p1_seg.nii,train")
    return tmp_path


def write_list(root: Path, *rows: str, header: str = "case,pd,adc,label,split") -> None:
    (root / "volumes.csv").write_text("\n".join([header, *rows, ""]))


def test_the_demo_is_whole_and_gives_batches_of_the_contract(demo):
    assert list(NiftiFolder.check(demo)) == []
    data = NiftiFolder(root=demo, crop_size=(16, 32, 32), batch_size=2)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            check_batch(batch, NiftiFolder.task)
    (batch,) = data.predict_dataloader()
    check_batch(batch, NiftiFolder.task, predict=True)
    assert batch["present"]["flair"].tolist() == [False]
    assert "mask" not in batch


def test_columns_are_modalities_and_regions_are_ones_own(own):
    data = NiftiFolder(root=own, regions={"all": [1, 2, 4], "two": [2]}, crop_size=(8, 8, 8))
    assert data.modalities == ("pd", "adc")
    sample = data.source("train").load(0, None)
    assert [*sample["modalities"]] == ["pd", "adc"]
    assert np.array_equal(sample["mask"], np.stack([tumour() > 0, tumour() == 2]))
    assert NiftiFolder(root=own, modalities=["adc", "pd"]).modalities == ("adc", "pd")
    with pytest.raises(DataError, match=r"volumes\.csv: 'pdd' is not a known column\. Did you mean pd"):
        NiftiFolder(root=own, modalities=["pdd"]).source("train")


def test_labels_in_no_region_are_background_only_if_regions_are_said(own):
    labels = tumour()
    labels[0, 0, 0] = 77
    shutil.rmtree(own / "files" / "p1")
    write_case(own / "files" / "p1", suffix=".nii", seg=labels)
    with pytest.raises(DataError, match=r"p1_seg\.nii has the label value 77; labels are 0, 1, 2, 4\."):
        NiftiFolder(root=own).source("train").load(0, None)
    sample = NiftiFolder(root=own, regions={"two": [2]}).source("train").load(0, None)
    assert np.array_equal(sample["mask"][0], tumour() == 2)


def test_floats_are_normalised_as_well(own):
    shutil.rmtree(own / "files" / "p1")
    scaled = brain().astype(np.float32) / 1000
    write_case(own / "files" / "p1", suffix=".nii", t1ce=scaled)
    image = NiftiFolder(root=own).source("train").load(0, None)["modalities"]["adc"]
    assert abs(float(image[image != 0].std()) - 1) < 0.01


def test_a_folder_without_a_list_is_predicted_also_that_of_one_case(tmp_path):
    for name in ("b", "a"):
        write_case(tmp_path / "study" / name, suffix=".nii", t1=None)
    data = NiftiFolder(root=tmp_path / "study")
    assert [name for batch in data.predict_dataloader() for name in batch["id"]] == ["a", "b"]
    (batch,) = NiftiFolder(root=tmp_path / "study" / "b").predict_dataloader()
    assert batch["id"] == ["b"]
    assert batch["modalities"]["t2"].shape == (1, 1, *SHAPE)
    assert not batch["present"]["t1"]
    assert batch["reference"] == [str(tmp_path / "study/b/b_flair.nii")]
    with pytest.raises(DataError, match=r"there is no .*volumes\.csv\. Name a list of cases with --data\.csv\."):
        data.cases("train")
    with pytest.raises(DataError, match=r"no file bears the name of a modality, such as x_adc\.nii\.gz or adc\.nii\."):
        NiftiFolder(root=tmp_path, modalities=["adc"]).cases("predict")


def test_whole_volumes_of_different_shapes_come_one_by_one(tmp_path):
    write_case(tmp_path / "a")
    shape = (9, 16, 14)
    volumes = {name: brain(1, shape) for name in ("flair", "t1", "t1ce", "t2", "seg")}
    write_case(tmp_path / "b", **volumes | {"seg": np.zeros(shape, np.uint8)})
    batches = [*NiftiFolder(root=tmp_path, batch_size=2).predict_dataloader()]
    assert [tuple(batch["modalities"]["t1"].shape[2:]) for batch in batches] == [SHAPE, shape]
    assert torch.isfinite(batches[1]["modalities"]["t1"]).all()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["p1,files/p1/p1_t2.nii,,,trian"], "line 2: 'trian' is not a known split. Did you mean train?"),
        (["p1,,,x.nii,train"], "line 2: the case p1 has no volumes."),
        (["../p1,x.nii,,,test"], "line 2: '../p1' cannot name a case: predictions bear it as their file's name."),
        ([".hidden,x.nii,,,test"], "line 2: '.hidden' cannot name a case"),
        (["p1,../x.nii,,,test"], "line 2: '../x.nii' is no relative path that stays inside"),
        (["p1,x.nii,,,test", "p1,y.nii,,,test"], "line 3: the case p1 occurs twice."),
        (["p1,none.nii,,,train"], "1 files are missing under"),
        (["p1,files/p1/p1_t2.nii,,,test"], "has no cases for train."),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(own, rows, said):
    write_list(own, *rows)
    with pytest.raises(DataError) as caught:
        NiftiFolder(root=own).cases("train")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("case,pd,adc,lable,split", "has no column label; its first line names case, label, split."),
        ("case,label,split", "names no modality: beside case, label and split, a column for each is needed."),
    ],
)
def test_a_wrong_header_is_refused(own, header, said):
    write_list(own, ",".join("x" for _ in header.split(",")), header=header)
    with pytest.raises(DataError) as caught:
        NiftiFolder(root=own).cases("train")
    assert said in str(caught.value)


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="exclude each other"):
        NiftiFolder(csv="x.csv", demo=6)
    with pytest.raises(RecipeError, match=r"data\.regions\.a is \[300\]; it lists label values from 0 to 255\."):
        NiftiFolder(regions={"a": [300]})
    with pytest.raises(UnknownNameError):
        NiftiFolder(crop_sampler="old")
    with pytest.raises(RecipeError, match="at least 5 samples, not 4"):
        make_demo(NiftiFolder, tmp_path / "demo", 4)


def test_check_names_what_is_missing_or_broken(own):
    write_list(
        own,
        "p1,files/p1/p1_t2.nii,files/p1/none.nii,,train",
        "p2,files/p2/p2_t2.nii,files/p2/p2_t1ce.nii,files/p2/p2_seg.nii,test",
    )
    path = own / "files/p2/p2_t1ce.nii"
    path.write_bytes(path.read_bytes()[:-10])
    said = list(NiftiFolder.check(own))
    assert said[0] == f"{own / 'files/p1/none.nii'} is missing."
    assert said[1].startswith(f"{path} claims ")
    assert len(said) == 2
