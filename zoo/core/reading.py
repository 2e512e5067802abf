"""Reading files that others made: checkpoints of every common kind, and pickled data sets. Nothing in them is run.

A file's kind is found by looking, not by its name: safetensors; a zip archive as torch.save writes; what torch.save
wrote before version 1.6; a plain pickle. Only the tensors that are asked for are read into memory.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from zoo.core.errors import CheckpointError, DataError, ZooError
from zoo.core.names import did_you_mean
from zoo.core.rebuilding import BrokenFile, NamesCode, Record, Storage, View
from zoo.core.restricted_pickle import Interpreter, read_stream, shared_storage

CONTAINER_KEYS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema"),
)
"""Where a state dict is looked for, in this order: what bears the plain name, before moving averages of it. Who wants
the average asks for it by its key."""


@dataclass(frozen=True)
class Container:
    """A checkpoint's tensors and where they came from.

    Args:
        tensors: the state dict, on the CPU.
        sha256: of the file; of a folder, that of its files' hashes in the order of their names.
        format: "safetensors", "torch zip", "torch legacy" or "pickle"; of a folder, the names of its files.
        container: the key that held the state dict; "" if the file is one itself.
        alternatives: other keys that hold a state dict too.
        metadata: what stands beside the tensors, or around them: numbers and texts as text, of all else its type.
    """

    tensors: dict[str, Tensor]
    sha256: str
    format: str
    container: str = ""
    alternatives: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


SUFFIXES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tar")
"""Of the files that make up a checkpoint published in several."""


def read_tensors(path: str | Path, *, key: str | None = None) -> Container:
    """Read a checkpoint; of a folder, all checkpoint files in it together, as where each network has a file of its own.

    A whole pickled module counts as its state dict; arrays become tensors; entries that are neither are left out.
    Without `key`, the state dict is the first of :data:`CONTAINER_KEYS`, else the file itself if it holds tensors, else
    the only entry that does.

    Args:
        path: the file, or the folder.
        key: which entry holds the state dict; "" is the file itself.

    Raises:
        CheckpointError: if the file is missing, broken, no checkpoint, or names code to run; if `key` is not in it; if
            two files of a folder have a tensor of the same name.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, key)
    with _opened(path, CheckpointError, "a plain state dict") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        if _is_safetensors(path, file):
            metadata = _safetensors_metadata(file)
            # Cloned, because they would be the file's own pages, which change when it is overwritten.
            tensors = {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}
            return Container(tensors, sha256, "safetensors", metadata=metadata)
        root, file_format = _unpickled(file)
        candidates = _state_dicts(root)
        chosen = _choose(candidates, key)
        tensors = {name: _as_tensor(value) for name, value in candidates.pop(chosen).items()}
        return Container(tensors, sha256, file_format, chosen, tuple(sorted(candidates)), _facts(root))


def _read_folder(folder: Path, key: str | None) -> Container:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise CheckpointError(f"{folder} is a folder without checkpoint files ({', '.join(SUFFIXES)}).")
    tensors: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for path in paths:
        part = read_tensors(path, key=key)
        if twice := sorted(tensors.keys() & part.tensors.keys()):
            raise CheckpointError(
                f"{path} and another file of its folder both hold {twice[0]}: they are not parts of one checkpoint. "
                "Name the file."
            )
        tensors |= part.tensors
        digest.update(bytes.fromhex(part.sha256))
    return Container(tensors, digest.hexdigest(), f"{len(paths)} files: {', '.join(path.name for path in paths)}")


def read_pickle(path: str | Path) -> Any:
    """Read a pickled data set: plain containers, numbers, texts, arrays, tensors.

    Python 2's byte strings become text by Latin-1, so that `batch["data"]` finds CIFAR's. Objects of other classes
    become a :class:`~zoo.core.rebuilding.Record`.

    Raises:
        DataError: if the file is missing, broken, no pickle, or names code to run.
    """
    with _opened(Path(path), DataError, "plain arrays") as file:
        return _unpickled(file, eager=True)[0]


def read_metadata(path: str | Path) -> Mapping[str, str]:
    """What stands beside the tensors of a checkpoint, as :attr:`Container.metadata`, without reading any tensor.

    Nothing stands beside those of a folder.

    Raises:
        CheckpointError: if the file is missing, broken, or names code to run.
    """
    path = Path(path)
    if path.is_dir():
        return {}
    with _opened(path, CheckpointError, "a plain state dict") as file:
        if _is_safetensors(path, file):
            return _safetensors_metadata(file)
        return _facts(_unpickled(file)[0])


# -- opening ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, error: type[ZooError], harmless: str) -> Iterator[BinaryIO]:
    """Open a file for reading; whatever goes wrong inside becomes one `error` that names it."""
    try:
        if not path.exists():
            raise error(f"{path} does not exist. {_near_files(path)}")
        if not path.is_file():
            raise error(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}; a file is needed.")
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise BrokenFile("is empty.")
            yield file
    except ZooError:
        raise
    except NamesCode as name:
        raise error(
            f"{path} names code to run on loading ({str(name)[:200]}). Nothing was run and nothing imported. "
            f"Ask its author for {harmless}."
        ) from None
    except BrokenFile as reason:
        raise error(f"{path} {reason}") from None
    except OSError as reason:
        raise error(f"{path} cannot be read: {reason.strerror or reason}.") from None
    except Exception as reason:  # a broken file can fail at every byte: in zlib, in json, in struct, in torch
        raise error(
            f"{path} is broken, cut short, or not of a kind that is read here: safetensors, what torch.save wrote, "
            f"or a pickle ({type(reason).__name__}: {str(reason)[:120]})."
        ) from reason


def _near_files(path: Path) -> str:
    if not path.parent.is_dir():
        return f"Neither does its folder {path.parent}."
    return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir() if entry.is_file()])


# -- safetensors -----------------------------------------------------------------------------------------------------


def _is_safetensors(path: Path, file: BinaryIO) -> bool:
    head = file.read(9)
    file.seek(0)
    return path.suffix == ".safetensors" or (head[4:8] == bytes(4) and head[8:] == b"{")


def _safetensors_metadata(file: BinaryIO) -> dict[str, str]:
    """The header's metadata; the header is checked for what the library lets pass, names that stand in it twice."""
    length, size = int.from_bytes(file.read(8), "little"), file.seek(0, 2)
    if not 2 <= length <= min(size - 8, 100_000_000):
        raise BrokenFile(f"is broken: its header claims {length} bytes, and the file has {size}.")
    file.seek(8)
    metadata = json.loads(file.read(length), object_pairs_hook=_unique).get("__metadata__") or {}
    if not all(isinstance(value, str) for value in metadata.values()):
        raise BrokenFile("is broken: its metadata are no texts.")
    return metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise BrokenFile("is broken: a name stands twice in its header.")
    return result


# -- what torch.save and pickle write --------------------------------------------------------------------------------


def _unpickled(file: BinaryIO, eager: bool = False) -> tuple[Any, str]:
    head = file.read(20)
    if head.startswith((b"<", b"version https://git-")):
        raise BrokenFile("is a web page or a Git LFS pointer: the download did not fetch the file itself.")
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(file, eager), "torch zip"
    return read_stream(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), eager)


def _read_zip(file: BinaryIO, eager: bool) -> Any:
    archive = zipfile.ZipFile(file)
    members = {member.filename: member for member in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise BrokenFile("is broken: a name stands twice in its archive.")
    for name, member in members.items():
        if ".." in name.split("/") or name.startswith("/") or "\\" in name:
            raise BrokenFile(f"holds a file that would leave its folder ({name[:80]}); no checkpoint does.")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise BrokenFile("is a compressed archive, which torch.save does not write; unpack it first.")
    if sum(member.file_size for member in members.values()) > file.seek(0, 2):
        raise BrokenFile("is broken: its parts claim more bytes than it has.")
    roots = [name.removesuffix("data.pkl") for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(roots) != 1:
        raise BrokenFile("is a zip archive, but none that torch.save wrote.")
    [root] = roots
    if f"{root}constants.pkl" in members:
        raise BrokenFile("is a TorchScript program; ask its author for the state dict.")
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise BrokenFile("was written on a big-endian machine, whose files are not read here.")

    storages: dict[Any, Storage] = {}

    def persistent(identity: tuple[Any, ...]) -> Storage:
        kind, storage_class, key, _device, numel = identity
        storage = shared_storage(storages, storage_class, key, numel)
        if kind != "storage" or f"{root}data/{key}" not in members:
            raise BrokenFile("is broken: it lacks the numbers of a tensor.")
        storage.read = partial(_member, archive, members[f"{root}data/{key}"])
        return storage

    return Interpreter(BytesIO(archive.read(f"{root}data.pkl")), persistent, eager).run()


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    data = bytearray(member.file_size)
    with archive.open(member) as stored:
        stored.readinto(data)
    return data


# -- finding the state dict ------------------------------------------------------------------------------------------


def _state_dicts(root: Any) -> dict[str, dict[str, Any]]:
    """All entries of the file that are state dicts, by key; the file itself is ""."""
    found = {"": _state_dict(root)}
    for key, value in _entries(root).items():
        if isinstance(key, str) and key:
            found[key] = _state_dict(value)
    return {key: values for key, values in found.items() if values}


def _entries(value: Any) -> dict[Any, Any]:
    return value.entries if isinstance(value, Record) else value if isinstance(value, dict) else {}


def _state_dict(value: Any) -> dict[str, Any]:
    """The tensors of a dictionary, or of a module that was pickled whole; empty for everything else."""
    if _is_module(value):
        return _module_state(value)
    return {key: entry for key, entry in _entries(value).items() if isinstance(key, str) and _is_tensor(entry)}


def _is_module(value: Any) -> bool:
    return isinstance(value, Record) and isinstance(value.state, dict) and "_modules" in value.state


def _module_state(root: Record) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pending, visits = [("", root)], 0
    while pending:
        prefix, module = pending.pop()
        visits += 1
        if visits > 100_000 or len(prefix) > 1000:  # a module that holds itself, or multiplies at each level
            raise BrokenFile("holds a module nested beyond all measure.")
        passing = module.state.get("_non_persistent_buffers_set", ())
        for group in ("_parameters", "_buffers"):
            for name, value in module.state.get(group, {}).items():
                if isinstance(name, str) and _is_tensor(value) and (group == "_parameters" or name not in passing):
                    found[f"{prefix}{name}"] = value
        children = [(name, child) for name, child in module.state["_modules"].items() if isinstance(name, str)]
        pending += [(f"{prefix}{name}.", child) for name, child in reversed(children) if _is_module(child)]
    return found


def _is_tensor(value: Any) -> bool:
    return isinstance(value, View) or (isinstance(value, np.ndarray) and value.dtype.kind in "?biufc")


def _as_tensor(value: View | np.ndarray) -> Tensor:
    if isinstance(value, View):
        return value.tensor()
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))


def _choose(candidates: Mapping[str, Any], key: str | None) -> str:
    if key is not None:
        if key not in candidates:
            raise BrokenFile(f"holds no state dict under {key!r}. {did_you_mean(key, candidates)}")
        return key
    for known in (*CONTAINER_KEYS, ""):
        if known in candidates:
            return known
    if len(candidates) > 1:
        raise BrokenFile(f"holds several state dicts ({', '.join(sorted(candidates))}); say which by its key.")
    if not candidates:
        raise BrokenFile("holds no tensors: it is no checkpoint.")
    return next(iter(candidates))


def _facts(root: Any) -> dict[str, str]:
    return {
        key: str(value)[:200] if isinstance(value, str | int | float) else type(value).__name__
        for key, value in _entries(root).items()
        if isinstance(key, str) and not _is_tensor(value)
    }
