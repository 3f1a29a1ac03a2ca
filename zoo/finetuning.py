"""Runs that start from what is trained already: a folder of a reference library, or another run.

A run folder keeps what it started from, so that it never needs it again:

tokenizer/     the files of the tokenizer that the data are read with
processor/     the files of the image processor that prepares them
pretrained/    config.json and the weights, as they were
"""

import dataclasses
import hashlib
import math
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from zoo import config as configs
from zoo import config_json, pretrained, runs, surgery
from zoo.data import Data, Info
from zoo.errors import InputError
from zoo.models import registry
from zoo.surgery import lora
from zoo.tasks import Binary
from zoo.training.state import State, host_array, leaf_paths, params_digest
from zoo.weights.files import INDEX, open_tensors

WEIGHTS = "pretrained"
CONFIG = "config.json"
TOKENIZER_FILES = (
    CONFIG, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "chat_template.jinja",
)  # fmt: skip
"""What `zoo.load_tokenizer` reads; config.json may say which tokenizer it is."""
PROCESSOR_FILES = (CONFIG, "preprocessor_config.json", "processor_config.json")
"""What `zoo.load_processor` reads."""
KEPT = {runs.TOKENIZER: TOKENIZER_FILES, runs.PROCESSOR: PROCESSOR_FILES}
"""Fields of a source that name a folder, and what a run folder keeps of it under that name."""
FREE_FIELDS = ("num_classes", "labels", "frozen_norm", "drop_path", "image_size", "in_chans")
"""Of a Config, beside rates of dropout: what fine-tuning may change. Learned positions are resized,
and first convolutions made to fit, as `from_pretrained` does it."""

Warn = Callable[[str], None]


def opened(run: configs.Run, folder: Path) -> tuple[configs.Run, Any, Data]:
    """The run with what `init_from` says of its model, its tokenizer and its image processor, its
    source, and the data.

    Args:
        run: as it was asked for.
        folder: the run folder; what it keeps is used instead of what `init_from` names.

    Raises:
        InputError: there is no such folder or name, or the data cannot be read.
    """
    unnamed = getattr(run.data, "tokenizer", None) == ""
    if unnamed and run.init_from and not _reads_bytes(Path(run.init_from)):
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, tokenizer=run.init_from))
    if getattr(run.data, "processor", None) == "" and run.init_from and _prepares(run, folder):
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, processor=run.init_from))
    source = runs.at_home(run.data, folder)
    for part in KEPT:
        name = _named(run.data, part)
        if name and name == _named(source, part):
            source = dataclasses.replace(source, **{part: str(_folder_of(name, part))})
    data = source.open()
    if isinstance(run.model, configs.Pretrained):
        run = dataclasses.replace(run, model=_model(run, folder, data.info))
    return run, source, data


def warm_start(
    run: configs.Run, folder: Path, state: State, module: Any, warn: Warn
) -> tuple[State, dict[str, Any]]:
    """The first state with the parameters of what `init_from` names, and what the receipt says.

    Raises:
        InputError: nothing there, or it does not fit the model.
    """
    source = _origin(run, folder)
    if pretrained.is_run(source):
        taken = runs.open_run(source, warn=warn)
        digest = params_digest(taken.variables["params"])
        if isinstance(taken.module, lora.Adapted) and taken.run.lora != run.lora:
            plain, variables = lora.merge(taken.module, taken.variables)
            taken = dataclasses.replace(taken, module=plain, variables=variables)
        return _from_run(state, module, taken, warn), {"step": taken.step, "params_digest": digest}
    saved = _read(source, warn)
    _check_same(saved, run.model)
    if isinstance(module, lora.Adapted):
        plain, beside = lora.apart(state.params)
        filled, fresh = pretrained.fill(saved, module.model, {**state.variables, "params": plain})
        filled["params"] = lora.with_lengths(surgery.join(filled["params"], beside))
        still = leaf_paths(module.lora.frozen(filled["params"]))
        if fixed := [path for path in fresh if still[path]]:
            raise InputError(
                f"init_from: {run.init_from} has no {', '.join(fixed)}, and lora does not train "
                "it; name it in --lora.whole"
            )
    else:
        filled, fresh = pretrained.fill(saved, module, state.variables)
    if fresh:
        warn(f"init_from: {run.init_from} has no {', '.join(fresh)}; initialised, to be trained")
    kept = {p: leaf for p, leaf in leaf_paths(filled["params"]).items() if p not in fresh}
    params = filled.pop("params")
    state = dataclasses.replace(
        state, params=params, extra=state.extra | filled, average=_copied(state.average, params)
    )
    return state, {
        "folder": run.init_from,
        "sha256": {path.name: _sha256(path) for path in _weights(source)},
        "params_digest": params_digest(kept),
        "fresh": fresh,
    }


def keep(run: configs.Run, source: Any, folder: Path) -> None:
    """Copies what the run starts from into its folder, where it is not there yet."""
    for part, files in KEPT.items():
        place = _named(source, part)
        if place and part == runs.PROCESSOR and hasattr(source, "prepared"):
            _make(folder / part, source.prepared().save)  # with the values of this run
        elif place:
            _copy([Path(place) / name for name in files], folder / part)
    if run.init_from and not pretrained.is_run(origin := _origin(run, folder)):
        _copy([origin / CONFIG, origin / INDEX, *_weights(origin)], folder / WEIGHTS)


def link(source: Path, folder: Path) -> None:
    """Lends what a run folder keeps to another one."""
    for name in (*KEPT, WEIGHTS):
        if (source / name).is_dir():
            (folder / name).symlink_to((source / name).resolve())


def _origin(run: configs.Run, folder: Path) -> Path:
    """The run folder's copy of what it starts from, or else that itself."""
    if (folder / WEIGHTS).is_dir():
        return folder / WEIGHTS
    try:
        return pretrained.find_folder(run.init_from)
    except InputError as error:
        raise InputError(f"init_from: {run.init_from} is no run folder; {error}") from None


def _reads_bytes(folder: Path) -> bool:
    """Whether it is a run folder whose data needed no tokenizer."""
    there = (folder / CONFIG).is_file() and pretrained.is_run(folder)
    return there and not (folder / runs.TOKENIZER).is_dir()


def _prepares(run: configs.Run, folder: Path) -> bool:
    """Whether `init_from` decides how pictures are prepared: a pretrained folder has to say it, a
    run does where it kept a processor."""
    if (folder / runs.PROCESSOR).is_dir():
        return True
    try:
        origin = _origin(run, folder)
    except InputError:  # told where the weights are read, if they still need to be
        return False
    return not pretrained.is_run(origin) or (origin / runs.PROCESSOR).is_dir()


def _named(source: Any, part: str) -> str:
    """The folder that a source names for its tokenizer or processor; empty for none."""
    name = getattr(source, part, "")
    return name if isinstance(name, str) and name != "none" else ""


def _folder_of(name: str, part: str) -> Path:
    """The folder that a tokenizer's or a processor's name means; of a run the one it keeps."""
    folder = pretrained.find_folder(name)
    return folder / part if (folder / part).is_dir() else folder


def _model(run: configs.Run, folder: Path, info: Info) -> Any:
    """The Config that `init_from` gives, with the outputs that the task needs for these data."""
    source, asked = _origin(run, folder), run.model
    changes: dict[str, Any] = {}
    if pretrained.is_run(source):
        cfg = config_json.from_json(runs.read_config(source)).model
    else:
        with warnings.catch_warnings():  # told when the weights are read
            warnings.simplefilter("ignore")
            cfg = pretrained.read_saved(source).cfg
    names = {field.name for field in dataclasses.fields(cfg)}
    outputs = asked.num_classes or _outputs(run.task, info)
    if outputs and "num_classes" in names:
        changes["num_classes"] = outputs
        if "labels" in names:
            named = len(info.class_names) == outputs
            changes["labels"] = info.class_names if named else ()
    if asked.dropout is not None:
        changes |= {name: asked.dropout for name in names if name.endswith("dropout")}
    for name in ("drop_path", "frozen_norm"):
        if (value := getattr(asked, name)) is not None:
            changes[name] = value
    if "image" in info.inputs and {"image_size", "in_chans"} <= names:
        height, width, changes["in_chans"] = info.inputs["image"][0]
        changes["image_size"] = height if height == width else (height, width)
    return registry.replace(cfg, **changes)


def _outputs(task: Any, info: Info) -> int | None:
    if info.num_classes is not None:
        return 1 if isinstance(task, Binary) else info.num_classes
    return math.prod(info.label[0]) if info.label_mean else None


def _check_same(saved: pretrained.Saved, cfg: Any) -> None:
    """Raises where a Config computes something else than the weights were trained for."""
    if type(cfg) is not type(saved.cfg):
        ours, theirs = registry.family(cfg), registry.family(saved.cfg)
        raise InputError(f"init_from: {saved.folder} holds a {theirs}, the model is a {ours}")
    differing = [
        f"{name} {getattr(saved.cfg, name)!r}, not {getattr(cfg, name)!r}"
        for name in (field.name for field in dataclasses.fields(cfg))
        if getattr(saved.cfg, name) != getattr(cfg, name)
        and name not in FREE_FIELDS
        and not name.endswith("dropout")
    ]
    if differing:
        raise InputError(
            f"init_from: {saved.folder} has {'; '.join(differing)}; change the model, or let it be "
            "Pretrained()"
        )


def _read(folder: Path, warn: Warn) -> pretrained.Saved:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        saved = pretrained.read_saved(folder)
    for warning in told:
        warn(f"{folder}: {warning.message}")
    return saved


def _from_run(state: State, module: Any, source: runs.OpenedRun, warn: Warn) -> State:
    """`state` with the parameters and statistics of another run, where their shapes agree."""
    theirs = leaf_paths(source.variables)
    new: list[str] = []

    def take(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found = theirs.get(name)
        if found is None or found.shape != leaf.shape:
            new.append(name)
            return leaf
        return jax.device_put(host_array(found).astype(leaf.dtype), leaf.sharding)

    variables = jax.tree_util.tree_map_with_path(take, state.variables)
    if len(new) == len(leaf_paths(state.variables)):
        raise InputError(f"init_from: no parameter of {source.folder} fits this model")
    if new:
        names = ", ".join(new)
        warn(f"init_from: {source.folder} has nothing of the shape of {names}; these start anew")
    params = variables.pop("params")
    if new and isinstance(module, lora.Adapted) and not isinstance(source.module, lora.Adapted):
        params = lora.with_lengths(params)
    average = _copied(state.average, params)
    return dataclasses.replace(state, params=params, extra=variables, average=average)


def _copied(average: Any, params: Any) -> Any:
    """An average starts from these: a copy, since the first step consumes both."""
    if not average:
        return average
    return jax.tree.map(lambda leaf: jax.device_put(host_array(leaf).copy(), leaf.sharding), params)


def _weights(folder: Path) -> list[Path]:
    return sorted({tensor.file for tensor in open_tensors(folder).values()})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(files: Iterable[Path], target: Path) -> None:
    """Copies the files that exist into a new folder."""

    def write(folder: Path) -> None:
        for path in files:
            if path.is_file():
                shutil.copyfile(path, folder / path.name)

    _make(target, write)


def _make(target: Path, write: Callable[[Path], None]) -> None:
    """Makes a folder and what is written into it, whole or not at all; one that is there stays."""
    if target.exists():
        return
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    partial.rename(target)
