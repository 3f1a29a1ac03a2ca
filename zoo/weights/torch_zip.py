"""Tensors of a file that `torch.save` wrote, without torch and without executing anything.

Such a file is a zip of raw storages and one pickle that says how they make tensors. Here the
opcodes of that pickle (https://docs.python.org/3/library/pickletools.html) are interpreted one by
one, those alone that a state dict of tensors needs, on a stack of plain values: names of classes
stay names, and what they would call is looked up in a table of four. Anything else is refused.
"""

import math
import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from zoo.errors import InputError

STORAGES: dict[str, Any] = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32,
    "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}  # fmt: skip
MAX_PICKLE = 64 * 2**20
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8",
}  # fmt: skip
PUTS, GETS = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"BINGET", "LONG_BINGET"}


@dataclass(frozen=True)
class Name:
    """A class or function the pickle names; never looked up."""

    text: str


@dataclass(frozen=True)
class Storage:
    """Raw numbers in the file."""

    file: Path
    offset: int
    count: int
    dtype: Any


@dataclass(frozen=True)
class TorchTensor:
    """A view of a storage: the same to its reader as `files.Tensor`."""

    storage: Storage
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> Any:
        """Of NumPy or ml_dtypes."""
        return self.storage.dtype

    def map(self) -> np.ndarray:
        """The tensor as an array that lies in the file."""
        if not math.prod(self.shape):
            return np.empty(self.shape, self.dtype)
        size = np.dtype(self.dtype).itemsize
        raw = np.memmap(
            self.storage.file, self.dtype, "r", self.storage.offset, (self.storage.count,)
        )
        steps = tuple(step * size for step in self.strides)
        return np.ndarray(self.shape, self.dtype, raw, self.first * size, steps)


def open_torch(path: Path) -> dict[str, TorchTensor]:
    """The tensors of a state dict by name; none is read.

    Raises:
        InputError: the file is no zip of torch's, is damaged, or holds anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
            if "data.pkl" not in entries or entries["data.pkl"].file_size > MAX_PICKLE:
                raise ValueError("it has no data.pkl; files older than torch 1.6 are not read")
            if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
                raise ValueError("its bytes are in big-endian order")
            text = archive.read(entries["data.pkl"])
            found = _Interpreter(path, entries, raw).run(text)
    except InputError:
        raise
    except Exception as error:  # zipfile and pickletools raise a dozen types for damaged files
        raise InputError(f"{path} cannot be read: {str(error)[:200] or repr(error)}") from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(
        isinstance(k, str) and isinstance(v, TorchTensor) for k, v in found.items()
    ):
        raise InputError(f"{path} holds no state dict: names and tensors, and nothing else")
    return found


class _Interpreter:
    def __init__(self, path: Path, entries: dict[str, Any], raw: Any):
        self.path, self.entries, self.raw = path, entries, raw
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, text: bytes) -> Any:
        """The value that the pickle describes."""
        for opcode, argument, _ in pickletools.genops(text):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._do(opcode.name, argument)
        raise ValueError("the pickle does not end")

    def _do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            return
        if name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in VALUES:
            stack.append(argument)
        elif name in PUTS:
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in GETS:
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name == "GLOBAL":
            stack.append(Name(argument.replace(" ", ".")))
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            items = self._marked() if name == "TUPLE" else self._last(int(name[5:]))
            stack.append(tuple(items))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._last(2) if name == "SETITEM" else self._marked()
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            items = self._last(1) if name == "APPEND" else self._marked()
            stack[-1].extend(items)
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._call(function, arguments))
        elif name == "BUILD" and isinstance(stack[-2], dict):
            stack.pop()  # attributes of an ordered dictionary: versions of modules
        else:
            raise InputError(f"{self.path}: its pickle asks for {name}, which tensors do not need")

    def _marked(self) -> list[Any]:
        return self._last(len(self.stack) - self.marks.pop())

    def _last(self, count: int) -> list[Any]:
        at = len(self.stack) - count
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def _storage(self, given: Any) -> Storage:
        kind, name, key, _, count = given
        dtype = STORAGES[name.text.removeprefix("torch.")]
        info = self.entries[f"data/{key}"]
        size = count * np.dtype(dtype).itemsize
        if kind != "storage" or info.compress_type or info.file_size != size:
            raise ValueError(f"storage {key} is damaged")
        self.raw.seek(info.header_offset)
        header = self.raw.read(30)
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        offset = info.header_offset + 30 + lengths
        if header[:4] != b"PK\3\4" or offset + size > self.path.stat().st_size:
            raise ValueError(f"storage {key} is damaged")
        return Storage(self.path, offset, count, dtype)

    def _call(self, function: Any, arguments: Any) -> Any:
        name = function.text if isinstance(function, Name) else "something that is no name"
        if name == "collections.OrderedDict" and not arguments:
            return {}
        if name == "torch._utils._rebuild_parameter":
            return arguments[0]
        if name == "torch.Size" and len(arguments) == 1:
            return tuple(arguments[0])
        if name != "torch._utils._rebuild_tensor_v2":
            raise InputError(f"{self.path}: its pickle calls {name}; only tensors are read")
        storage, first, shape, strides = arguments[:4]
        whole = [first, *shape, *strides]
        if not isinstance(storage, Storage) or len(shape) != len(strides):
            raise ValueError("a tensor is damaged")
        if not all(type(number) is int and 0 <= number < 2**62 for number in whole):
            raise ValueError("a tensor is damaged")
        last = first + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if math.prod(shape) and last >= storage.count:
            raise ValueError("a tensor reaches behind its storage")
        return TorchTensor(storage, first, tuple(shape), tuple(strides))
