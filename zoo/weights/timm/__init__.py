"""Folders of timm: `config.json` with `architecture` and `pretrained_cfg`, `model.safetensors`.

One module for each of our model files that timm has too, of the same name (`resnet.py` here for
`zoo/models/resnet.py`); it is found by listing this package. It is a table of

    ARCHITECTURES: dict[str, Config]    names of timm, with our Config of each
    ARGS: dict[str, str | Arg]          arguments of timm's models: the field that holds the value
    ONLY: dict[str, tuple]              arguments that change the computation, with the values of
                                        them that are implemented; as JSON has them, so lists
    HARMLESS: tuple[str, ...]           arguments that change no number, such as those of the
                                        initialisation
    FIRST_CONV, CLASSIFIER              their names of the layer(s) that see the image and that
                                        give the classes: a string, or a tuple of strings
    IGNORED: tuple[str, ...]            patterns of names of tensors that are of no use
    NOT_COMPARED: tuple[str, ...]       optional: fields that timm need not have when we write
    backbone(cfg), head(cfg, task)      the rules, as for the tables of transformers

The arguments in `COMMON` need no line where the Config has their field. An argument in no list is
refused, unless it is null. What the Config of a model that timm has too looks like:

    num_classes: int        0 is a model without classifier, built for `feature-extraction`
    in_chans: int           channels of the images
    global_pool: str        as in timm, where several are implemented
    image_size              height and width of the images in `inputs()`
    labels: tuple[str, ...] = ()        names of the classes, where they are known

A Config is written as the architecture that needs the fewest arguments beside it; a field that is
in neither `ARGS` nor `COMMON` must be as the architecture has it. How a picture becomes the numbers
a model takes is no part of a Config: mean, deviation and resizing are the affair of a processor.
"""

import dataclasses
import functools
import importlib
import pkgutil
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError
from zoo.models import registry
from zoo.weights.loading import BARE, rules_of, write_files, write_tensors

CLASSES = "image-classification"
WHOLE = 2**63  # bytes of a file: timm reads no shards
COMMON = {
    "num_classes": "num_classes", "in_chans": "in_chans", "global_pool": "global_pool",
    "drop_rate": "dropout", "drop_path_rate": "drop_path",
}  # fmt: skip
"""Arguments that most models of timm have, and the fields that hold the same values."""
HARMLESS = ("device", "dtype", "scriptable", "exportable", "no_jit", "cache_dir")
NOT_COMPARED = ("labels", "image_size", "frozen_norm")
"""Fields that are written elsewhere, or change nothing but training."""


@dataclass(frozen=True)
class Arg:
    """An argument whose value is not the field's.

    Attributes:
        field: of the Config.
        read: the field's value from the argument's and a Config that has the values of the
            arguments that are fields themselves.
        write: the way back, from the field's value and the model's Config.
    """

    field: str
    read: Callable[[Any, Any], Any]
    write: Callable[[Any, Any], Any]


@functools.cache
def families() -> dict[str, types.ModuleType]:
    """The tables by their file's name, which is that of the model's file."""
    found = sorted(info.name for info in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in found}


def is_config(values: Mapping[str, Any]) -> bool:
    """Whether a config.json is timm's."""
    return "architecture" in values and "model_type" not in values


def family_of(values: Mapping[str, Any]) -> types.ModuleType:
    """The table for a config.json, by its `architecture`.

    Raises:
        InputError: it is not here; the message gives the nearest names.
    """
    name = values["architecture"]
    for family in families().values():
        if isinstance(name, str) and name in family.ARCHITECTURES:
            return family
    known = sorted(name for family in families().values() for name in family.ARCHITECTURES)
    told = registry.nearest(str(name), known)
    raise InputError(f"config.json: timm's architecture {name!r} is not here; {told}")


def task_of(cfg: Any) -> str:
    """The task of a model of timm: classes, or features where there are none."""
    return CLASSES if cfg.num_classes else BARE


def read_config(family: types.ModuleType, values: Mapping[str, Any]) -> Any:
    """The Config of a folder's config.json.

    Raises:
        InputError: an argument that changes the computation and is not implemented, or a value of
            the wrong type.
    """
    cfg = family.ARCHITECTURES[values["architecture"]]
    source = values.get("pretrained_cfg", values)  # the files of old times have one level
    if not isinstance(source, dict) or not isinstance(values.get("model_args") or {}, dict):
        raise InputError("config.json: pretrained_cfg and model_args must be objects")
    for name in ("label_offset", "custom_load"):
        if source.get(name):
            raise InputError(f"config.json: {name} {source[name]!r} is not implemented")
    given = {name: source[name] for name in ("num_classes", "global_pool") if name in source}
    given |= {name: values[name] for name in ("num_classes",) if name in values}
    changes: dict[str, Any] = {}
    if source.get("input_size") is not None:
        channels, *size = _image_size(source["input_size"])
        given["in_chans"] = channels
        if source.get("fixed_input_size"):
            given["img_size"] = size
        elif size[0] == size[1]:
            changes["image_size"] = size[0]
    given |= values.get("model_args") or {}
    if "img_size" not in _args(family, cfg):
        given.pop("img_size", None)  # timm resizes its pictures to it; the model takes any
    for name in sorted(given, key=lambda name: isinstance(family.ARGS.get(name), Arg)):
        changes |= _read_arg(family, _changed(cfg, changes), name, given[name])
    cfg = _changed(cfg, changes)
    return dataclasses.replace(cfg, labels=_read_labels(values, source, cfg.num_classes))


def write_folder(
    directory: Path, family: types.ModuleType, cfg: Any, task: str, flat: Mapping[str, np.ndarray]
) -> None:
    """Writes config.json and model.safetensors for timm.

    Args:
        directory: made where it does not exist.
        family: the table's module.
        cfg, task: of the model; without classes for any task but `image-classification`.
        flat: parameters and statistics by path, on the host.

    Raises:
        InputError: timm has no such model, or a parameter is missing.
    """
    rules = rules_of(family, cfg, task)
    if task != CLASSES:
        cfg = dataclasses.replace(cfg, num_classes=0, labels=())
    write_files(directory, write_tensors(rules, flat), write_config(family, cfg), WHOLE)


def write_config(family: types.ModuleType, cfg: Any) -> dict[str, Any]:
    """What timm needs to build the model.

    Raises:
        InputError: timm has none that computes the same.
    """
    found: list[tuple[int, str, dict[str, Any]]] = []
    left: list[set[str]] = []
    table = _args(family, cfg)
    compared = {field.name for field in dataclasses.fields(cfg)}
    compared -= {*NOT_COMPARED, *getattr(family, "NOT_COMPARED", ())}
    compared |= {arg.field for arg in table.values()}
    for architecture, base in family.ARCHITECTURES.items():
        differing = {name for name in compared if getattr(cfg, name) != getattr(base, name)}
        args = {}
        for name, arg in table.items():
            if arg.field in differing:
                args[name] = _json(arg.write(getattr(cfg, arg.field), cfg))
        if rest := differing - {arg.field for arg in table.values()}:
            left.append(rest)
        else:
            found.append((len(args), architecture, args))
    if not found:
        fields = ", ".join(f"{f} {getattr(cfg, f)!r}" for f in sorted(min(left, key=len)))
        raise InputError(f"timm has no {registry.family(cfg)} with {fields}")
    _, architecture, args = min(found, key=lambda entry: entry[0])
    size = cfg.image_size if isinstance(cfg.image_size, tuple) else (cfg.image_size,) * 2
    values = {
        "architecture": architecture,
        "num_classes": cfg.num_classes,
        "model_args": args | {"num_classes": cfg.num_classes, "in_chans": cfg.in_chans},
        "pretrained_cfg": {
            "architecture": architecture, "num_classes": cfg.num_classes,
            "input_size": [cfg.in_chans, *size], "fixed_input_size": "img_size" in table,
            "first_conv": family.FIRST_CONV, "classifier": family.CLASSIFIER,
        },
    }  # fmt: skip
    if cfg.labels:
        values["label_names"] = list(cfg.labels)
    return values


def _args(family: types.ModuleType, cfg: Any) -> dict[str, Arg]:
    """The arguments by name, those that most models have among them."""
    fields = {field.name for field in dataclasses.fields(cfg)}
    common = {name: field for name, field in COMMON.items() if field in fields}
    return {
        name: Arg(arg, _same, _same) if isinstance(arg, str) else arg
        for name, arg in (common | family.ARGS).items()
    }


def _same(value: Any, cfg: Any) -> Any:
    return value


def _read_arg(family: types.ModuleType, cfg: Any, name: str, value: Any) -> dict[str, Any]:
    """The field that an argument gives, if any."""
    table = _args(family, cfg)
    if value is None or name in HARMLESS or name in family.HARMLESS:
        return {}
    if name in table:
        arg = table[name]
        made = arg.read(tuple(value) if isinstance(value, list) else value, cfg)
        return {arg.field: made}
    allowed = family.ONLY.get(name, (0,) if name in COMMON else ())
    if any(value == one and (type(value) is bool) == (type(one) is bool) for one in allowed):
        return {}
    told = f", only {' or '.join(map(repr, allowed))}" if allowed else ""
    raise InputError(f"config.json: timm's argument {name} {value!r} is not implemented{told}")


def _changed(cfg: Any, changes: Mapping[str, Any]) -> Any:
    try:
        return registry.replace(cfg, **changes)
    except InputError as error:
        raise InputError(f"config.json: {error}") from None


def _image_size(value: Any) -> list[int]:
    good = isinstance(value, list) and len(value) == 3
    if not good or not all(type(n) is int and 0 < n <= 2**16 for n in value):
        raise InputError(f"config.json: input_size is {value!r}, not channels, height and width")
    return value


def _read_labels(values: Mapping[str, Any], source: Any, count: int) -> tuple[str, ...]:
    """Names of the classes, where each of them has one."""
    names: Any = values.get("label_names", source.get("label_names"))
    if isinstance(names, dict):
        names = [names.get(str(number)) for number in range(count)]
    if not isinstance(names, list) or len(names) != count:
        return ()
    return tuple(names) if all(isinstance(name, str) for name in names) else ()


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
