import os
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.base import make_demo
from datamodules.batch import check_batch
from datamodules.brats import MODALITIES, BraTS, labels_to_regions, regions_to_labels
from datamodules.brats_lists import META, VALIDATION
from datamodules.demo.brats import draw_case
from datamodules.volumes.nifti import read_volume
from tests.support.volumes import write_case
from zoo.core.errors import DataError, RecipeError, UnknownNameError
from zoo.core.randomness import numpy_generator

pytest.importorskip("nibabel")


def volume(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, -1)


def test_regions_are_et_wt_tc():
    regions = labels_to_regions(volume(0, 1, 2, 4))
    assert regions.dtype == torch.uint8
    assert regions.flatten(1).tolist() == [[0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 0, 1]]


def test_labels_survive_the_way_there_and_back_also_in_batches():
    labels = torch.tensor([0, 1, 2, 4])[torch.randint(4, (2, 3, 4, 5), generator=torch.Generator().manual_seed(0))]
    assert torch.equal(regions_to_labels(labels_to_regions(labels).float()), labels.to(torch.uint8))


def test_later_regions_overwrite_and_nesting_is_not_enforced():
    et, wt, tc = [0.9, 0.2, 0.2, 0.2, 0.5], [0.1, 0.9, 0.1, 0.9, 0.5], [0.1, 0.9, 0.9, 0.1, 0.5]
    labels = regions_to_labels(torch.tensor([et, wt, tc]).view(3, 1, 1, 5))
    assert labels.flatten().tolist() == [4, 1, 1, 2, 0]


# -- which cases ------------------------------------------------------------------------------------------------------

LISTED = [f"Brats18_{case}" for case in VALIDATION]
SPLITS = ("train", "val", "test", "predict")


def touch(folder: Path, *, suffix: str = ".nii.gz", kinds: tuple[str, ...] = (*MODALITIES, "seg")) -> None:
    """A case whose files hold nothing."""
    folder.mkdir(parents=True)
    for kind in kinds:
        (folder / f"{folder.name}_{kind}{suffix}").touch()


@pytest.fixture(scope="session")
def download(tmp_path_factory) -> Path:
    """BraTS2018 as downloaded, but that no file holds anything."""
    root = tmp_path_factory.mktemp("brats")
    training = root / "MICCAI_BraTS_2018_Data_Training"
    for number, name in enumerate([*LISTED, *(f"Brats18_X_{number}_1" for number in range(228))]):
        low = 40 <= number < 57 or number >= 57 + 170
        touch(training / ("LGG" if low else "HGG") / name)
    for number in range(66):
        name = f"Brats18_CBICA_Y{number}_1"
        touch(root / "MICCAI_BraTS_2018_Data_Validation" / name, kinds=MODALITIES)
    return root


def names(data: BraTS, split: str) -> set[str]:
    cases = [case.name for case in data.cases(split)]
    assert len({*cases}) == len(cases)
    return {*cases}


@pytest.mark.parametrize(("split_list", "sizes"), [("train_all", (285, 57)), ("train", (228, 57)), ("meta", (280, 5))])
def test_the_published_lists_are_rebuilt(download, split_list, sizes):
    data = BraTS(root=download, split_list=split_list)
    train, val, test, predict = (names(data, split) for split in SPLITS)
    assert (len(train), len(val), len(test), len(predict)) == (*sizes, 57, 66)
    assert test == {*LISTED}
    assert val == {f"Brats18_{case}" for case in META} if split_list == "meta" else test
    assert (train & val == val) if split_list == "train_all" else not train & val
    assert len(train | val) == 285


def test_a_copy_that_lacks_listed_cases_is_refused(download, tmp_path):
    (tmp_path / "HGG").symlink_to(download / "MICCAI_BraTS_2018_Data_Training" / "HGG")
    with pytest.raises(DataError) as caught:
        BraTS(root=tmp_path).cases("train")
    assert "of the 57 cases of the published validation list are missing (first: Brats18_" in str(caught.value)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_2019_2020_and_other_trees_are_split_by_a_rule_of_names(tmp_path, suffix):
    for number in range(30):
        touch(tmp_path / "MICCAI_BraTS2020_TrainingData" / f"BraTS20_Training_{number:03}", suffix=suffix)
    touch(tmp_path / "MICCAI_BraTS2020_ValidationData" / "BraTS20_Validation_001", suffix=suffix, kinds=MODALITIES)
    misnamed = tmp_path / "MICCAI_BraTS2020_TrainingData" / "BraTS20_Training_011"
    (misnamed / f"BraTS20_Training_011_seg{suffix}").rename(misnamed / "W39_1998.09.19_Segm.nii")
    data = BraTS(root=tmp_path)
    train, val, test, predict = (names(data, split) for split in SPLITS)
    assert (len(train), len(val), predict) == (24, 6, {"BraTS20_Validation_001"})
    assert test == val
    assert not train & val
    assert "BraTS20_Training_011" in train | val
    assert names(BraTS(root=tmp_path, split_list="meta"), "val") < val


def test_both_grades_validate_in_proportion(tmp_path):
    for number in range(40):
        touch(tmp_path / ("LGG" if number % 4 == 0 else "HGG") / f"BraTS19_{number}")
    validation = BraTS(root=tmp_path).cases("val")
    assert len(validation) == 8
    assert sum(case.folder.parent.name == "LGG" for case in validation) == 2


def test_a_list_of_ones_own_says_the_parts(tmp_path):
    for name in "abcdef":
        touch(tmp_path / name)
    (tmp_path / "mine.csv").write_text("case,split\nb,train\na,train\nc,val\nd,meta\ne,test\n")
    for split_list, expected in {"train": "ab cd e", "train_all": "abcd cd e", "meta": "abc d e"}.items():
        data = BraTS(root=tmp_path, csv=tmp_path / "mine.csv", split_list=split_list)
        assert [names(data, split) for split in SPLITS] == [{*part} for part in [*expected.split(), "e"]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,trian\n", "line 2: 'trian' is not a known split. Did you mean train?"),
        ("a,train\nb,train\na,val\n", "line 4: the case a occurs twice."),
        ("../a,train\n", "line 2: there is no case '../a'."),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(tmp_path, rows, said):
    touch(tmp_path / "a")
    touch(tmp_path / "b")
    (tmp_path / "cases.csv").write_text(f"case,split\n{rows}")
    with pytest.raises(DataError) as caught:
        BraTS(root=tmp_path).cases("train")
    assert said in str(caught.value)


def test_a_root_without_cases_says_what_is_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"BraTS: there are no cases under .* such as <case>_flair\.nii\.gz"):
        BraTS(root=tmp_path).cases("train")


def test_wrong_arguments_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean train_all"):
        BraTS(split_list="train_al")
    with pytest.raises(UnknownNameError, match="crop_sampler"):
        BraTS(crop_sampler="new")
    with pytest.raises(RecipeError, match=r"data\.crop_size is \[80, 160\]; it is depth, height and width"):
        BraTS(crop_size=(80, 160))
    with pytest.raises(RecipeError, match="exclude each other"):
        BraTS(csv="x.csv", demo=20)


# -- batches of the demo ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "brats"
    make_demo(BraTS, root, 10)
    return root


def test_the_demo_is_whole_and_gives_batches_of_the_contract(demo):
    assert list(BraTS.check(demo)) == []
    data = BraTS(root=demo, split_list="meta", crop_size=(16, 32, 32), batch_size=3)
    assert [len(data.source(split)) for split in SPLITS] == [6, 1, 2, 1]
    batch = next(iter(data.train_dataloader()))
    check_batch(batch, BraTS.task)
    assert batch["mask"].shape == (3, 3, 16, 32, 32)
    for loader, predict in ((data.val_dataloader(), False), (data.test_dataloader(), False)):
        for batch in loader:
            check_batch(batch, BraTS.task, predict=predict)
            assert batch["mask"].shape == (1, 3, 32, 64, 64)
            assert all(Path(path).is_file() for path in batch["reference"])
    (batch,) = data.predict_dataloader()
    check_batch(batch, BraTS.task, predict=True)
    assert "mask" not in batch


def test_meta_validation_is_crops_of_the_validation_split_one_by_one(demo):
    data = BraTS(root=demo, split_list="meta", crop_size=(16, 32, 32), batch_size=3)
    (first,) = data.pass_loader("val", augment=True, epoch=0, batch_size=1)
    (other,) = data.pass_loader("val", augment=True, epoch=1, batch_size=1)
    assert first["mask"].shape == (1, 3, 16, 32, 32)
    assert first["id"] == other["id"]
    assert not torch.equal(first["modalities"]["t1"], other["modalities"]["t1"])
    (whole,) = data.pass_loader("val")
    assert whole["mask"].shape == (1, 3, 32, 64, 64)


def test_crops_do_not_depend_on_the_number_of_workers(demo):
    batches = [
        [*BraTS(root=demo, crop_size=(16, 32, 32), batch_size=3, num_workers=workers).train_dataloader()]
        for workers in (0, 2)
    ]
    for alone, together in zip(*batches, strict=True):
        assert alone["id"] == together["id"]
        assert torch.equal(alone["mask"], together["mask"])
        assert torch.equal(alone["modalities"]["t2"], together["modalities"]["t2"])


def test_each_sequence_shows_its_own_part_of_the_tumour(demo):
    source = BraTS(root=demo, split_list="train_all").source("train")
    contrast = {}
    for index in range(len(source)):
        sample = source.load(index, None)
        et, wt, tc = (region.bool() for region in sample["mask"])
        brain = sample["modalities"]["flair"][0] != 0
        for name, image in sample["modalities"].items():
            means = [float(image[0][part].mean()) for part in (wt & ~tc, et, tc & ~et, brain & ~wt)]
            contrast.setdefault(name, []).append([mean - means[-1] for mean in means[:-1]])
    oedema, rim, core = ({name: np.nanmean(values, 0)[i] for name, values in contrast.items()} for i in range(3))
    assert min(oedema["flair"], oedema["t2"]) > 1 > max(abs(oedema["t1"]), abs(oedema["t1ce"]))
    assert rim["t1ce"] > 1.5 > abs(rim["t1"])
    assert core["t1ce"] < -0.7
    assert max(abs(values["t1"]) for values in (oedema, rim, core)) < 1.2


def test_equal_demos_are_equal_and_tests_have_seeds_of_their_own(demo, tmp_path):
    make_demo(BraTS, tmp_path / "again", 10)
    for path in demo.rglob("*_t1ce.nii.gz"):
        assert np.array_equal(read_volume(path).voxels, read_volume(tmp_path / "again" / path.relative_to(demo)).voxels)
    assert not np.array_equal(*(draw_case("HGG", numpy_generator("brats demo", p, "x"))[1] for p in ("train", "test")))
    with pytest.raises(RecipeError, match="at least 8 samples, not 7"):
        make_demo(BraTS, tmp_path / "small", 7)


# -- what may be wrong with a copy ------------------------------------------------------------------------------------


def test_check_names_all_that_is_wrong(tmp_path):
    for name in ("Brats18_a_1", "Brats18_b_1", "Brats18_c_1"):
        write_case(tmp_path / "HGG" / name)
    (tmp_path / "HGG/Brats18_a_1/Brats18_a_1_t1.nii.gz").unlink()
    cut = tmp_path / "HGG/Brats18_b_1/Brats18_b_1_t2.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-200])
    said = list(BraTS.check(tmp_path))
    assert said[0] == f"HGG of BraTS2018 has 210 cases; 3 are under {tmp_path}."
    assert said[1] == f"{tmp_path / 'HGG/Brats18_a_1/Brats18_a_1_t1.nii[.gz]'} is missing."
    assert said[2].startswith(f"{cut} cannot be read: ")
    assert len(said) == 3


def test_a_broken_case_stops_training_or_is_replaced(tmp_path):
    for name in "abc":
        write_case(tmp_path / name)
    (tmp_path / "cases.csv").write_text("case,split\na,train\nb,train\nc,train\n")
    (tmp_path / "b/b_t2.nii.gz").write_bytes(b"no gzip")
    small = {"root": tmp_path, "crop_size": (8, 8, 8)}
    with pytest.raises(DataError, match=r"b_t2\.nii\.gz cannot be read"):
        list(BraTS(**small).train_dataloader())
    data = BraTS(**small, on_bad_file="skip")
    with pytest.warns(UserWarning, match=r"b_t2\.nii\.gz cannot be read: .* Another sample takes its place\."):
        ids = [name for batch in data.train_dataloader() for name in batch["id"]]
    assert len(ids) == 3
    assert "b" not in ids


# -- the real data ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_cases_are_whole_and_give_batches(tmp_path):
    root = Path(os.environ.get("ZOO_TEST_DATA", "/nonexistent")) / "brats"
    if not root.is_dir():
        pytest.skip("ZOO_TEST_DATA names no folder with brats")
    assert [line for line in BraTS.check(root) if "has 210 cases" not in line] == []
    data = BraTS(root=root, split_list="train_all", crop_size=(32, 64, 64), cache=tmp_path)
    for batch in data.train_dataloader():
        check_batch(batch, BraTS.task)
    (whole,) = data.test_dataloader()
    check_batch(whole, BraTS.task)
    assert whole["mask"].shape == (1, 3, 155, 240, 240)
    for image in whole["modalities"].values():
        inside = image[image != 0]
        assert abs(float(inside.mean())) < 0.01
        assert abs(float(inside.std()) - 1) < 0.01
    assert whole["affine"][0].tolist() == [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]
