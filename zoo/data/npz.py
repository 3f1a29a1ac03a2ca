"""The user's own arrays in a NumPy archive.

The raw record that decides a split is the input array's bytes of that example as stored.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.data.assemble import Kind, assemble, malformed
from zoo.data.info import Batch, Data, Info, normalised
from zoo.data.split import digest, split_name
from zoo.errors import InputError

PARTS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz, or of an .npy under the name `x`; never objects.

    Raises:
        InputError: unreadable, damaged or with pickled objects.
    """
    try:
        with open(path, "rb") as file:  # ours to close: np.load leaves damaged ones open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"x": loaded}
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (
        OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, MemoryError,
        OverflowError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise InputError(f"{path}: not a readable array file: {error}") from None


def prepare(x: np.ndarray, form: str, path: str) -> np.ndarray:
    """Checks inputs and gives them their rank: images `[N, H, W, C]`, features, or ids `[N, T]`.

    Raises:
        InputError: a dtype or rank that does not fit.
    """
    if x.dtype == bool:
        x = x.astype(np.uint8)
    numeric = "iu" if form == "input_ids" else "iuf"
    ranks = {"image": (3, 4), "features": (2, 3), "input_ids": (2,)}[form]
    if x.dtype.kind not in numeric or x.ndim not in ranks or 0 in x.shape[1:]:
        raise InputError(
            f"{path}: inputs of dtype {x.dtype} and shape {x.shape} do not fit form={form}, which "
            f"takes {'whole numbers' if form == 'input_ids' else 'numbers'} with "
            f"{' or '.join(map(str, ranks))} axes"
        )
    if form == "input_ids":
        if x.size and (x.min() < 0 or x.max() > 2**31 - 1):
            raise InputError(f"{path}: token ids must lie from 0 to 2**31-1, not {x.min()}")
        return x.astype(np.int32)
    if x.dtype != np.uint8:
        x = x.astype(np.float64)
    return x[..., None] if form == "image" and x.ndim == 3 else x


@dataclass(frozen=True)
class Npz:
    """Arrays `x` and `y`, or `x_train`, `y_train`, `x_test`, `y_test`, `x_validation`, ...

    A further array `split` may say train, validation or test for each example of `x`.
    """

    path: str
    """The .npz file."""
    form: Literal["features", "image", "input_ids"] = "features"
    """What `x` holds: numbers [N, F] or [N, T, F], images [N, H, W(, C)], or ids [N, T]."""
    kind: Kind = "classification"
    """What `y` holds."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What an example that is not finite does: stop, or be left out and counted."""

    def open(self) -> Data:
        """The splits, normalised per feature (last axis) unless they are token ids.

        Raises:
            InputError: arrays missing or not fitting, malformed examples, an empty split.
        """
        x, y, given, names = self._load(read_arrays(self.path))
        if not len(x):
            raise InputError(f"{self.path}: no examples")
        stored = x
        x = prepare(x, self.form, self.path)
        bad = {}
        if x.dtype.kind == "f":
            finite = np.isfinite(x.reshape(len(x), -1)).all(1)
            bad = dict.fromkeys(np.flatnonzero(~finite).tolist(), "inputs are not finite")
        label, classes = self._label(y, bad)
        problems = [f"{names[i]}: {bad[i]}" for i in sorted(bad)]
        skipped = malformed(self.path, problems, self.on_bad)
        kept = np.array([i for i in range(len(x)) if i not in bad], np.int64)
        if not len(kept):
            raise InputError(f"{self.path}: no examples")
        known: dict[str, Any] = {"skipped": skipped}
        if self.form == "input_ids":
            known |= {"vocab_size": int(x.max()) + 1, "max_length": x.shape[1]}
        return assemble(
            self.path,
            {self.form: x[kept]},
            label[kept],
            self.kind,
            [digest(np.ascontiguousarray(stored[i]).tobytes()) for i in kept],
            [names[i] for i in kept],
            [given[i] for i in kept],
            class_names=classes,
            normalise=None if self.form == "input_ids" else self.form,
            **known,
        )

    def _load(
        self, arrays: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, list[str | None], list[str]]:
        pairs: list[tuple[str, str, str | None]] = [("x", "y", None)] if "x" in arrays else []
        for split, words in PARTS.items() if not pairs else ():
            for word in words:
                if f"x_{word}" in arrays:
                    pairs.append((f"x_{word}", f"y_{word}", split))
                    break
        if not pairs or (pairs[0][2] and pairs[0][2] != "train"):
            raise InputError(
                f"{self.path}: expected arrays x and y, or x_train and y_train; "
                f"found {', '.join(arrays) or 'none'}"
            )
        given: list[str | None] = []
        names: list[str] = []
        for x, y, split in pairs:
            if y not in arrays or not arrays[x].ndim or arrays[y].shape[:1] != arrays[x].shape[:1]:
                raise InputError(f"{self.path}: {y} must hold one label per example of {x}")
            given += [split] * len(arrays[x])
            names += [f"{self.path}: {x}[{i}]" for i in range(len(arrays[x]))]
        shapes = {arrays[x].shape[1:] for x, _, _ in pairs}
        kinds = {arrays[y].shape[1:] for _, y, _ in pairs}
        if len(shapes) > 1 or len(kinds) > 1:
            raise InputError(f"{self.path}: the parts differ in the shape of an example")
        if "split" in arrays and pairs[0][2] is None:
            stated = arrays["split"]
            given = [split_name(word) for word in stated.reshape(-1)]
            if stated.shape != (len(names),) or None in given:
                raise InputError(f"{self.path}: split must say train, validation or test per row")
        x = np.concatenate([arrays[x] for x, _, _ in pairs])
        y = np.concatenate([arrays[y] for _, y, _ in pairs])
        return x, y, given, names

    def _label(self, y: np.ndarray, bad: dict[int, str]) -> tuple[np.ndarray, list[str]]:
        ranks = {"classification": (1,), "binary": (1,), "multilabel": (2,), "regression": (1, 2)}
        if y.ndim == 2 and y.shape[1] == 1 and self.kind != "multilabel":
            y = y[:, 0]
        kinds = "iufb" if self.kind == "regression" else "iub"
        if y.ndim not in ranks[self.kind] or y.dtype.kind not in kinds or 0 in y.shape:
            raise InputError(
                f"{self.path}: labels of dtype {y.dtype} and shape {y.shape} do not fit "
                f"kind={self.kind}"
            )
        if self.kind == "regression":
            y = y.astype(np.float64)
            wrong = ~np.isfinite(y.reshape(len(y), -1)).all(1)
            for i in np.flatnonzero(wrong).tolist():
                bad.setdefault(i, "the label is not finite")
            return y, []
        y = y.astype(np.int64)
        top = 1 if self.kind in ("binary", "multilabel") else 10**6
        wrong = ((y < 0) | (y > top)).reshape(len(y), -1).any(1)
        for i in np.flatnonzero(wrong).tolist():
            bad.setdefault(i, f"label {y[i].tolist()} is outside 0 to {top}")
        if self.kind == "multilabel":
            return y, [str(i) for i in range(y.shape[1])]
        good = y[~wrong]
        return y, [str(i) for i in range(2 if top == 1 else int(good.max(initial=0)) + 1)]

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Array files: `.npy`, or `.npz` with `x`; shaped as in training.

        Raises:
            InputError: unreadable, another shape, ids beyond the vocabulary, values not finite.
        """
        (key, (shape, _)) = next(iter(info.inputs.items()))
        names: list[str] = []
        parts: list[np.ndarray] = []
        for path in inputs:
            arrays = read_arrays(str(Path(path)))
            if "x" not in arrays:
                raise InputError(f"{path}: expected an array x, found {', '.join(arrays)}")
            x = prepare(arrays["x"], key, path)
            if x.shape[1:] != tuple(shape):
                raise InputError(f"{path}: examples of shape {x.shape[1:]}, expected {shape}")
            if not len(x):
                continue
            for i in np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1))[:1]:
                raise InputError(f"{path}: x[{i}]: not finite")
            if key == "input_ids" and x.size and x.max() >= (info.vocab_size or math.inf):
                row = int(np.argmax(x.max(1)))
                raise InputError(f"{path}: x[{row}]: id {x.max()} is not below {info.vocab_size}")
            names += [f"{path}: x[{i}]" for i in range(len(x))]
            if key != "input_ids":
                x = normalised(x, info.statistics["mean"], info.statistics["std"])
            parts.append(x)
        if not names:
            raise InputError("nothing to predict: no examples in the files given")
        return names, {key: np.concatenate(parts)}
