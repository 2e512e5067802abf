"""What the reader of foreign files promises; hostile files are in `test_hostile_files.py`."""

import argparse
import collections
import datetime
import functools
import hashlib
import os
import pathlib
import pickle
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from zoo.core.errors import CheckpointError, DataError
from zoo.core.reading import CONTAINER_KEYS, read_metadata, read_pickle, read_tensors
from zoo.core.rebuilding import Record

FORMATS = {"torch zip": True, "torch legacy": False}


@pytest.fixture
def tensors():
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=draw)
    return {
        "a.weight": base,
        "a.half": base.half(),
        "a.bfloat16": base.bfloat16(),
        "a.counts": torch.arange(5),
        "a.mask": base > 0,
        "a.complex": torch.complex(base, base),
        "a.scalar": torch.tensor(3.0),
        "a.empty": torch.empty(0, 3),
        "a.view": base[1:, ::2].T,
        "a.expanded": torch.ones(1).expand(5, 5),
        "a.parameter": nn.Parameter(base),
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", FORMATS)
def test_what_torch_saves_is_read_as_torch_reads_it(tmp_path, tensors, kind, protocol):
    torch.save(tensors, tmp_path / "a.pth", _use_new_zipfile_serialization=FORMATS[kind], pickle_protocol=protocol)
    container = read_tensors(tmp_path / "a.pth")
    if protocol == 2:  # torch's own safe reader knows no other
        assert_same(container.tensors, torch.load(tmp_path / "a.pth", weights_only=True))
    assert_same(container.tensors, tensors)
    assert_same(read_pickle(tmp_path / "a.pth"), tensors)
    assert (container.format, container.container, container.alternatives) == (kind, "", ())
    assert container.sha256 == hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()


def test_safetensors_are_read_whatever_their_name(tmp_path, tensors):
    own = {key: value.detach().clone().contiguous() for key, value in tensors.items() if not value.is_complex()}
    safetensors.torch.save_file(own, tmp_path / "weights.bin", metadata={"who": "me"})
    container = read_tensors(tmp_path / "weights.bin")
    assert_same(container.tensors, own)
    assert (container.format, container.metadata) == ("safetensors", {"who": "me"})


def test_tensors_stay_when_their_file_is_overwritten(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"w": torch.ones(5000)}, path)
    read = read_tensors(path).tensors["w"]
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(read, torch.ones(5000))


def test_dtypes_without_a_storage_class_are_read(tmp_path):
    torch.save({"w": torch.arange(70_000).to(torch.uint16)[2:]}, tmp_path / "a.pth")
    assert torch.equal(read_tensors(tmp_path / "a.pth").tensors["w"], (torch.arange(2, 70_000)).to(torch.uint16))


def test_tied_tensors_stay_tied(tmp_path):
    weight = torch.ones(3)
    torch.save({"a": weight, "b": weight}, tmp_path / "a.pth")
    read = read_tensors(tmp_path / "a.pth").tensors
    assert read["a"].data_ptr() == read["b"].data_ptr()


# -- whole modules ---------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign_module():
    """An instance of classes in a module `DualNet`, which is gone once it has been pickled."""
    source = types.ModuleType("DualNet")
    code = """
import torch
from torch import nn
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.activation = torch.tanh
        self.layers = [torch.zeros(7)]
class DualNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(Block(), Block())
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.register_parameter("none", None)
        self.head = self.enc[0].conv
"""
    exec(code, source.__dict__)
    for cls in (source.Block, source.DualNet):
        cls.__module__ = "DualNet"
    sys.modules["DualNet"] = source
    yield source.DualNet()
    sys.modules.pop("DualNet", None)


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_whole_modules_of_foreign_classes_are_read_as_their_state_dict(tmp_path, foreign_module, kind, wrapped):
    module = nn.DataParallel(foreign_module) if wrapped else foreign_module
    saved = {"model": module, "optimizer": torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9), "iter": 7}
    torch.save(saved, tmp_path / "last.pth", _use_new_zipfile_serialization=FORMATS[kind])
    expected = module.state_dict()
    del sys.modules["DualNet"]
    container = read_tensors(tmp_path / "last.pth")
    assert "DualNet" not in sys.modules
    assert container.container == "model"
    assert container.metadata["iter"] == "7"
    assert_same(container.tensors, expected)
    assert list(container.tensors) == list(expected)


def test_a_module_saved_by_itself_is_read(tmp_path, foreign_module):
    torch.save(foreign_module, tmp_path / "net.pt")
    assert_same(read_tensors(tmp_path / "net.pt").tensors, foreign_module.state_dict())


# -- containers ------------------------------------------------------------------------------------------------------


def test_plain_weights_come_before_their_average_and_a_key_chooses(tmp_path):
    state = {"w": torch.ones(1)}
    torch.save({"model_ema": {"w": torch.zeros(1)}, "model": state, "epoch": 3}, tmp_path / "a.pth")
    container = read_tensors(tmp_path / "a.pth")
    assert (container.container, container.alternatives) == ("model", ("model_ema",))
    assert_same(container.tensors, state)
    assert read_tensors(tmp_path / "a.pth", key="model_ema").tensors["w"] == 0
    with pytest.raises(CheckpointError, match=r"no state dict under 'model_em'. Did you mean model_ema"):
        read_tensors(tmp_path / "a.pth", key="model_em")


@pytest.mark.parametrize("key", CONTAINER_KEYS)
def test_known_containers_come_before_tensors_beside_them(tmp_path, key):
    torch.save({"mean": torch.zeros(3), key: {"w": torch.ones(1)}}, tmp_path / "a.pth")
    assert read_tensors(tmp_path / "a.pth").container == key


def test_the_only_unknown_container_is_taken_and_several_are_named(tmp_path):
    torch.save({"voxel": {"w": torch.ones(1)}, "epoch": 1}, tmp_path / "a.pth")
    assert read_tensors(tmp_path / "a.pth").container == "voxel"
    torch.save({"voxel": {"w": torch.ones(1)}, "range": {"w": torch.ones(1)}}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"several state dicts \(range, voxel\)"):
        read_tensors(tmp_path / "b.pth")
    assert read_tensors(tmp_path / "b.pth", key="range").container == "range"


def test_what_stands_beside_the_state_dict_does_not_stop_the_reading(tmp_path):
    beside = {
        "args": argparse.Namespace(lr=np.float64(0.1), out=pathlib.PurePosixPath("x"), when=datetime.date(2030, 1, 1)),
        "config": collections.defaultdict(list, a=[1]),
        "norm": functools.partial(nn.LayerNorm, eps=1e-6),
        "rng": np.random.RandomState(0).get_state(),
        "device": torch.device("cuda:0"),
        "dtype": torch.float16,
        "epochs": range(3),
    }
    torch.save({"state_dict": {"w": torch.ones(2), "note": "text"}, **beside}, tmp_path / "a.pth")
    container = read_tensors(tmp_path / "a.pth")
    assert_same(container.tensors, {"w": torch.ones(2)})
    assert set(beside) <= set(container.metadata)
    assert read_metadata(tmp_path / "a.pth") == container.metadata


@pytest.mark.parametrize("protocol", [2, 5])
def test_pickled_arrays_become_tensors(tmp_path, protocol):
    arrays = {"stem.conv1.weight": np.arange(6, dtype=">f4").reshape(2, 3), "__author__": "x"}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "y"}, protocol))
    container = read_tensors(tmp_path / "model_final.pkl")
    assert container.format == "pickle"
    assert_same(container.tensors, {"stem.conv1.weight": torch.arange(6.0).reshape(2, 3)})


# -- pickled data sets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_plain_containers_and_arrays_come_back_equal(tmp_path, protocol):
    data = {
        "array": np.arange(6.0).reshape(2, 3).T,
        "text array": np.array(["a", "bcd"]),
        "big-endian": np.arange(3, dtype=">i4"),
        "scalar": np.uint8(4),
        "bytes": b"ab\xff",
        "no bytes": b"",
        "nested": [1, 2**70, None, True, "é", (1.5, {"k": (1, 2)})],
        "set": {1, 2},
        "frozen": frozenset(["a"]),
        "complex": 1 + 2j,
        "ordered": collections.OrderedDict(a=1),
        "counter": collections.Counter("aab"),
        "queue": collections.deque([1, 2]),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
    read = read_pickle(tmp_path / "a.pkl")
    assert list(read) == list(data)
    for key, value in data.items():
        expected = list(value) if key == "queue" else value
        assert np.array_equal(read[key], expected) if isinstance(expected, np.ndarray) else read[key] == expected, key
    assert isinstance(read["scalar"], np.uint8)


def test_a_tuple_that_holds_itself_comes_back(tmp_path):
    endless = ([],)
    endless[0].append(endless)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(endless))
    read = read_pickle(tmp_path / "a.pkl")
    assert read[0][0] is read


def test_a_tensor_pickled_without_torch_save_is_read(tmp_path):
    tensor = torch.randn(5, 1, 96, 64)
    (tmp_path / "log_mel.pkl").write_bytes(pickle.dumps({"x": tensor, "twice": [tensor[1], tensor]}))
    read = read_pickle(tmp_path / "log_mel.pkl")
    assert torch.equal(read["x"], tensor)
    assert torch.equal(read["twice"][0], tensor[1])


def test_cifars_python_2_batches_are_read(tmp_path):
    """Python 2's protocol 2 as its pickle module wrote it: byte strings for keys, file names and the array's bytes."""
    pixels = bytes(range(250, 256)) + bytes(6)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(K\x02K\x06tcnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x0c" + pixels + b"tb"
    )
    batch = b"\x80\x02}(U\x04data" + array + b"U\x06labels](K\x06K\x09eU\x09filenames](U\x05a.pngU\x05b.pngeu."
    assert pickle.loads(batch, encoding="latin1")["data"].shape == (2, 6)
    (tmp_path / "data_batch_1").write_bytes(batch)
    read = read_pickle(tmp_path / "data_batch_1")
    assert read["data"].tobytes() == pixels
    assert (read["data"].shape, read["data"].dtype) == ((2, 6), np.uint8)
    assert (read["labels"], read["filenames"]) == ([6, 9], ["a.png", "b.png"])


def test_objects_of_other_classes_become_records(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(argparse.Namespace(lr=0.1)))
    read = read_pickle(tmp_path / "a.pkl")
    assert isinstance(read, Record)
    assert (read.type, read.state) == ("argparse.Namespace", {"lr": 0.1})


# -- files that are none ---------------------------------------------------------------------------------------------


def test_a_checkpoint_in_several_files_is_read_from_their_folder(tmp_path, tensors):
    half = len(tensors) // 2
    torch.save(dict([*tensors.items()][:half]), tmp_path / "a.pth")
    torch.save({"state_dict": dict([*tensors.items()][half:])}, tmp_path / "b.pth")
    (tmp_path / "README.md").write_text("none of them")
    container = read_tensors(tmp_path)
    assert_same(container.tensors, tensors)
    assert container.format == "2 files: a.pth, b.pth"
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("a.pth", "b.pth")]
    assert container.sha256 == hashlib.sha256(b"".join(digests)).hexdigest()
    assert read_metadata(tmp_path) == {}


def test_files_of_a_folder_that_are_no_parts_of_one_checkpoint_are_told(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder without checkpoint files"):
        read_tensors(tmp_path)
    for name in ("epoch1.pth", "epoch2.pth"):
        torch.save({"weight": torch.ones(2)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"epoch2.pth and another file of its folder both hold weight"):
        read_tensors(tmp_path)


def test_a_missing_file_is_told_with_its_neighbours(tmp_path):
    (tmp_path / "best.ckpt").touch()
    with pytest.raises(CheckpointError, match=r"bset.ckpt does not exist. Did you mean best.ckpt\?"):
        read_tensors(tmp_path / "bset.ckpt")
    with pytest.raises(CheckpointError, match=r"Neither does its folder .*nowhere\."):
        read_tensors(tmp_path / "nowhere" / "best.ckpt")
    with pytest.raises(DataError, match="does not exist"):
        read_pickle(tmp_path / "data_batch_1")


def test_a_folder_and_a_pipe_are_no_files(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        read_tensors(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="no regular file"):
        read_tensors(tmp_path / "pipe")


def test_a_forbidden_file_is_told(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"x")

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", forbidden)  # a mode of 000 does not stop root
    with pytest.raises(CheckpointError, match=r"a.pth cannot be read: Permission denied\."):
        read_tensors(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is no file of a kind that is read here"),
        (b"GIF89a" + bytes(50), "is broken, cut short, or not of a kind that is read here"),
        (b"<!DOCTYPE html><html>quota exceeded</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "is a web page or a Git LFS pointer"),
        (pickle.dumps({"epoch": 3}), "holds no tensors"),
        (pickle.dumps([1, 2]), "holds no tensors"),
        (pickle.dumps("text"), "holds no tensors"),
    ],
)
def test_what_is_no_checkpoint_is_told(tmp_path, content, message):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"a.pth {message}"):
        read_tensors(tmp_path / "a.pth")
