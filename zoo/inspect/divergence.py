"""Where two computations part: the first module whose output differs."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from zoo.errors import InputError
from zoo.inspect.features import named

Side = tuple[nn.Module, Any] | Mapping[str, Any] | str | os.PathLike


@dataclass(frozen=True)
class Divergence:
    """The first module whose output leaves the tolerance.

    Attributes:
        path: its path, such as `encoder/block0/attention`; empty for the top module. Of a module
            called several times, `path#2` is the second call.
        kind: name of its class.
        error: largest absolute difference, divided by the largest number of `b`'s output.
        tolerance: what was allowed.
        where: which array of its output and which element, for example `[0, 3, 2]`.
        a: that element in the first computation.
        b: that element in the second.
        agreed: paths before it whose outputs agree, in the order of their calls.
    """

    path: str
    kind: str
    error: float
    tolerance: float
    where: str
    a: Any
    b: Any
    agreed: tuple[str, ...]

    def __str__(self) -> str:
        before = f"agree until {self.agreed[-1]}" if self.agreed else "part at once"
        return (
            f"outputs {before}; {self.path or 'the top module'} ({self.kind}) differs by "
            f"{self.error:.3g} of its largest number, beyond {self.tolerance:.3g}; at "
            f"{self.where} it is {self.a} against {self.b}"
        )


def first_divergence(
    a: Side, b: Side, *inputs: Any, tolerance: float = 1e-5, **named_inputs: Any
) -> Divergence | None:
    """Names the first module, top-down in the order of calls, whose output leaves the tolerance.

    A module is looked into only when its own output differs (or is not known), so what has no
    effect on the result is passed over. Two dtypes of one module are
    ``first_divergence((model, v), (model.clone(dtype="bfloat16"), v), x, tolerance=0.05)``.

    Args:
        a: a module with its variables.
        b: another such pair, or a reference's intermediates by module path: a dict of arrays, or
            the path of an ``.npz`` file. A dump need not have every module; the key ``""`` is the
            output of the whole, ``path/0`` the first of several arrays of an output.
        inputs: as for ``model.apply``; a single dict is inputs by name.
        tolerance: largest error of a number, relative to the largest number of `b`'s array.
        named_inputs: more inputs, by name.

    Returns:
        The divergence; None when all compared outputs agree.

    Raises:
        InputError: the two have no module in common, or a dump names one that `a` has not.
    """
    if len(inputs) == 1 and isinstance(inputs[0], dict):
        inputs, named_inputs = (), inputs[0] | named_inputs
    if not _is_pair(a):
        raise InputError("first_divergence: the first must be (module, variables)")
    calls, ours = _run(a, inputs, named_inputs)
    theirs = _run(b, inputs, named_inputs)[1] if _is_pair(b) else _dump(b, ours)
    if not set(ours) & set(theirs):
        raise InputError(
            f"first_divergence: no module in common; the first has {_list(calls)}, the second "
            f"{_list({path for path, _ in theirs})}"
        )
    agreed: list[str] = []
    return _search(_Comparison(calls, ours, theirs, tolerance), "", agreed)


Arrays = dict[tuple[str, str], Any]  # by module path and place within its output


@dataclass(frozen=True)
class _Comparison:
    calls: dict[str, str]  # class by path, in the order of calls
    ours: Arrays
    theirs: Arrays
    tolerance: float

    def of(self, path: str) -> Divergence | bool:
        """The difference of one module's output; else whether there was anything to compare."""
        compared = False
        for key, ours in self.ours.items():
            if key[0] != path or key not in self.theirs:
                continue
            compared = True
            error, where, a, b = _difference(ours, self.theirs[key])
            if not error <= self.tolerance:
                return Divergence(
                    path, self.calls.get(path, "array"), error, self.tolerance,
                    f"{key[1]} {where}".strip(), a, b, (),
                )  # fmt: skip
        return compared


def _search(comparison: _Comparison, path: str, agreed: list[str]) -> Divergence | None:
    """The first difference in a module: within it where its children show one, else its own."""
    own = comparison.of(path)
    if own is True:
        agreed.append(path) if path else None
        return None
    for child in comparison.calls:
        if _parent(child, comparison.calls) == path and child != path:
            found = _search(comparison, child, agreed)
            if found is not None:
                return found
    if isinstance(own, Divergence):
        return replace(own, agreed=tuple(agreed))
    return None


def _parent(path: str, calls: Mapping[str, str]) -> str | None:
    """The nearest module around a path that was itself called; None for the top."""
    if not path:
        return None
    while path:
        path = path.rpartition("/")[0]
        if path in calls:
            return path
    return ""


def _run(side: Any, inputs: tuple, named_inputs: dict[str, Any]) -> tuple[dict[str, str], Arrays]:
    """The calls of a module (class by path, in order) and the arrays of every output."""
    model, variables = side[0], _on_device(side[1])
    inputs, named_inputs = _on_device((inputs, named_inputs))
    calls: dict[str, str] = {"": type(model).__name__}
    times: dict[str, int] = {}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__":
            path = "/".join(context.module.path)
            times[path] = times.get(path, 0) + 1
            repeat = f"#{times[path]}" if times[path] > 1 and path else ""
            calls[f"{path}{repeat}"] = type(context.module).__name__
        return call(*args, **kwargs)

    # Op by op: what two dtypes or modules share is compiled once, and fusion hides nothing.
    with nn.intercept_methods(note):
        result, updates = model.apply(
            variables, *inputs, **named_inputs,
            capture_intermediates=True, mutable=["intermediates"],
        )  # fmt: skip
    outputs = {"": result} | named(updates["intermediates"])
    for path in outputs:  # what a module put into `intermediates` itself, after its calls
        calls.setdefault(path, "array")
    found = {}
    for path, output in outputs.items():
        for place, leaf in jax.tree_util.tree_leaves_with_path(output):
            found[path, jax.tree_util.keystr(place, simple=True, separator="/")] = leaf
    return calls, found


def _on_device(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, tree)


def _dump(source: Any, ours: Arrays) -> Arrays:
    """A reference's intermediates under our names.

    Raises:
        InputError: it cannot be read, or names what our module does not have.
    """
    if isinstance(source, str | os.PathLike):
        try:
            with np.load(Path(source), allow_pickle=False) as file:
                source = {name: file[name] for name in file.files}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{source} is no readable .npz file: {error}") from None
    names = {"/".join(part for part in key if part): key for key in ours}
    if unknown := sorted(set(source) - set(names)):
        near = difflib.get_close_matches(unknown[0], names, n=3)
        raise InputError(
            f"the dump names {', '.join(unknown)}, which the module does not have"
            + (f"; nearest: {', '.join(near)}" if near else f"; it has {_list(names)}")
        )
    return {names[name]: array for name, array in source.items()}


def _difference(a: Any, b: Any) -> tuple[float, str, Any, Any]:
    """Error, relative to the largest number of `b`; its element and the two values there."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return float("inf"), "its shape", a.shape, b.shape
    if not a.size:
        return 0.0, "", None, None
    wide = np.complex128 if np.iscomplexobj(a) or np.iscomplexobj(b) else np.float64
    a, b = a.astype(wide), b.astype(wide)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(a - b)
    error = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, error)  # equal infinities too
    error = np.where(np.isnan(error), np.inf, error)
    place = np.unravel_index(np.argmax(error), error.shape)
    scale = np.max(np.abs(b[np.isfinite(b)]), initial=0.0)
    with np.errstate(divide="ignore"):
        relative = float(error[place] / scale) if error[place] else 0.0
    return relative, f"[{', '.join(map(str, place))}]", a[place].item(), b[place].item()


def _is_pair(side: Any) -> bool:
    return isinstance(side, tuple) and len(side) == 2 and isinstance(side[0], nn.Module)


def _list(names: Any) -> str:
    shown = [name for name in names if name][:12]
    return ", ".join(shown) + ("..." if len(names) > 12 else "")
