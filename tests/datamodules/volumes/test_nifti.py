import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.demo.brats import write_volume
from datamodules.volumes.nifti import read_volume, stem
from tests.support.volumes import brain
from zoo.core.errors import DataError

nibabel = pytest.importorskip("nibabel")


def refusal(path) -> str:
    with pytest.raises(DataError) as caught:
        read_volume(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    return said.removeprefix(str(path)).strip()


def packed(volume: np.ndarray) -> bytes:
    """An uncompressed file of this volume."""
    return nibabel.Nifti1Image(volume.transpose(1, 2, 0), np.eye(4)).to_bytes()


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_volume_is_read_as_it_was_written(tmp_path, name):
    write_volume(tmp_path / name, brain())
    volume = read_volume(tmp_path / name)
    assert np.array_equal(volume.voxels, brain())
    assert volume.voxels.dtype == np.int16
    assert volume.affine.tolist() == [[-1, 0, 0, 0], [0, -1, 0, 19], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_scaled_intensities_are_scaled(tmp_path):
    image = nibabel.Nifti1Image(brain().transpose(1, 2, 0), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    (tmp_path / "x.nii").write_bytes(image.to_bytes())
    assert np.array_equal(read_volume(tmp_path / "x.nii").voxels, brain() * 0.5 + 3)


def test_a_fourth_axis_of_one_is_dropped_and_others_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6, 1)), np.eye(4)), tmp_path / "one.nii")
    assert read_volume(tmp_path / "one.nii").voxels.shape == (6, 4, 5)
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6, 2)), np.eye(4)), tmp_path / "two.nii")
    assert refusal(tmp_path / "two.nii") == "has the shape 4×5×6×2; a volume has three dimensions."


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.999])
def test_a_cut_file_is_refused(tmp_path, name, kept):
    write_volume(tmp_path / name, brain())
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
    refusal(tmp_path / name)


def test_a_damaged_gzip_is_refused_though_it_can_be_unpacked(tmp_path):
    whole = bytearray(gzip.compress(packed(brain())))
    whole[-8] ^= 1  # of the checksum
    (tmp_path / "x.nii.gz").write_bytes(whole)
    assert "CRC" in refusal(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("sizes", [(30_000, 30_000, 30_000), (500, 500, 500), (0, 4, 4), (-4, 4, 4)])
def test_a_header_that_claims_too_much_allocates_nothing(tmp_path, name, sizes):
    content = bytearray(packed(brain()))
    content[42:48] = np.array(sizes, "<i2").tobytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    refusal(tmp_path / name)
    tracemalloc.start()
    refusal(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_voxels_that_are_no_numbers_are_counted(tmp_path):
    volume = brain().astype(np.float32)
    volume[3, 3, 3:5] = np.nan, np.inf
    (tmp_path / "x.nii").write_bytes(packed(volume))
    said = "has 2 voxels that are NaN or infinite. Replace them, by 0 outside the brain."
    assert refusal(tmp_path / "x.nii") == said


def test_what_is_no_volume_is_refused(tmp_path):
    assert "cannot be read" in refusal(tmp_path / "none.nii")
    (tmp_path / "text.nii.gz").write_text("no gzip")
    (tmp_path / "text.nii").write_text("no volume" * 100)
    assert "cannot be read" in refusal(tmp_path / "text.nii.gz")
    assert "cannot be read" in refusal(tmp_path / "text.nii")
    (tmp_path / "folder.nii").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.nii")
    assert refusal(tmp_path / "x.png") == "is no .nii or .nii.gz file."
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6), np.complex64), np.eye(4)), tmp_path / "complex.nii")
    assert refusal(tmp_path / "complex.nii") == "has voxels of the type complex64; integers and floats are read."


def test_no_permission_is_said(tmp_path, monkeypatch):
    def forbid(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(nibabel, "load", forbid)  # the tests may run as root, who may read all
    assert refusal(tmp_path / "x.nii") == "cannot be read: Permission denied."


@settings(max_examples=60)
@given(st.data())
def test_any_damage_is_refused_or_gives_finite_numbers(tmp_path_factory, data):
    content = bytearray(packed(brain()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 351))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.nii"
    path.write_bytes(content)
    try:
        volume = read_volume(path)
    except DataError:
        refusal(path)
    else:
        assert np.isfinite(volume.voxels).all()
        assert np.isfinite(volume.affine).all()


def test_the_stem_is_without_both_suffixes():
    names = ["a/x_t1.nii.gz", "x_t1.nii", "W39_1998.09.19_Segm.nii", "X.NII.GZ", "x.gz", "nii"]
    assert [stem(Path(name)) for name in names] == ["x_t1", "x_t1", "W39_1998.09.19_Segm", "X", "", ""]
