import numpy as np
import pytest
import torch

from datamodules.volumes.intensities import measure, normalise
from tests.support.volumes import brain


def test_the_brain_has_mean_0_and_deviation_1_and_the_background_is_0():
    volume = brain(shape=(20, 40, 40))
    normalised = normalise(volume)
    inside = normalised[torch.from_numpy(volume > 0)]
    assert normalised.dtype == torch.float32
    assert (normalised[torch.from_numpy(volume == 0)] == 0).all()
    assert abs(float(inside.mean())) < 1e-5
    assert abs(float(inside.std(correction=0)) - 1) < 1e-5


def test_few_bright_voxels_are_cut_to_the_last_intensity_that_is_frequent():
    volume = brain(shape=(20, 40, 40))
    volume[10, 10, 10:15] = 100, 200, 300, 400, 500
    normalised = normalise(volume)
    assert measure(volume).ceiling == 29
    assert (normalised[10, 10, 10:15] == normalised.max()).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_the_type_of_the_file_does_not_matter(dtype):
    assert torch.equal(normalise(brain().astype(dtype)), normalise(brain()))


def test_a_part_is_normalised_as_in_the_whole():
    volume = brain()
    part = (slice(2, 7), slice(3, 11), slice(0, 9))
    assert torch.equal(measure(volume).apply(volume[part]), normalise(volume)[part])


@pytest.mark.parametrize("top", [0.5, 1e-6, 1e9])
def test_intensities_that_are_no_indices_of_bins_are_not_truncated(top):
    volume = brain() / np.float64(brain().max()) * top
    assert measure(volume).ceiling == top
    inside = normalise(volume)[torch.from_numpy(volume > 0)]
    assert abs(float(inside.std(correction=0)) - 1) < 1e-4


@pytest.mark.parametrize("volume", [np.zeros((4, 4, 4)), np.full((4, 4, 4), 7), np.full((4, 4, 4), -3.5)])
def test_a_volume_without_a_brain_becomes_0(volume):
    assert (normalise(volume) == 0).all()


def test_a_brain_of_one_intensity_is_finite():
    volume = np.zeros((8, 8, 8), np.int16)
    volume[2:6, 2:6, 2:6] = 9
    assert torch.isfinite(normalise(volume)).all()


def test_a_tiny_volume_keeps_its_intensities():
    volume = brain(shape=(6, 6, 6))  # no intensity but the background's is frequent
    assert measure(volume).ceiling == volume.max()
