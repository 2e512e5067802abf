from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.brats import MODALITIES, REGIONS, VALUES, labels_to_regions
from datamodules.volumes.cases import find_cases
from datamodules.volumes.intensities import normalise
from datamodules.volumes.source import Reading, VolumeSource
from tests.support.volumes import SHAPE, brain, tumour, write_case
from zoo.core.errors import DataError

pytest.importorskip("nibabel")


def source(folder: Path, crop=(8, 12, 10), labelled=True, complete=True, cache=None) -> VolumeSource:
    reading = Reading(MODALITIES, REGIONS, VALUES, crop, "papers", cache)
    return VolumeSource(find_cases(folder, MODALITIES, ("seg",)), reading, labelled=labelled, complete=complete)


@pytest.fixture
def unaugmented(monkeypatch):
    monkeypatch.setattr("datamodules.volumes.source.augment", lambda image, mask, rng: (image, mask))


def test_a_whole_volume_is_normalised_with_its_regions_affine_and_reference(tmp_path):
    sample = source(write_case(tmp_path / "x")).load(0, None)
    for seed, name in enumerate(MODALITIES):
        assert torch.equal(sample["modalities"][name][0], normalise(brain(seed)))
    assert torch.equal(sample["mask"], labels_to_regions(torch.from_numpy(tumour())))
    assert sample["affine"].dtype == torch.float64
    assert sample["reference"] == str(tmp_path / "x" / "x_t1.nii.gz")
    assert sample["id"] == "x"


def test_an_absent_modality_is_0_and_said_to_be_absent(tmp_path):
    sample = source(write_case(tmp_path / "x", t1=None, seg=None), labelled=False, complete=False).load(0, None)
    assert {name: bool(there) for name, there in sample["present"].items()} == dict.fromkeys(MODALITIES, True) | {
        "t1": False
    }
    assert (sample["modalities"]["t1"] == 0).all()
    assert "mask" not in sample
    assert sample["reference"].endswith("x_flair.nii.gz")


@pytest.mark.parametrize(("kind", "said"), [("t2", "no t2; this split needs all"), ("seg", "no annotated volume")])
def test_what_a_split_needs_and_a_case_lacks_is_named(tmp_path, kind, said):
    with pytest.raises(DataError, match=f"The case x in .*x has {said}"):
        source(write_case(tmp_path / "x", **{kind: None})).load(0, None)


@pytest.mark.parametrize("cached", [False, True])
def test_a_crop_is_a_part_of_the_volume(tmp_path, unaugmented, monkeypatch, cached):
    monkeypatch.setattr("datamodules.volumes.source.draw_mirror", lambda rng: (1,))
    made = source(write_case(tmp_path / "x"), cache=tmp_path / "cache" if cached else None)
    whole, seen = made.load(0, None), 0
    for seed in range(12):
        sample = made.load(0, np.random.default_rng(seed))
        assert sample["mask"].shape == (3, 8, 12, 10)
        assert all(image.shape == (1, 8, 12, 10) for image in sample["modalities"].values())
        image = torch.cat([*sample["modalities"].values(), sample["mask"]]).flip(2)
        windows = (
            torch.cat([*whole["modalities"].values(), whole["mask"]]).unfold(1, 8, 1).unfold(2, 12, 1).unfold(3, 10, 1)
        )
        seen += bool((windows == image[:, None, None, None]).flatten(4).all(-1).all(0).any())
    assert seen >= 3  # the others are scaled


@pytest.mark.parametrize("shape", [(5, 9, 7), (5, 40, 40), (12, 20, 7)])
def test_a_volume_smaller_than_the_crop_is_padded_with_background(tmp_path, unaugmented, shape):
    labels = np.zeros(shape, np.uint8)
    labels[2:4, 3:6, 2:4] = 4
    volumes = {name: brain(seed, shape) for seed, name in enumerate(MODALITIES)}
    made = source(write_case(tmp_path / "x", seg=labels, **volumes), crop=(16, 32, 32))
    for seed in range(8):
        sample = made.load(0, np.random.default_rng(seed))
        assert sample["mask"].shape == (3, 16, 32, 32)
        assert torch.isfinite(sample["modalities"]["t1"]).all()
        assert sample["mask"][0].sum() <= 2 * (labels == 4).sum()  # padded, not stretched


def test_a_case_without_a_tumour_gives_empty_regions(tmp_path):
    made = source(write_case(tmp_path / "x", seg=np.zeros(SHAPE, np.uint8)))
    for seed in range(6):
        assert made.load(0, np.random.default_rng(seed))["mask"].sum() == 0
    assert made.load(0, None)["mask"].sum() == 0


def test_a_crop_follows_from_its_generator_alone(tmp_path):
    made = source(write_case(tmp_path / "x"))
    first = made.load(0, np.random.default_rng(5))
    np.random.seed(1)  # noqa: NPY002 (what others may do)
    torch.manual_seed(1)
    second = made.load(0, np.random.default_rng(5))
    assert torch.equal(first["mask"], second["mask"])
    assert all(torch.equal(first["modalities"][name], second["modalities"][name]) for name in MODALITIES)
