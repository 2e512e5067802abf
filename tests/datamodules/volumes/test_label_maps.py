"""Regions to label maps and back, their clean-up, and writing them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules.volumes.cleaning import clean
from datamodules.volumes.labels import labels_to_regions, regions_to_labels
from datamodules.volumes.nifti import read_volume, write_labels
from zoo.core.errors import DataError

nibabel = pytest.importorskip("nibabel")


@pytest.mark.parametrize(
    "regions",
    [{"ET": (4,), "WT": (1, 2, 4), "TC": (1, 4)}, {"liver": (1,), "spleen": (7,)}, {"organ": (3, 5), "cyst": (5,)}],
)
def test_label_maps_survive_the_way_to_regions_and_back(regions):
    values = torch.tensor(sorted({0}.union(*regions.values())))
    labels = values[torch.randint(len(values), (2, 5, 6, 7))].to(torch.uint8)
    assert torch.equal(regions_to_labels(labels_to_regions(labels, regions).float(), regions), labels)


def test_a_small_enhancing_tumour_becomes_core_and_a_speck_goes():
    labels = np.zeros((40, 40, 60), np.int16)
    labels[5:25, 5:25, 20:50] = 2
    labels[10:14, 10:14, 30:34] = 4
    labels[35:37, 35:37, 40:42] = 2
    found = clean(labels, None)
    assert (found[10:14, 10:14, 30:34] == 1).all()
    assert not found[35:, 35:].any()
    assert (labels == 4).any(), "the input is left alone"


def test_nothing_to_clean_is_nothing():
    assert not clean(np.zeros((8, 8, 8), np.int16), None).any()


def test_a_written_map_has_the_space_of_its_reference(tmp_path):
    affine = np.array([[-1.0, 0.1, 0, 90], [0, -1.2, 0, 126], [0, 0, 3.0, -72], [0, 0, 0, 1]])
    reference = nibabel.Nifti1Image(np.random.default_rng(0).normal(100, 30, (10, 12, 8)).astype(np.float32), affine)
    reference.header["descrip"] = b"scanner 7"
    reference.header.set_slope_inter(0.5, 3)
    nibabel.save(reference, tmp_path / "case_t1.nii.gz")
    labels = np.random.default_rng(1).integers(0, 5, (8, 10, 12)).astype(np.uint8)
    write_labels(tmp_path / "case.nii.gz", labels, tmp_path / "case_t1.nii.gz")
    written = read_volume(tmp_path / "case.nii.gz")
    assert np.array_equal(written.voxels, labels)
    assert np.array_equal(written.affine, read_volume(tmp_path / "case_t1.nii.gz").affine)
    header = nibabel.load(tmp_path / "case.nii.gz").header
    assert header.get_data_dtype() == np.int16
    assert header["descrip"].tobytes().startswith(b"scanner 7")


def test_a_reference_of_another_shape_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "t1.nii")
    with pytest.raises(DataError, match=r"t1\.nii has the shape"):
        write_labels(tmp_path / "case.nii.gz", np.zeros((5, 5, 5), np.uint8), tmp_path / "t1.nii")
