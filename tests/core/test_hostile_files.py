"""Files made to do harm: nothing in them runs, nothing allocates what they claim, each ends in one clear error."""

import contextlib
import io
import json
import pickle
import random
import resource
import struct
import sys
import types
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from zoo.core.errors import CheckpointError, DataError
from zoo.core.reading import read_metadata, read_pickle, read_tensors


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def attacks(command: str) -> dict[str, bytes]:
    """Pickles that run `command` when Python loads them."""
    import importlib
    import os

    system = Calls(os.system, command)
    run = f"import os; os.system({command!r})"
    partial_tensor = b"ctorch._utils\n_rebuild_parameter\n"
    return {
        "called, protocol 2": pickle.dumps({"state_dict": {"w": system}}, 2),
        "called, protocol 5": pickle.dumps([system], 5),
        "called, protocol 0": pickle.dumps(system, 0),
        "exec": pickle.dumps(Calls(exec, run)),
        "eval": pickle.dumps(Calls(eval, f"__import__('os').system({command!r})")),
        "getattr of an imported module": b"c__builtin__\ngetattr\n(cimportlib\nimport_module\n("
        + text("os")
        + b"tR"
        + text("system")
        + b"tR("
        + text(command)
        + b"tR.",
        "as an argument": pickle.dumps(Calls(dict, [("a", system)])),
        "as a state": pickle.dumps(Calls(types.SimpleNamespace, state={"a": system})),
        "as a dictionary's key": pickle.dumps({Calls(os.system, command): 1}),
        "as a new object's argument": b"\x80\x02cargparse\nNamespace\n(cos\nsystem\n(" + text(command) + b"tRt\x81.",
        "INST": b"(" + text(command) + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + text(command) + b"o.",
        "state setter replaced": b"\x80\x02cargparse\nNamespace\n)\x81}"
        + text("__setstate__")
        + b"cos\nsystem\nsb"
        + text(command)
        + b"b.",
        "within a tensor rebuilder": b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\ncos\nsystem\n("
        + text(command)
        + b"t}tR.",
        "within a storage's bytes": pickle.dumps(
            Calls(torch.storage._load_from_bytes, legacy(pickle.dumps(system, 2)))
        ),
        "numpy's test runner": pickle.dumps(Calls(numpy_runstring(), run, {})),
        "in a parameter": partial_tensor + b"(cos\nsystem\n(" + text(command) + b"tRI01\n}tR.",
        "OBJ of a foreign name": b"(cthis_module_was_imported\nRun\no.",
        "by import": pickle.dumps(Calls(importlib.import_module, "this_module_was_imported")),
    }


def numpy_runstring():
    from numpy.testing._private.utils import runstring

    return runstring


def legacy(data: bytes) -> bytes:
    """What torch.save wrote before 1.6, around a pickle."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    return b"".join(pickle.dumps(part, 2) for part in head) + data + pickle.dumps([], 2)


def archive(members: dict[str, bytes] | list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items() if isinstance(members, dict) else members:
            file.writestr(name, data)
    return buffer.getvalue()


def overstated() -> bytes:
    """An archive whose directory claims more for a member than the file has."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a/data.pkl", tensor_pickle(1 << 30, (1 << 30,), (1,)))
        file.writestr("a/data/0", bytes(16))
        file.filelist[1].file_size = file.filelist[1].compress_size = 1 << 31
    return buffer.getvalue()


def in_zip(data: bytes) -> bytes:
    return archive({"archive/data.pkl": data, "archive/byteorder": b"little", "archive/version": b"3\n"})


COMMAND = "touch sentinel"
ENVELOPES = {"pickle": bytes, "torch zip": in_zip, "torch legacy": legacy}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "this_module_was_imported.py").write_text("open('sentinel', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("this_module_was_imported", None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", attacks(COMMAND))
def test_the_attacks_work_on_python_itself(name):
    with contextlib.suppress(TypeError, AttributeError, pickle.UnpicklingError, ValueError):  # after the harm is done
        torch.load(io.BytesIO(in_zip(attacks(COMMAND)[name])), weights_only=False)
    assert Path("sentinel").exists()


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("name", attacks(COMMAND))
def test_code_is_refused_and_nothing_runs(name, envelope):
    Path("old.pth").write_bytes(ENVELOPES[envelope](attacks(COMMAND)[name]))
    message = (
        r"^old.pth names code to run on loading \(\w+(\.\w+)+\). Nothing was run and nothing imported. Ask its author"
    )
    with pytest.raises(CheckpointError, match=message + " for a plain state dict.$"):
        read_tensors("old.pth")
    with pytest.raises(CheckpointError, match=message):
        read_metadata("old.pth")
    with pytest.raises(DataError, match=message + " for plain arrays.$"):
        read_pickle("old.pth")
    assert not Path("sentinel").exists()
    assert "this_module_was_imported" not in sys.modules


def test_the_refused_function_is_named():
    Path("old.pth").write_bytes(attacks(COMMAND)["exec"])
    with pytest.raises(CheckpointError, match=r"\(builtins.exec\)"):
        read_tensors("old.pth")


def test_code_beside_a_good_state_dict_is_refused():
    import os

    torch.save({"state_dict": {"w": torch.ones(1)}, "extra": Calls(os.system, COMMAND)}, "old.pth")
    with pytest.raises(CheckpointError, match="names code"):
        read_tensors("old.pth")
    assert not Path("sentinel").exists()


def test_constructors_of_foreign_classes_do_not_run():
    """A foreign class is a record, even if it could be imported here and its making does harm."""
    module = types.ModuleType("research_code")
    exec("class Net:\n    def __new__(cls, *a): open('sentinel', 'w'); return object.__new__(cls)", module.__dict__)
    module.Net.__module__ = "research_code"
    sys.modules["research_code"] = module
    try:
        torch.save({"w": torch.ones(1), "net": object.__new__(module.Net)}, "old.pth")
        assert read_tensors("old.pth").tensors.keys() == {"w"}
    finally:
        del sys.modules["research_code"]
    assert not Path("sentinel").exists()


# -- sizes that lie --------------------------------------------------------------------------------------------------


def tensor_pickle(numel: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A tensor over the storage "0", as torch writes it in a zip archive."""

    here = object()

    class Writer(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if thing is here else None

    buffer = io.BytesIO()
    rebuilt = Calls(torch._utils._rebuild_tensor_v2, here, offset, shape, stride, False, {})
    Writer(buffer, 2).dump({"w": rebuilt})
    return buffer.getvalue()


def with_storage(data: bytes, storage: bytes = bytes(16)) -> bytes:
    return archive({"archive/data.pkl": data, "archive/data/0": storage})


NESTED_TUPLE = b"N" + b"\x85" * 300_000
BOMBS = {
    "storage larger than its bytes": (with_storage(tensor_pickle(1 << 40, (1 << 40,), (1,))), "cut short: 16 bytes"),
    "shape beyond the storage": (with_storage(tensor_pickle(4, (5,), (1,))), r"shape \[5\] over 4 numbers"),
    "huge shape": (with_storage(tensor_pickle(4, (1 << 40,), (1,))), r"shape \[1099511627776\] over 4 numbers"),
    "stride beyond the storage": (with_storage(tensor_pickle(4, (2, 2), (3, 1))), r"shape \[2, 2\] over 4 numbers"),
    "offset beyond the storage": (with_storage(tensor_pickle(4, (1,), (1,), 4)), r"shape \[1\] over 4 numbers"),
    "repeated numbers": (with_storage(tensor_pickle(4, (1 << 20, 2), (0, 0))), r"shape \[1048576, 2\] over 4 numbers"),
    "too many dimensions": (with_storage(tensor_pickle(4, (1,) * 99, (1,) * 99)), r"shape \[1, 1, .* over 4 numbers"),
    "negative stride": (with_storage(tensor_pickle(4, (2,), (-1,), offset=3)), "an impossible shape"),
    "negative offset": (with_storage(tensor_pickle(4, (1,), (1,), offset=-1)), "an impossible shape"),
    "fewer strides than sizes": (with_storage(tensor_pickle(4, (1, 1), (1,))), "an impossible shape"),
    "negative size": (with_storage(tensor_pickle(-4, (1,), (1,))), "a storage of a negative size"),
    "no storage": (in_zip(tensor_pickle(4, (4,), (1,))), "lacks the numbers of a tensor"),
    "zeros by the gigabyte": (
        in_zip(b"cbuiltins\nbytearray\n\x8a\x05" + (1 << 34).to_bytes(5, "little") + b"\x85R."),
        "bytes written in an unknown way",
    ),
    "memo index": (b"}r\xff\xff\xff\xff.", "holds no tensors"),
    "text length": (b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"abc.", "expected 1099511627776 bytes"),
    "bytes length": (b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"abc.", "expected 1099511627776 bytes"),
    "array shape": (
        b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n(U\x02u1tR(I1099511627776\ntU\x01CtR.",
        r"array of shape \[1099511627776\] in 1 bytes",
    ),
    "array of objects": (
        b"cnumpy.core.numeric\n_frombuffer\n(C\x08aaaaaaaacnumpy\ndtype\n(U\x02O8tR(I1\ntU\x01CtR.",
        "array of Python objects",
    ),
    "key nested without end": (b"}" + NESTED_TUPLE + b"Ns.", "a key that no checkpoint has"),
    "set item nested without end": (b"\x80\x04\x8f(" + NESTED_TUPLE + b"\x90.", "a key that no checkpoint has"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_absurd_sizes_are_refused_rather_than_allocated(name):
    content, message = BOMBS[name]
    Path("bomb.pth").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=rf"^bomb\.pth .*{message}"):
        read_tensors("bomb.pth")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"


def test_marks_that_change_a_tensors_values_are_not_ignored():
    torch.save({"w": torch.ones(2, dtype=torch.complex64).conj()}, "conjugated.pth")
    with pytest.raises(CheckpointError, match="a kind of tensor that is not read here"):
        read_tensors("conjugated.pth")


def test_unusual_tensors_are_told_apart_from_code():
    torch.save({"w": torch.eye(3).to_sparse()}, "sparse.pth")
    with pytest.raises(
        CheckpointError, match=r"kind of tensor that is not read here \(torch._utils._rebuild_sparse_ten"
    ):
        read_tensors("sparse.pth")


def test_a_storage_described_twice_and_differently_is_refused():
    first, second = tensor_pickle(4, (4,), (1,)), tensor_pickle(2, (2,), (1,))
    Path("odd.pth").write_bytes(with_storage(b"\x80\x02(" + first[2:-1] + second[2:-1] + b"l."))
    with pytest.raises(CheckpointError, match="describes the storage '0' twice"):
        read_tensors("odd.pth")


@pytest.mark.parametrize("numel", [-1, 3, 5, 1 << 40])
def test_counts_of_old_files_that_lie_are_refused(numel):
    torch.save({"w": torch.arange(4.0)}, "old.pth", _use_new_zipfile_serialization=False)
    data = Path("old.pth").read_bytes()
    numbers = torch.arange(4.0).numpy().tobytes()
    assert data.endswith((4).to_bytes(8, "little") + numbers)
    Path("old.pth").write_bytes(data[:-24] + numel.to_bytes(8, "little", signed=True) + numbers)
    with pytest.raises(CheckpointError, match="is cut short or its sizes disagree"):
        read_tensors("old.pth")
    Path("old.pth").write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match="is cut short or its sizes disagree"):
        read_tensors("old.pth")


def nested_modules(times: int, levels: int) -> bytes:
    """Modules that hold the next level `times` times over: times ** levels tensors in 40 bytes per level."""
    module = nn.Linear(1, 1)
    for _ in range(levels):
        outer = nn.Module()
        for number in range(times):
            outer._modules[str(number)] = module
        module = outer
    buffer = io.BytesIO()
    torch.save({"model": module}, buffer)
    return buffer.getvalue()


def test_modules_that_multiply_or_hold_themselves_are_refused():
    Path("bomb.pth").write_bytes(nested_modules(times=4, levels=40))
    with pytest.raises(CheckpointError, match="nested beyond all measure"):
        read_tensors("bomb.pth")
    endless = nn.Linear(1, 1)
    endless._modules["self"] = endless
    torch.save({"model": endless}, "bomb.pth")
    with pytest.raises(CheckpointError, match="nested beyond all measure"):
        read_tensors("bomb.pth")


# -- archives and headers that lie -----------------------------------------------------------------------------------

GOOD = tensor_pickle(4, (4,), (1,))
ARCHIVES = {
    "a name stands twice": archive([("a/data.pkl", GOOD), ("a/data/0", bytes(16)), ("a/data/0", b"\1" * 16)]),
    "would leave its folder": archive({"a/data.pkl": GOOD, "a/data/0": bytes(16), "a/../../sentinel": b"x"}),
    "would leave its folder .*/sentinel": archive({"a/data.pkl": GOOD, "a/data/0": bytes(16), "/sentinel": b"x"}),
    "compressed": archive({"a/data.pkl": GOOD, "a/data/0": bytes(16)}, zipfile.ZIP_DEFLATED),
    "none that torch.save wrote": archive({"readme.txt": b"hello"}),
    "none that torch.save wrote$|none that torch.save wrote.": archive({"a/data.pkl": GOOD, "b/data.pkl": GOOD}),
    "TorchScript": archive({"a/data.pkl": GOOD, "a/constants.pkl": b""}),
    "big-endian": archive({"a/data.pkl": GOOD, "a/data/0": bytes(16), "a/byteorder": b"big"}),
    "its parts claim more bytes than it has": overstated(),
    "cut short": archive({"a/data.pkl": GOOD, "a/data/0": bytes(12)}),
}


@pytest.mark.parametrize("message", ARCHIVES)
def test_odd_archives_are_refused(message):
    Path("odd.pth").write_bytes(ARCHIVES[message])
    with pytest.raises(CheckpointError, match=f"^odd.pth .*({message})"):
        read_tensors("odd.pth")
    assert not Path("sentinel").exists()


def test_the_archive_without_oddities_is_read():
    Path("good.pth").write_bytes(with_storage(GOOD))
    assert torch.equal(read_tensors("good.pth").tensors["w"], torch.zeros(4))


def test_a_key_set_twice_is_refused():
    Path("twice.pkl").write_bytes(b"}(" + text("w") + b"K\1" + text("w") + b"K\2u.")
    with pytest.raises(CheckpointError, match="sets the key 'w' twice"):
        read_tensors("twice.pkl")


def safetensors_file(header: bytes, data: bytes = bytes(4), length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "header claims 999 bytes": safetensors_file(json.dumps({"w": ENTRY}).encode(), length=999),
    f"header claims {2**60} bytes": safetensors_file(b"{}", length=2**60),
    "a name stands twice": safetensors_file(f'{{"w": {json.dumps(ENTRY)}, "w": {json.dumps(ENTRY)}}}'.encode()),
    "broken .*beyond": safetensors_file(json.dumps({"w": ENTRY | {"data_offsets": [0, 400], "shape": [100]}}).encode()),
    "broken .*shape": safetensors_file(json.dumps({"w": ENTRY | {"shape": [1 << 40]}}).encode()),
    "broken .*JSON": safetensors_file(b"{nothing}"),
    "broken .*nesting": safetensors_file(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "metadata are no texts": safetensors_file(json.dumps({"__metadata__": {"a": 1}, "w": ENTRY}).encode()),
}


@pytest.mark.parametrize("message", HEADERS)
def test_headers_that_lie_are_refused(message):
    Path("odd.safetensors").write_bytes(HEADERS[message])
    with pytest.raises(CheckpointError, match=r"^odd.safetensors .*broken"):
        read_tensors("odd.safetensors")
    if "broken" not in message:
        with pytest.raises(CheckpointError, match=message):
            read_tensors("odd.safetensors")


# -- damaged files ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("intact")
    draw = torch.Generator().manual_seed(0)
    state = {f"layer{i}.weight": torch.randn(i + 1, 5, generator=draw) for i in range(6)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "new.pth")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))}, folder / "whole.pth")
    safetensors.torch.save_file(state, folder / "a.safetensors")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


NAMES = ["a.safetensors", "new.pth", "old.pth", "whole.pth"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_told(intact, name, share):
    data = intact[name]
    Path(name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=rf"^{name} .*(broken|cut short|not a zip)"):
        read_tensors(name)


def test_a_changed_number_is_noticed_where_the_format_has_checksums(intact):
    data = intact["new.pth"]
    position = data.index(torch.randn(1, 5, generator=torch.Generator().manual_seed(0)).numpy().tobytes())
    Path("new.pth").write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
    with pytest.raises(CheckpointError, match=r"^new.pth is broken.*CRC"):
        read_tensors("new.pth")


def damaged(data: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, a part zeroed, cut out or repeated; half of the time where the structure is dense."""
    damaged = bytearray(data)
    kind = draw.choice(["flip", "flip", "flip", "zero", "cut", "remove", "repeat"])
    at = draw.randrange(len(data))
    length = draw.choice([1, 4, 64, 512])
    if kind == "flip":
        for _ in range(draw.choice([1, 1, 2, 8])):
            damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "zero":
        damaged[at : at + length] = bytes(min(length, len(data) - at))
    elif kind == "cut":
        del damaged[at:]
    elif kind == "remove":
        del damaged[at : at + length]
    else:
        damaged[at:at] = data[at : at + length]
    return bytes(damaged)


@pytest.mark.parametrize("name", NAMES)
def test_damage_ends_in_tensors_or_in_one_clear_error(intact, name):
    draw = random.Random(name)
    read, messages = 0, []
    for number in range(100):
        Path(name).write_bytes(damaged(intact[name], draw))
        try:
            tensors = read_tensors(name).tensors
        except CheckpointError as error:
            messages.append(str(error))
        else:
            read += 1
            assert all(isinstance(float(value.double().sum()), float) for value in tensors.values()), number
    assert 0 < read < 100
    assert all(message.startswith(name) and len(message) < 500 for message in messages)
