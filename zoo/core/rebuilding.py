"""What a pickle may rebuild: tensors, arrays and plain containers. All else becomes an inert record or is refused.

The functions here stand in for those that a pickle names, which are never imported or called. Sizes come from hostile
files, so each is checked against the bytes that are really there before anything is allocated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor


class BrokenFile(ValueError):
    """A file that cannot be read; the message goes on where "<path> " began."""


class NamesCode(ValueError):
    """A pickle wants a function called that is not on the list; the message is its name."""


@dataclass(frozen=True, eq=False)
class Name:
    """A class or function that a pickle names. It is never looked up.

    Raises:
        NamesCode: for what starts programs or changes the interpreter: the name alone would do nothing, but no saved
            model has one, and whoever wrote it meant harm.
    """

    module: str
    qualname: str

    def __post_init__(self) -> None:
        if self.module.split(".")[0] in _HARMFUL_MODULES or str(self) in _HARMFUL_BUILTINS:
            raise NamesCode(str(self))

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname}"


@dataclass(eq=False)
class Record:
    """Stands for an object of a class that is not rebuilt, and does nothing.

    Args:
        type: dotted name of the class, as the pickle has it.
        args: what the object was to be made from.
        state: its attributes, mostly a dictionary.
        entries: what it held, if it was a kind of dictionary.
        items: what it held, if it was a kind of list.
    """

    type: str
    args: tuple[Any, ...] = ()
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Storage:
    """The numbers under one tensor or several, read from the file when first asked for."""

    dtype: torch.dtype
    numel: int
    read: Callable[[], bytearray] | None = None

    @cached_property
    def numbers(self) -> Tensor:
        """All of them, [numel]."""
        data = self.read() if self.read else bytearray()
        if len(data) != self.numel * self.dtype.itemsize:
            raise BrokenFile(f"is cut short: {len(data)} bytes stand for {self.numel} numbers of {self.dtype}.")
        return torch.frombuffer(data, dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class View:
    """A tensor to be: where its numbers lie in a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        sizes = (self.offset, *self.shape, *self.stride)
        if any(type(size) is not int or size < 0 for size in sizes) or len(self.shape) != len(self.stride):
            raise BrokenFile("holds a tensor of an impossible shape.")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        # Expanded buffers repeat their numbers (stride 0): allowed, but not without bound.
        repeats = math.prod(self.shape) > max(self.storage.numel, 1 << 20)
        if len(self.shape) > 32 or repeats or (0 not in self.shape and last >= self.storage.numel):
            raise BrokenFile(f"holds a tensor of shape {list(self.shape[:8])} over {self.storage.numel} numbers.")

    def tensor(self) -> Tensor:
        """The tensor. Tensors over one storage share memory, as they did when they were saved."""
        return self.storage.numbers.as_strided(self.shape, self.stride, self.offset)


def put(mapping: dict[Any, Any], key: Any, value: Any) -> None:
    """Set a key that is new and cheap to hash: hashing a deeply nested tuple would overflow the C stack.

    Raises:
        BrokenFile: if it is not.
    """
    if not _is_key(key):
        raise BrokenFile("holds a dictionary or set with a key that no checkpoint has.")
    if key in mapping:
        raise BrokenFile(f"sets the key {str(key)[:80]!r} twice.")
    mapping[key] = value


def _is_key(key: Any, depth: int = 0) -> bool:
    if type(key) is tuple:
        return depth < 2 and len(key) <= 16 and all(_is_key(part, depth + 1) for part in key)
    return key is None or isinstance(key, str | bytes | int | float | np.generic | Name | Record | View | Tensor)


def make_set(items: list[Any]) -> set[Any]:
    """A set of items that are cheap to hash."""
    if not all(map(_is_key, items)):
        raise BrokenFile("holds a dictionary or set with a key that no checkpoint has.")
    return set(items)


def make_object(name: Name, args: tuple[Any, ...]) -> Any:
    """What `NEWOBJ` gives: an inert record."""
    return {} if str(name) == "collections.OrderedDict" else Record(str(name), args)


def call(name: Name, args: tuple[Any, ...]) -> Any:
    """What `REDUCE` gives: the result of our own function for that name.

    Raises:
        NamesCode: if there is none.
    """
    path = str(name).replace("numpy._core.", "numpy.core.")
    if path in _REBUILDERS:
        return _REBUILDERS[path](*args)
    if path in _PLAIN_OBJECTS:
        return Record(path, args)
    if path.startswith("torch._utils._rebuild_"):
        raise BrokenFile(f"holds a kind of tensor that is not read here ({path}).")
    raise NamesCode(path)


def build(target: Any, state: Any) -> None:
    """What `BUILD` does: give an object its state.

    Raises:
        BrokenFile: if the object takes none, or not this one.
    """
    if isinstance(target, Record):
        target.state = state
    elif isinstance(target, np.ndarray):
        *_, shape, dtype, fortran_order, data = state
        _set_array(target, shape, dtype, fortran_order, data)
    elif not isinstance(target, dict | View):  # attributes of an OrderedDict or of a tensor: nothing that we keep
        raise BrokenFile(f"gives a state to a {type(target).__name__}.")


# -- tensors ---------------------------------------------------------------------------------------------------------

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


def storage_dtype(name: Any) -> torch.dtype:
    """The dtype of a storage class that a pickle names, on whatever device it was."""
    if isinstance(name, Name) and name.module.split(".")[0] == "torch" and name.qualname in _STORAGES:
        return _STORAGES[name.qualname]
    raise BrokenFile("holds a kind of tensor that is not read here.")


def _tensor(storage: Storage, offset: int, shape: Any, stride: Any, *rest: Any) -> View:
    # rest: requires_grad, hooks, and perhaps marks such as "conjugated", which change the values.
    if not isinstance(storage, Storage) or (len(rest) > 2 and rest[2]):
        raise BrokenFile("holds a kind of tensor that is not read here.")
    return View(storage, offset, tuple(shape), tuple(stride))


def _tensor_of_dtype(storage: Storage, offset: int, shape: Any, stride: Any, *rest: Any) -> View:
    """Of the dtypes that have no storage class, such as uint16."""
    _, _, dtype_name, *metadata = rest
    dtype = _DTYPES.get(str(dtype_name)) if isinstance(dtype_name, Name) else None
    if dtype is None or not isinstance(storage, Storage):
        raise BrokenFile("holds a kind of tensor that is not read here.")
    numel = storage.numel * storage.dtype.itemsize // dtype.itemsize
    return _tensor(Storage(dtype, numel, storage.read), offset, shape, stride, None, None, *metadata)


def _tensor_of_type(function: Name, _type: Any, args: tuple[Any, ...], _state: Any = None) -> Any:
    """Of a subclass, or with attributes: the plain tensor."""
    return call(function, args)


# -- arrays ----------------------------------------------------------------------------------------------------------


def _dtype(description: Any) -> np.dtype:
    """The numpy dtype that a pickle describes: numbers and fixed-length strings, never Python objects."""
    if isinstance(description, Record) and description.type == "numpy.dtype":
        code, order = description.args[0], description.state[1] if description.state else "="
        if isinstance(code, str) and re.fullmatch(r"[?biufcSU][1-9]?\d{0,6}", code) and order in ("<", ">", "=", "|"):
            return np.dtype(code).newbyteorder(order)
    raise BrokenFile("holds an array of Python objects or of an odd type, which is not read.")


def _checked(shape: Any, dtype: np.dtype, data: Any) -> tuple[tuple[int, ...], bytes]:
    data = _bytes(data)
    shape = tuple(shape)
    if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise BrokenFile(f"holds an array of shape {list(shape[:8])} in {len(data)} bytes.")
    return shape, data


def _set_array(array: np.ndarray, shape: Any, description: Any, fortran_order: Any, data: Any) -> None:
    dtype = _dtype(description)
    shape, data = _checked(shape, dtype, data)
    array.__setstate__((1, shape, dtype, bool(fortran_order), data))


def _empty_array(cls: Any, *_shape_and_code: Any) -> Any:
    """An array that `BUILD` fills in place, so that all references to it see its numbers."""
    if isinstance(cls, Name) and str(cls) == "numpy.ndarray":
        return np.empty(0, dtype=np.int8)
    raise BrokenFile("holds a kind of array that is not read here.")


def _array(data: Any, description: Any, shape: Any, order: str = "C") -> np.ndarray:
    dtype = _dtype(description)
    shape, data = _checked(shape, dtype, data)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C").copy(order="K")


def _scalar(description: Any, data: Any) -> np.generic:
    return _array(data, description, ())[()]


# -- plain containers ------------------------------------------------------------------------------------------------


def _dict(pairs: Any = ()) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
        put(result, key, value)
    return result


def _bytes(data: Any = b"", encoding: str = "latin-1") -> bytes:
    # Old protocols hold bytes as text. An integer, which asks for as many zeros, is refused.
    if isinstance(data, str) and encoding in ("latin1", "latin-1"):
        return data.encode("latin-1")
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    raise BrokenFile("holds bytes written in an unknown way.")


def _attribute(of: Any, attribute: str) -> Name:
    """A method or function that the pickle names as an attribute of another: again only a name."""
    if not isinstance(of, Name | Record) or not isinstance(attribute, str):
        raise BrokenFile("asks for an attribute of a plain value.")
    return Name(of.type if isinstance(of, Record) else str(of), attribute)


def _old_object(cls: Any, base: Any, state: Any) -> Record:
    """An object as protocols 0 and 1 write it."""
    made = make_object(cls, ()) if isinstance(cls, Name) else None
    if not isinstance(made, Record) or not isinstance(base, Name):
        raise BrokenFile("holds an object written in an unknown way.")
    made.entries = _dict(state) if isinstance(state, dict) else {}
    made.items = list(state) if isinstance(state, list) else []
    return made


_HARMFUL_MODULES = frozenset(
    [
        *(
            "commands",
            "ctypes",
            "importlib",
            "multiprocessing",
            "nt",
            "os",
            "pickle",
            "posix",
            "pty",
            "runpy",
            "shutil",
        ),
        *("socket", "subprocess", "sys", "webbrowser"),
    ]
)
_HARMFUL_BUILTINS = frozenset(
    f"builtins.{name}"
    for name in (
        "__import__",
        "breakpoint",
        "compile",
        "delattr",
        "eval",
        "exec",
        "execfile",
        "input",
        "open",
        "setattr",
    )
)
_PLAIN_OBJECTS = frozenset(
    [
        *("argparse.Namespace", "types.SimpleNamespace", "functools.partial"),
        *("builtins.range", "builtins.xrange", "builtins.slice"),
        *("datetime.date", "datetime.datetime", "datetime.timedelta", "decimal.Decimal", "uuid.UUID"),
        *(f"pathlib.{kind}Path" for kind in ("Posix", "Windows", "PurePosix", "PureWindows")),
        *(f"pathlib._local.{kind}Path" for kind in ("Posix", "Windows", "PurePosix", "PureWindows")),  # Python 3.13's
        *("torch.device", "torch.serialization._get_layout", "numpy.dtype"),
    ]
)

_REBUILDERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
        "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
        "torch.tensor._rebuild_from_type": _tensor_of_type,
        "torch.Size": lambda sizes=(): tuple(sizes),
        "numpy.core.multiarray._reconstruct": _empty_array,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy.core.numeric._frombuffer": _array,
        "collections.OrderedDict": _dict,
        "collections.Counter": _dict,
        "collections.defaultdict": lambda _factory=None, pairs=(): _dict(pairs),
        "collections.deque": lambda items=(), _maxlen=None: list(items),
        "builtins.set": lambda items=(): make_set(list(items)),
        "builtins.frozenset": lambda items=(): frozenset(make_set(list(items))),
        "builtins.bytes": _bytes,
        "builtins.bytearray": lambda *args: bytearray(_bytes(*args)),
        "builtins.complex": lambda real=0.0, imaginary=0.0: complex(float(real), float(imaginary)),
        "builtins.getattr": _attribute,
        "_codecs.encode": _bytes,
        "copyreg._reconstructor": _old_object,
    }
)
