"""Tensors of a folder in the safetensors format, read one by one, and written.

`model.safetensors`, or the shards that `model.safetensors.index.json` lists
(https://github.com/huggingface/safetensors, "Format"). A header is checked as a whole before a
tensor is touched: it may come from anybody.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from zoo.errors import InputError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_HEADER = 100 * 2**20  # as in the reference implementation
DTYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8,
    "U16": np.uint16, "U32": np.uint32, "U64": np.uint64, "BOOL": np.bool_,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies.

    Attributes:
        file: the file.
        offset: of its first byte.
        shape: its dimensions.
        dtype: of NumPy or ml_dtypes.
    """

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: Any

    def map(self) -> np.ndarray:
        """The tensor as an array that lies in the file: only what is used of it is read, and
        nothing of it stays in memory once the array is gone."""
        if not math.prod(self.shape):
            return np.empty(self.shape, self.dtype)
        return np.memmap(self.file, self.dtype, "r", self.offset, self.shape)


def open_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder by name; none is read.

    Raises:
        InputError: there are none, a file is missing or damaged, or the index points elsewhere.
    """
    if (folder / INDEX).is_file():
        return _sharded(folder)
    if (folder / SINGLE).is_file():
        return read_header(folder / SINGLE)
    raise InputError(f"{folder} has neither {SINGLE} nor {INDEX}{_others(folder)}")


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of one file.

    Raises:
        InputError: the file is cut short or damaged; the message says where.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise InputError(f"{path} is cut short or no safetensors file")
        text = file.read(length)
    header = _parse(path, text)
    start, found, spans = 8 + length, {}, []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
            whole = [*shape, first, last]
            if not all(type(number) is int and 0 <= number < 2**62 for number in whole):
                raise ValueError
            kind = DTYPES[dtype]
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}: the header's entry of {name!r} is damaged") from None
        if last - first != math.prod(shape) * np.dtype(kind).itemsize:
            raise InputError(f"{path}: {name} has {last - first} bytes, which is not {dtype} "
                             f"{'x'.join(map(str, shape))}")  # fmt: skip
        if last > size - start:
            raise InputError(f"{path} is cut short: {name} ends behind the end of the file")
        found[name] = Tensor(path, start + first, tuple(shape), kind)
        spans.append((first, last, name))
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            what = "overlaps another" if first < end else "leaves bytes before it unused"
            raise InputError(f"{path}: {name} {what}")
        end = last
    if end != size - start:
        raise InputError(f"{path}: {size - start - end} bytes at its end belong to no tensor")
    return found


def _parse(path: Path, text: bytes) -> Mapping[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a name appears twice")
        return dict(pairs)

    try:
        header = json.loads(text.decode(), object_pairs_hook=once)
        if not isinstance(header, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its header is damaged: {str(error)[:100]}") from None
    return header


def _sharded(folder: Path) -> dict[str, Tensor]:
    path = folder / INDEX
    try:
        places = json.loads(path.read_bytes())["weight_map"]
        files = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise InputError(f"{path} is damaged: {error!r}"[:300]) from None
    found: dict[str, Tensor] = {}
    for name in files:
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or not name.endswith(".safetensors")
        ):
            raise InputError(f"{path} names {name!r}, which is no safetensors file of this folder")
        shard = folder / name
        if not shard.is_file() or shard.resolve().parent != _home(shard, folder):
            raise InputError(f"{path} names {name}, which is missing in {folder}")
        tensors = read_header(shard)
        listed = {tensor for tensor, place in places.items() if place == name}
        if differing := sorted(listed ^ tensors.keys()):
            where = "its file" if differing[0] in listed else "the index"
            raise InputError(f"{path}: {differing[0]} of {name} is missing in {where}")
        found.update(tensors)
    return found


def _home(shard: Path, folder: Path) -> Path:
    """Where a shard may really lie: in the folder, or in the blobs of a hub cache beside it."""
    target = shard.resolve().parent
    cached = folder.resolve().parent.parent / "blobs"
    return target if target in (folder.resolve(), cached) else folder.resolve()


def _others(folder: Path) -> str:
    other = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pth", ".pt", ".h5"))
    if not other:
        return ""
    return (
        f"; {', '.join(other[:3])} can be read when named: from_pretrained(folder, "
        f"weights={other[0]!r})"
        if other[0].endswith((".bin", ".pth", ".pt"))
        else ""
    )


def write_files(
    directory: Path, tensors: Mapping[str, np.ndarray], values: Mapping[str, Any], most: int
) -> None:
    """Writes model.safetensors, or shards of at most so many bytes and their index, and
    config.json."""
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    shards = _cut(tensors, most)
    single = len(shards) == 1
    places = {}
    for number, shard in enumerate(shards, 1):
        name = SINGLE if single else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        partial = directory / f"{name}.partial"
        save_file(shard, partial, {"format": "pt"})
        partial.replace(directory / name)
        places |= dict.fromkeys(shard, name)
    if single:
        (directory / INDEX).unlink(missing_ok=True)
    else:
        total = sum(tensor.nbytes for tensor in tensors.values())
        _json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
    _json(directory / "config.json", values)


def _cut(tensors: Mapping[str, np.ndarray], most: int) -> list[dict[str, np.ndarray]]:
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > most:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def _json(path: Path, value: Any) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    partial.replace(path)
