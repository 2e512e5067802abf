"""Reads pickles without running anything: the standard library decodes the opcodes, we carry them out.

A pickle is a small program whose dangerous instructions are "find this name", "call it" and "make an object of it".
Here a found name stays a name, calls reach only the functions of :mod:`zoo.core.rebuilding`, and objects of foreign
classes become inert records. It is not `torch.load(weights_only=True)`, since that allocates what a file asks for
(60 bytes are enough for gigabytes) and reads no whole-module pickles; and one strict reader needs no second, laxer try.
"""

from __future__ import annotations

import io
import mmap
import pickletools
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from zoo.core.rebuilding import (
    BrokenFile,
    Name,
    NamesCode,
    Record,
    Storage,
    View,
    build,
    call,
    make_object,
    make_set,
    put,
    storage_dtype,
)

Stream = io.BytesIO | mmap.mmap
"""What is read from: of both, `read(n)` gives what is there and never allocates the n that a file claims."""

_LITERALS = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    ]
)
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


class Interpreter:
    """Carries out one pickle.

    Args:
        stream: read from where it stands, up to the pickle's end.
        persistent: gives the object that the pickle refers to by this id, outside of itself.
        eager: rebuild tensors at once; otherwise they stay :class:`~zoo.core.rebuilding.View`, to be read on demand.
    """

    def __init__(self, stream: Stream, persistent: Callable[[Any], Any] | None = None, eager: bool = False) -> None:
        self._stream = stream
        self._persistent = persistent
        self._eager = eager
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the pickle describes.

        Raises:
            NamesCode: if it wants code to run.
            Exception: any other, if it is no well-formed pickle.
        """
        for opcode, argument, _ in pickletools.genops(self._stream):
            if opcode.name in _LITERALS:
                self._stack.append(argument)
            else:
                self._step(opcode.name, argument)
        return self._stack.pop()

    def _step(self, opcode: str, argument: Any) -> None:
        stack = self._stack
        match opcode:
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "MARK":
                self._outer.append(stack)
                self._stack = []
            case "TUPLE":
                items = self._since_mark()
                self._stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(reversed([stack.pop() for _ in range(int(opcode[-1]))])))
            case "SETITEM" | "SETITEMS":
                items = self._since_mark() if opcode == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
                self._set_items(self._stack[-1], items)
            case "APPEND" | "APPENDS":
                items = self._since_mark() if opcode == "APPENDS" else [stack.pop()]
                target = self._stack[-1]
                (target.items if isinstance(target, Record) else _as(list, target)).extend(items)
            case "ADDITEMS":
                items = self._since_mark()
                _as(set, self._stack[-1]).update(make_set(items))
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_SET":
                stack.append(set())
            case "FROZENSET":
                items = self._since_mark()
                self._stack.append(frozenset(make_set(items)))
            case "LIST":
                items = self._since_mark()
                self._stack.append(items)
            case "DICT":
                items = self._since_mark()
                self._stack.append({})
                self._set_items(self._stack[-1], items)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode == "NEWTRUE")
            case "GLOBAL":
                module, _, qualname = argument.partition(" ")
                stack.append(Name(_OLD_MODULES.get(module, module), qualname))
            case "STACK_GLOBAL":
                qualname, module = _as(str, stack.pop()), _as(str, stack.pop())
                stack.append(Name(_OLD_MODULES.get(module, module), qualname))
            case "REDUCE":
                args, function = _as(tuple, stack.pop()), stack.pop()
                stack.append(self._call(function, args))
            case "NEWOBJ":
                args, cls = _as(tuple, stack.pop()), stack.pop()
                stack.append(make_object(_as(Name, cls), args))
            case "NEWOBJ_EX":
                kwargs, args, cls = stack.pop(), _as(tuple, stack.pop()), stack.pop()
                stack.append(make_object(_as(Name, cls), (*args, kwargs)))
            case "BUILD":
                state = stack.pop()
                build(stack[-1], state)
            case "INST":
                raise NamesCode(argument.replace(" ", "."))
            case "OBJ":
                raise NamesCode(str(_as(Name, self._since_mark()[0])))
            case "BINPERSID":
                if self._persistent is None:
                    raise BrokenFile("refers to objects that are not in it.")
                stack.append(self._persistent(stack.pop()))
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._since_mark()
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                raise BrokenFile(
                    f"is no file of a kind that is read here, or uses what no such file needs (pickle's {opcode})."
                )

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _set_items(self, target: Any, items: list[Any]) -> None:
        mapping = target.entries if isinstance(target, Record) else _as(dict, target)
        for key, value in zip(items[::2], items[1::2], strict=True):
            put(mapping, key, value)

    def _call(self, function: Any, args: tuple[Any, ...]) -> Any:
        if str(_as(Name, function)) == "torch.storage._load_from_bytes":
            return read_stream(io.BytesIO(_as(bytes, *args)))[0]
        made = call(function, args)
        return made.tensor() if self._eager and isinstance(made, View) else made


def _as(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise BrokenFile(f"is no well-formed pickle: a {type(value).__name__} stands where a {kind.__name__} should.")
    return value


def read_stream(stream: Stream, eager: bool = False) -> tuple[Any, str]:
    """Read a plain pickle, or what torch.save wrote before it wrote zip archives.

    Returns:
        The object, and "pickle" or "torch legacy".

    Raises:
        NamesCode, BrokenFile, Exception: as :meth:`Interpreter.run`.
    """
    first = Interpreter(stream, eager=eager).run()
    if not isinstance(first, int) or first != _TORCH_MAGIC:
        return first, "pickle"
    version, system = Interpreter(stream).run(), Interpreter(stream).run()
    if version != 1001 or not system["little_endian"]:
        raise BrokenFile("was written by a torch whose files are not read here.")
    start = stream.tell()
    storages: dict[Any, Storage] = {}
    root = Interpreter(stream, partial(_legacy_storage, storages)).run()
    _locate(stream, storages, Interpreter(stream).run())
    if eager:  # the numbers come after the object: only now are they known
        stream.seek(start)
        root = Interpreter(stream, partial(_legacy_storage, storages), eager=True).run()
    return root, "torch legacy"


def _legacy_storage(storages: dict[Any, Storage], identity: Any) -> Any:
    kind, *facts = _as(tuple, identity)
    if kind == "module":
        return facts[0]
    storage_class, key, _device, numel, view = facts
    if kind != "storage" or view is not None:
        raise BrokenFile("holds a kind of tensor that is not read here.")
    return shared_storage(storages, storage_class, key, numel)


def shared_storage(storages: dict[Any, Storage], storage_class: Any, key: Any, numel: Any) -> Storage:
    """The storage with this key: the one named before, or a new one."""
    dtype = storage_dtype(storage_class)
    if _as(int, numel) < 0:
        raise BrokenFile("holds a storage of a negative size.")
    storage = storages.setdefault(_as(str, key), Storage(dtype, numel))
    if (storage.dtype, storage.numel) != (dtype, numel):
        raise BrokenFile(f"describes the storage {key[:80]!r} twice and differently.")
    return storage


def _locate(stream: Stream, storages: dict[Any, Storage], keys: list[Any]) -> None:
    """Find where each storage's numbers lie: they follow the pickles one by one, each after its count."""
    for key in _as(list, keys):
        storage = storages[_as(str, key)]
        (numel,) = struct.unpack("<q", stream.read(8))
        begin, length = stream.tell(), storage.numel * storage.dtype.itemsize
        end = stream.seek(0, io.SEEK_END) or stream.tell()
        if numel != storage.numel or begin + length > end or storage.read is not None:
            raise BrokenFile("is cut short or its sizes disagree.")
        storage.read = partial(_read_at, stream, begin, length)
        stream.seek(begin + length)


def _read_at(stream: Stream, begin: int, length: int) -> bytearray:
    here = stream.tell()  # the pickle is still being read from there
    stream.seek(begin)
    data = bytearray(stream.read(length))
    stream.seek(here)
    return data
