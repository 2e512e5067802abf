import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.demo.brats import write_volume
from datamodules.volumes import decoding
from datamodules.volumes.cases import Case, find_cases
from datamodules.volumes.decoding import decode, decode_cached
from tests.support.volumes import SHAPE, brain, tumour, write_case
from zoo.core.errors import DataError

nibabel = pytest.importorskip("nibabel")

MODALITIES = ("flair", "t1", "t1ce", "t2")
VALUES = frozenset((0, 1, 2, 4))


def found(folder) -> Case:
    (case,) = find_cases(folder, MODALITIES, ("seg", "segm"))
    return case


def refusal(folder) -> str:
    with pytest.raises(DataError) as caught:
        decode(found(folder), MODALITIES, VALUES)
    return str(caught.value)


# -- finding ----------------------------------------------------------------------------------------------------------


def test_a_file_belongs_to_the_modality_that_its_name_ends_with(tmp_path):
    for name in (
        "P_T1.nii",
        "t1ce.nii.gz",
        "x-t2.nii",
        "W39_1998.09.19_Segm.nii",
        "y_flair.png",
        "xt1.nii",
        "._t1.nii",
    ):
        (tmp_path / name).touch()
    case = found(tmp_path)
    assert {key: path.name for key, path in case.files.items()} == {
        "t1": "P_T1.nii",
        "t1ce": "t1ce.nii.gz",
        "t2": "x-t2.nii",
    }
    assert case.label == tmp_path / "W39_1998.09.19_Segm.nii"
    assert case.name == tmp_path.name


def test_two_files_of_a_kind_and_two_cases_of_a_name_are_refused(tmp_path):
    write_case(tmp_path / "HGG" / "x")
    shutil.copytree(tmp_path / "HGG" / "x", tmp_path / "LGG" / "x")
    with pytest.raises(DataError, match=r"HGG/x and .*LGG/x are cases of the same name\. Move one away\."):
        find_cases(tmp_path, MODALITIES, ("seg",))
    shutil.rmtree(tmp_path / "LGG")
    shutil.copy(tmp_path / "HGG/x/x_t1.nii.gz", tmp_path / "HGG/x/x_t1.nii")
    with pytest.raises(DataError, match=r"x_t1\.nii and x_t1\.nii\.gz are both the t1 of one case\. Move one away\."):
        find_cases(tmp_path, MODALITIES, ("seg",))


def test_links_in_a_circle_end(tmp_path):
    write_case(tmp_path / "x")
    (tmp_path / "x" / "x_again").symlink_to(tmp_path)
    with pytest.raises(DataError, match="are cases of the same name"):
        find_cases(tmp_path, MODALITIES, ("seg",))


# -- decoding ---------------------------------------------------------------------------------------------------------


def test_volumes_are_stacked_in_order_and_absent_ones_are_0(tmp_path):
    decoded = decode(found(write_case(tmp_path / "x", t1=None)), MODALITIES, VALUES)
    assert decoded.images.dtype == np.int16
    assert np.array_equal(decoded.images, [brain(0), np.zeros(SHAPE), brain(2), brain(3)])
    assert np.array_equal(decoded.labels, tumour())
    assert [measured is None for measured in decoded.intensities] == [False, True, False, False]


def test_intensities_beyond_int16_stay_floats(tmp_path):
    decoded = decode(found(write_case(tmp_path / "x", t1=brain().astype(np.float32) / 7)), MODALITIES, VALUES)
    assert decoded.images.dtype == np.float32
    assert np.array_equal(decoded.images[1], brain().astype(np.float32) / 7)


@pytest.mark.parametrize("kind", ["t2", "seg"])
def test_volumes_of_different_shapes_are_refused(tmp_path, kind):
    folder = write_case(tmp_path / "x", **{kind: np.zeros((12, 20, 17), np.int16)})
    path = folder / f"x_{kind}.nii.gz"
    assert refusal(folder) == f"{path} has 20×17×12 voxels, x_flair.nii.gz has 20×18×12. Resample one to the other."


@pytest.mark.parametrize("kind", ["t2", "seg"])
def test_volumes_of_different_affines_are_refused(tmp_path, kind):
    folder = write_case(tmp_path / "x")
    path = folder / f"x_{kind}.nii.gz"
    image = nibabel.load(path)
    moved = image.affine.copy()
    moved[0, 3] += 1.5
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved), path)
    said = refusal(folder)
    assert said.startswith(f"{path} and x_flair.nii.gz differ in their affines, by up to 1.5: they are not aligned")


@pytest.mark.parametrize(("value", "dtype"), [(3, np.uint8), (-1, np.int16), (0.5, np.float32), (300, np.int16)])
def test_a_label_that_is_none_is_refused(tmp_path, value, dtype):
    labels = tumour().astype(dtype)
    labels[6, 6, 6] = value
    folder = write_case(tmp_path / "x", seg=labels)
    assert refusal(folder) == f"{folder / 'x_seg.nii.gz'} has the label value {value:g}; labels are 0, 1, 2, 4."


# -- cache ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """Paths that are read."""
    seen = []

    def read(path):
        seen.append(path.name)
        return read_volume(path)

    read_volume = decoding.read_volume
    monkeypatch.setattr(decoding, "read_volume", read)
    return seen


def test_a_case_is_decoded_once_and_then_mapped(tmp_path, reads):
    case, cache = found(write_case(tmp_path / "x")), tmp_path / "cache"
    direct = decode(case, MODALITIES, VALUES)
    reads.clear()
    for _ in range(3):
        cached = decode_cached(case, MODALITIES, VALUES, cache)
        assert isinstance(cached.images, np.memmap)
        assert np.array_equal(cached.images, direct.images)
        assert np.array_equal(cached.labels, direct.labels)
        assert np.array_equal(cached.affine, direct.affine)
        assert cached.intensities == direct.intensities
    assert len(reads) == 5
    assert [path.name for path in cache.iterdir()] == ["x"]


def test_what_changed_is_decoded_anew(tmp_path, reads, monkeypatch):
    case, cache = found(write_case(tmp_path / "x")), tmp_path / "cache"
    decode_cached(case, MODALITIES, VALUES, cache)
    write_volume(case.files["t1"], brain(9))
    os.utime(case.files["t1"], ns=(1, 1))
    assert np.array_equal(decode_cached(case, MODALITIES, VALUES, cache).images[1], brain(9))
    assert len(reads) == 10
    swapped = decode_cached(case, MODALITIES[::-1], VALUES, cache)
    assert np.array_equal(swapped.images[2], brain(9))
    assert decode_cached(replace(case, label=None), MODALITIES, VALUES, cache).labels is None
    before = len(reads)
    monkeypatch.setattr(decoding, "VERSION", decoding.VERSION + 1)
    decode_cached(case, MODALITIES, VALUES, cache)
    assert len(reads) == before + 5


@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "facts.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_a_damaged_entry_is_made_again(tmp_path, file, damage):
    case, cache = found(write_case(tmp_path / "x")), tmp_path / "cache"
    decode_cached(case, MODALITIES, VALUES, cache)
    path = cache / "x" / file
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    decoded = decode_cached(case, MODALITIES, VALUES, cache)
    assert np.array_equal(decoded.images[3], brain(3))
    assert np.array_equal(decoded.labels, tumour())


def test_a_bad_case_leaves_nothing_in_the_cache_and_unfinished_entries_do_not_count(tmp_path, monkeypatch):
    case, cache = found(write_case(tmp_path / "x")), tmp_path / "cache"
    save = np.save

    def interrupted(path, array):
        if path.name == "labels.npy":
            raise KeyboardInterrupt
        save(path, array)

    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode_cached(case, MODALITIES, VALUES, cache)
    monkeypatch.undo()
    assert list(cache.iterdir()) == []
    case.files["t2"].write_bytes(b"no gzip")
    with pytest.raises(DataError):
        decode_cached(case, MODALITIES, VALUES, cache)
    assert list(cache.iterdir()) == []


def test_two_processes_may_write_the_same_entry(tmp_path, monkeypatch):
    case, cache = found(write_case(tmp_path / "x")), tmp_path / "cache"

    def slow(*args):
        decoded = decode(*args)
        monkeypatch.undo()
        decode_cached(case, MODALITIES, VALUES, cache)  # the other one is faster
        return decoded

    monkeypatch.setattr(decoding, "decode", slow)
    assert np.array_equal(decode_cached(case, MODALITIES, VALUES, cache).images[0], brain(0))
    assert [path.name for path in cache.iterdir()] == ["x"]


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "cache").write_text("a file")
    case = found(write_case(tmp_path / "x"))
    with pytest.raises(DataError, match=r"The cache .*cache cannot be written: .*\. Name another with data\.cache\."):
        decode_cached(case, MODALITIES, VALUES, tmp_path / "cache")


def test_torch_takes_what_is_mapped_without_a_warning(tmp_path, recwarn):
    case = found(write_case(tmp_path / "x"))
    decoded = decode_cached(case, MODALITIES, VALUES, tmp_path / "cache")
    assert torch.is_tensor(decoded.intensities[0].apply(decoded.images[0]))
    assert not [w for w in recwarn if "writable" in str(w.message)]
