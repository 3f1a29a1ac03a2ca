"""A run as JSON, and back: what a run folder keeps.

Models, tasks and sources bear registered names; nothing is ever imported from a run folder.
"""

import dataclasses
import json
import sys
from types import ModuleType
from typing import Any, get_type_hints

from zoo import data, tasks
from zoo.config import EXECUTION, Optimizer, Pretrained, Run, check
from zoo.data import Augment
from zoo.errors import InputError
from zoo.models import registry

CLASS = "class"  # the key of a class's name; a Python keyword, so no field has it


def to_json(run: Run) -> dict[str, Any]:
    """The run as plain values, with registered names for model, task and data."""
    values = {}
    for part in dataclasses.fields(run):
        value = getattr(run, part.name)
        kind = _kind_of(part.name, value)
        values[part.name] = ({CLASS: kind} | _plain(value)) if kind else _plain(value)
    return values


def from_json(values: dict[str, Any], module: ModuleType | None = None) -> Run:
    """The run that `to_json` wrote. A user's own classes are looked up in `module`.

    Raises:
        InputError: a name or field is unknown, or a class of the user's own is needed.
    """
    fields = {part.name: part for part in dataclasses.fields(Run)}
    if unknown := sorted(set(values) - set(fields)):
        raise InputError(f"config.json has fields unknown to this version: {', '.join(unknown)}")
    built = {}
    for name, value in values.items():
        if name in ("model", "task", "data"):
            kind = value.get(CLASS) if isinstance(value, dict) else None
            if not isinstance(kind, str):
                raise InputError(f"config.json: {name} has no {CLASS}")
            built[name] = _build(_class_of(name, kind, module), value, name)
        else:
            built[name] = _build(get_type_hints(Run)[name], value, name)
    try:
        run = Run(**built)
    except TypeError as error:
        raise InputError(f"config.json: {error}") from None
    check(run)
    return run


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The experiment fields in which two resolved configs differ, as `path: old -> new`.

    A field of the run, its optimizer or its augmentation that one does not have, because an older
    version wrote it, has its default there.
    """
    found = []
    defaults = {
        part.name: _nested(part.default)
        for part in dataclasses.fields(Run)
        if part.default is not dataclasses.MISSING
    }

    nested = {"optimizer": _nested(Optimizer()), "augment": _nested(Augment())}

    def walk(path: str, a: Any, b: Any) -> None:
        if isinstance(a, dict) and isinstance(b, dict):
            for key in sorted(set(a) | set(b)):
                walk(f"{path}.{key}" if path else key, a.get(key), b.get(key))
        elif a != b:
            found.append(f"{path}: {json.dumps(a)} -> {json.dumps(b)}")

    def filled(values: dict[str, Any]) -> dict[str, Any]:
        values = defaults | values
        for name, known in nested.items():
            if isinstance(values.get(name), dict):
                values[name] = {**known, **values[name]}
        return {k: v for k, v in values.items() if k not in EXECUTION}

    old, new = filled(old), filled(new)
    walk("", old, new)
    return found


def _kind_of(name: str, value: Any) -> str:
    if name not in ("model", "task", "data"):
        return ""
    names = [kind for kind, cls in _known(name).items() if cls is type(value)]
    return names[0] if names else f"user:{type(value).__name__}"


def _known(name: str) -> dict[str, type]:
    if name == "model":
        configs = {kind: module.Config for kind, module in registry.families().items()}
        return {"pretrained": Pretrained} | configs
    return {"task": tasks.REGISTRY, "data": data.REGISTRY}[name]


def _class_of(name: str, kind: str, module: ModuleType | None) -> type:
    if kind.startswith("user:"):
        cls = getattr(module, kind.removeprefix("user:"), None)
        if not isinstance(cls, type):
            raise InputError(
                f"the {name} of this run is {kind.removeprefix('user:')}, a class of its author's "
                "own; give its file with --config"
            )
        return cls
    if kind not in _known(name):
        raise InputError(f"config.json names the {name} {kind!r}; known: {', '.join(_known(name))}")
    return _known(name)[kind]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            part.name: _nested(getattr(value, part.name))
            for part in dataclasses.fields(value)
            if part.init
        }
    if isinstance(value, tuple | list):
        return [_nested(item) for item in value]
    return value


def _nested(value: Any) -> Any:
    kind = {CLASS: type(value).__name__} if dataclasses.is_dataclass(value) else {}
    return kind | _plain(value) if kind else _plain(value)


def _build(cls: Any, value: Any, path: str) -> Any:
    """A value from JSON. A nested dataclass is a class of the module that its parent lives in."""
    if isinstance(value, list):
        return tuple(_build(cls, item, path) for item in value)
    if not isinstance(value, dict):
        return value
    if "." in path and CLASS in value:
        home = sys.modules[cls.__module__] if isinstance(cls, type) else None
        hinted = cls if isinstance(cls, type) and cls.__name__ == value[CLASS] else None
        cls = hinted or getattr(home, str(value[CLASS]), None)
    if not dataclasses.is_dataclass(cls) or not isinstance(cls, type):
        raise InputError(f"config.json: cannot read {path}")
    names = {part.name for part in dataclasses.fields(cls)}
    given = {key: item for key, item in value.items() if key != CLASS}
    if unknown := sorted(set(given) - names):
        raise InputError(f"config.json: {path} has no field {', '.join(unknown)}")
    hints = get_type_hints(cls)
    try:
        return cls(**{
            key: _build(_dataclass_hint(hints[key]) or cls, item, f"{path}.{key}")
            for key, item in given.items()
        })  # fmt: skip
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"config.json: {path}: {error}") from None


def _dataclass_hint(hint: Any) -> Any:
    return hint if dataclasses.is_dataclass(hint) else None
