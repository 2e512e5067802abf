"""AV-MNIST is downloaded whole, checked, and mended; from a small server with small files."""

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from datamodules import avmnist_download
from datamodules.avmnist import AVMNIST, IMAGES, RECORDINGS, SPEAKERS
from tests.datamodules.test_downloads import archive, names
from tests.datamodules.test_downloads import server as server
from zoo.core.errors import DataError

IDX = [f"{file}-{kind}-ubyte" for file in ("t10k", "train") for kind in ("images-idx3", "labels-idx1")]
WAVS = ["0_jackson_0.wav", "0_jackson_1.wav"]
CONTENT = {name: name.encode() * 100 for name in (*IDX, *WAVS)}


@pytest.fixture
def public(server, tmp_path, monkeypatch):
    """A server that has all files, of which the manifest tells."""
    for name in IDX:
        server.files[f"/mnist/{name}.gz"] = gzip.compress(CONTENT[name])
    pack(server, tmp_path, CONTENT)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(avmnist_download, "digests", lambda: digests)
    monkeypatch.setattr(avmnist_download, "MNIST_MIRRORS", [server.url("/gone"), server.url("/mnist")])
    monkeypatch.setattr(avmnist_download, "FSDD_ARCHIVES", [server.url("/fsdd.tar.gz")])
    return server


def pack(server, folder, content):
    members = [(f"fsdd-1/recordings/{name}", content[name]) for name in WAVS if name in content]
    server.files["/fsdd.tar.gz"] = archive(folder / "fsdd.tar.gz", members).read_bytes()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def is_whole(root) -> bool:
    for name in IDX:
        assert gzip.decompress((root / IMAGES / f"{name}.gz").read_bytes()) == CONTENT[name]
    for name in WAVS:
        assert (root / RECORDINGS / name).read_bytes() == CONTENT[name]
    left_over = {*names(root / RECORDINGS)} - {*WAVS} | {*names(root / RECORDINGS.parent)} - {"recordings"}
    return not left_over and names(root / IMAGES) == [f"{name}.gz" for name in IDX]


def test_all_files_come_and_none_comes_twice(public, root):
    AVMNIST(root=root, download=True).prepare_data()
    assert is_whole(root)
    asked = len(public.asked)
    AVMNIST(root=root, download=True).prepare_data()
    assert len(public.asked) == asked


def test_only_what_is_missing_or_wrong_is_fetched(public, root, caplog):
    AVMNIST(root=root, download=True).prepare_data()
    public.asked.clear()
    (root / IMAGES / f"{IDX[0]}.gz").write_bytes(b"cut")
    (root / RECORDINGS / WAVS[1]).write_bytes(b"of my own")
    AVMNIST(root=root, download=True).prepare_data()
    assert is_whole(root)
    assert [path for path, _ in public.asked] == [f"/gone/{IDX[0]}.gz", f"/mnist/{IDX[0]}.gz", "/fsdd.tar.gz"]
    assert "is replaced" in caplog.text
    assert "1 recordings are replaced" in caplog.text


def test_unpacked_files_are_kept_if_right_and_else_give_way(public, root):
    (root / IMAGES).mkdir(parents=True)
    (root / IMAGES / IDX[0]).write_bytes(CONTENT[IDX[0]])
    (root / IMAGES / IDX[1]).write_bytes(b"other")
    AVMNIST(root=root, download=True).prepare_data()
    assert names(root / IMAGES) == [IDX[0], *(f"{name}.gz" for name in IDX[1:])]


@pytest.mark.parametrize("wrong", [{WAVS[0]: b"lies"}, {WAVS[1]: CONTENT[WAVS[1]]}])
def test_no_recording_is_written_from_an_archive_with_a_wrong_or_missing_one(public, root, tmp_path, wrong):
    pack(public, tmp_path, CONTENT | wrong if b"lies" in wrong.values() else wrong)
    with pytest.raises(DataError, match=r"fsdd.tar.gz: .*0_jackson_0.wav"):
        AVMNIST(root=root, download=True).prepare_data()
    assert not list(root.rglob("*.wav*"))
    assert not list(root.rglob("*.tar.gz*"))


def test_nothing_is_fetched_unless_asked_or_for_a_demo(public, root):
    with pytest.raises(DataError, match=r"have it downloaded with --data\.download=true, or try generated data"):
        AVMNIST(root=root).prepare_data()
    AVMNIST(root=root, download=True, demo=10).prepare_data()
    assert public.asked == []
    with pytest.raises(DataError, match="holds demo data"):
        AVMNIST(root=root, download=True).prepare_data()


def test_a_copy_with_missing_files_says_how_to_have_them(root):
    root.mkdir()
    with pytest.raises(DataError, match=r"--data\.download=true brings them"):
        AVMNIST(root=root).source("train")


def test_the_manifest_names_every_file_that_the_data_module_reads():
    digests = avmnist_download.digests()
    speakers = SPEAKERS["large"]
    wavs = [f"{digit}_{speaker}_{n}.wav" for digit in range(10) for speaker in speakers for n in range(50)]
    assert list(digests) == [*IDX, *wavs]
    assert all(len(digests[name]) == 64 for name in IDX)
    assert all(len(digests[name]) == 16 for name in wavs)


def test_the_manifest_is_that_of_the_real_data(monkeypatch):
    root = Path(os.environ.get("ZOO_TEST_DATA", "/nonexistent"))
    if not (root / RECORDINGS).is_dir() or not (root / IMAGES).is_dir():
        pytest.skip("ZOO_TEST_DATA names no folder with MNIST and free-spoken-digit-dataset")
    monkeypatch.setattr(avmnist_download, "fetch", None)  # anything that is not as the manifest says would be fetched
    AVMNIST(root=root, download=True).prepare_data()
