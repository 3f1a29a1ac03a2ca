"""Every model by name: what there is, and building one.

A model is a module of this package that has ``Config`` and ``SIZES``; a new file is found by
listing the package, nothing registers itself.
"""

import dataclasses
import difflib
import fnmatch
import functools
import importlib
import pkgutil
import types
import typing
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from zoo import models
from zoo.errors import InputError


@dataclasses.dataclass(frozen=True)
class Size:
    """One published size of an architecture."""

    config: Any
    """The model's Config with all the numbers of this size."""
    params: int | None
    """Number of parameters its source states; None where it states none."""
    source: str
    """Paper or reference implementation that publishes the size."""
    licence: str = ""
    """Of the weights that are published under this name."""
    metric: str = ""
    """What the paper or the weights' card reports of them."""
    task: str | None = None
    """Task whose head the count holds for; None is the model's first task."""


@functools.cache
def families() -> dict[str, types.ModuleType]:
    """The modules of all architectures, by their file's name (``"cnn"``), sorted."""
    found = {}
    for info in sorted(pkgutil.iter_modules(models.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{models.__name__}.{info.name}")
        if hasattr(module, "SIZES") and hasattr(module, "Config"):
            found[info.name] = module
    return found


@functools.cache
def _sizes() -> dict[str, tuple[types.ModuleType, Size]]:
    """Module and size by the size's name."""
    sizes: dict[str, tuple[types.ModuleType, Size]] = {}
    for module in families().values():
        for name, size in module.SIZES.items():
            if name in sizes:
                raise ValueError(f"two models have a size named {name!r}")
            sizes[name] = (module, size)
    return sizes


def list_models(pattern: str = "*", task: str | None = None) -> list[str]:
    """Sorted names of all sizes.

    Args:
        pattern: fnmatch wildcards, such as ``"lenet*"``.
        task: only models with a head for this task, such as ``"image-classification"``.
    """
    return sorted(
        name
        for name, (module, _) in _sizes().items()
        if fnmatch.fnmatchcase(name, pattern) and (task is None or task in module.TASKS)
    )


def find(name: str) -> Size:
    """The size of that name.

    Raises:
        InputError: there is none; the message gives the nearest names.
    """
    if name not in _sizes():
        raise InputError(f"unknown model {name!r}; {nearest(name, _sizes())}")
    return _sizes()[name][1]


def config_class(kind: str) -> type:
    """The Config of an architecture by its file's name, such as ``"cnn"``.

    Raises:
        InputError: there is no such architecture.
    """
    if kind not in families():
        raise InputError(f"unknown architecture {kind!r}; {nearest(kind, families())}")
    return families()[kind].Config


def family(config: Any) -> str:
    """The file's name, such as ``"cnn"``, of the architecture that ``config`` belongs to."""
    return module_of(config).__name__.rpartition(".")[2]


def module_of(config: Any) -> types.ModuleType:
    """The Python module of a Config value: its ``TASKS``, ``SIZES`` and ``TENSOR_PARALLEL``."""
    return importlib.import_module(type(config).__module__)


def create_model(
    name: str,
    task: str | None = None,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    **changes: Any,
) -> nn.Module:
    """An unbound module of a published size.

    Args:
        name: one of ``list_models()``.
        task: which head; None is the size's own.
        dtype: of the computation.
        param_dtype: of the parameters.
        **changes: new values for fields of the model's Config, such as ``num_classes=10``.

    Raises:
        InputError: unknown name, task or field, or a value of the wrong type.
    """
    size = find(name)
    config = replace(size.config, **changes)
    return config.build(task or size.task, dtype, param_dtype)


def replace(config: Any, **changes: Any) -> Any:
    """A copy of ``config`` with other field values.

    Raises:
        InputError: unknown field (with the nearest ones), or a value of the wrong type.
    """
    fields = {field.name for field in dataclasses.fields(config)}
    hints = typing.get_type_hints(type(config))
    for key, value in changes.items():
        if key not in fields:
            raise InputError(f"{family(config)} has no field {key!r}; {nearest(key, fields)}")
        if not _fits(value, hints[key]):
            wanted = hints[key].__name__ if type(hints[key]) is type else hints[key]
            raise InputError(f"{family(config)}'s {key} is of type {wanted}, not {value!r}")
        if hints[key] is float:
            changes[key] = float(value)
    return dataclasses.replace(config, **changes)


def check_task(task: str | None, tasks: tuple[str, ...]) -> str:
    """The task a model is built for: ``task`` itself, the first of ``tasks`` for None.

    Raises:
        InputError: the model has no head for it; the message lists those it has.
    """
    if task is None:
        return tasks[0]
    if task not in tasks:
        raise InputError(f"no head for task {task!r}; this model has: {', '.join(tasks)}")
    return task


def init(model: nn.Module, key: jax.Array, *inputs: Any) -> dict[str, Any]:
    """Fresh variables of a model, made by one compiled program; other keys use it again.

    Args:
        model: one that ``create_model`` or a Config's ``build`` made.
        key: random key.
        *inputs: example arrays (or ShapeDtypeStructs) that override ``model.cfg.inputs()``.

    Returns:
        The collections: ``params``, and ``batch_stats`` where there is batch norm.
    """
    leaves, tree = jax.tree.flatten((inputs, {} if inputs else model.cfg.inputs()))
    example = tree, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
    try:
        hash(model)
    except TypeError:  # a user's own module with a field such as an array
        return jax.jit(functools.partial(_fresh, model, example))(key)
    return _fresh_compiled_once(model, example, key)


def _fresh(model: nn.Module, example: Any, key: jax.Array) -> dict[str, Any]:
    """The body of ``init``."""
    tree, shapes = example
    args, kwargs = jax.tree.unflatten(tree, [jnp.zeros(x.shape, x.dtype) for x in shapes])
    return dict(model.init(key, *args, **kwargs))


_fresh_compiled_once = jax.jit(_fresh, static_argnums=(0, 1))
"""For models that are equal and inputs of the same shapes: nearly all the time of a first ``init``
goes into the compiler, which makes a loop of each parameter's random numbers."""


def nearest(name: str, names: Iterable[str]) -> str:
    """The nearest names as the end of an error message."""
    names = sorted(names)
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    return f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(names)}"


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type a Config's field declares."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is typing.Literal:
        return value in args
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = args[:1] * len(value) if args[-1] is Ellipsis else args
        return len(each) == len(value) and all(map(_fits, value, each))
    if hint in (int, float) and isinstance(value, bool):
        return False
    return hint is Any or isinstance(value, (int, float) if hint is float else origin or hint)
