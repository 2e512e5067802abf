"""Our files: the same bytes twice, whole or not at all, and they say where they came from."""

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from zoo.checkpoints import files as files_module
from zoo.checkpoints import provenance, save
from zoo.core.errors import CheckpointError
from zoo.core.reading import read_tensors

ROOT = Path(__file__).parents[2]
METADATA = {"method": "toy", "rules_version": "3", "source_name": "toy.pth", "source_sha256": "00", "licence": "MIT"}


def tensors():
    weight = torch.arange(12.0).reshape(3, 4)
    return {"b.weight": weight, "a.tied": weight, "a.view": weight.T, "c": torch.ones(2, dtype=torch.bfloat16)}


def test_a_saved_file_reads_back_equal(tmp_path):
    save(tmp_path / "a.safetensors", tensors(), metadata=METADATA)
    for read in (
        safetensors.torch.load_file(tmp_path / "a.safetensors"),
        read_tensors(tmp_path / "a.safetensors").tensors,
    ):
        assert read.keys() == tensors().keys()
        assert all(torch.equal(read[key], value) and read[key].dtype == value.dtype for key, value in tensors().items())


def test_the_same_tensors_give_the_same_bytes_also_in_another_process(tmp_path):
    save(tmp_path / "a.safetensors", tensors(), metadata=METADATA)
    save(tmp_path / "b.safetensors", dict(reversed(tensors().items())), metadata=dict(reversed(METADATA.items())))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    code = "from tests.checkpoints.test_files import *; save(sys.argv[1], tensors(), metadata=METADATA)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "c.safetensors"], check=True, cwd=ROOT)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save(path, tensors(), metadata=METADATA)
    before = path.read_bytes()

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module.os, "fsync", disk_full)
    with pytest.raises(CheckpointError, match=r"a.safetensors cannot be written: No space left on device\. Nothing"):
        save(path, {"w": torch.ones(3)}, metadata=METADATA)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written: No such file or directory"):
        save(tmp_path / "nowhere" / "a.safetensors", tensors(), metadata={})


def test_provenance_comes_back(tmp_path):
    save(tmp_path / "a.safetensors", tensors(), metadata=METADATA)
    found = provenance(tmp_path / "a.safetensors")
    assert METADATA.items() <= found.items()
    assert found.keys() - METADATA.keys() == {"multimodal_zoo"}


def test_other_files_have_no_provenance(tmp_path):
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "a.safetensors")
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        with pytest.raises(CheckpointError, match=f"{name} was not written by this project"):
            provenance(tmp_path / name)
