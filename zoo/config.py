"""A run as one value: `Run` and its parts, read from a config file and the command line.

A config file is Python with one value, `config = Run(...)`. The command line overrides leaves.
"""

import dataclasses
import difflib
import importlib.util
import inspect
import math
import re
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_type_hints

from zoo.data import Augment
from zoo.errors import InputError
from zoo.parallel.mesh import MeshShape
from zoo.surgery.lora import LoRA
from zoo.training.optimizers import Optimizer, Schedule

__all__ = [
    "Augment", "LoRA", "MeshShape", "Optimizer", "Pretrained", "Run", "Schedule", "load", "parse",
]  # fmt: skip


@dataclass(frozen=True)
class Pretrained:
    """The model that `init_from` names; the run folder keeps the Config that was read there."""

    num_classes: int = 0
    """Outputs of a classifier; 0 takes the data's."""
    dropout: float | None = None
    """Rate of every dropout; None keeps those that were saved."""
    drop_path: float | None = None
    """Rate of stochastic depth, of models that have it; None keeps the one that was saved."""
    frozen_norm: bool | None = None
    """Whether batch norm keeps the running statistics that were saved, also in training; None is
    as the model has it, which lets them move."""


@dataclass(frozen=True)
class Run:
    """One training run: the experiment, then how it is executed."""

    model: Any
    """The architecture: a Config of zoo.models, Pretrained, or your own dataclass with build and
    inputs."""
    task: Any
    """What is learnt: a task of zoo.tasks, or your own."""
    data: Any
    """Where the examples come from: a source of zoo.data, or your own."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """What turns gradients into updates."""
    augment: Augment = field(default_factory=Augment)
    """Random changes to training images, drawn anew at every step."""
    steps: int = 1000
    """Batches to train on."""
    batch_size: int = 64
    """Examples in a batch, over all devices."""
    seed: int = 0
    """Decides the initial parameters, the order of the data and every random draw."""
    balance: bool = False
    """Draw every class equally often, for skewed classes."""
    accumulate: int = 1
    """Microbatches a batch is cut into to save memory; the gradient is that of the whole batch."""
    average: float = 0.0
    """Decay of the moving average of the parameters that evaluation then uses; 0 keeps none."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the computation."""
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the parameters."""
    eval_every: int = 0
    """Steps between evaluations on the validation split; 0 makes ten of the run."""
    early_stopping: int = 0
    """Stop after this many evaluations without a better validation score; 0 never does."""
    best_metric: str = ""
    """Validation metric that picks the best checkpoint, such as accuracy; empty is the task's."""
    best_mode: Literal["", "max", "min"] = ""
    """Whether larger or smaller is better; needed only with a best_metric of your own."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """When the loss or gradient is NaN or infinite: stop the run, or skip that update."""
    reproducible: int = 0
    """Virtual shards of every batch, a power of two: the same bits on any number of devices that
    divides it; 0 has them for one number of devices, and is faster."""
    steps_per_dispatch: int = 0
    """Steps run by one call into the device; 0 decides by the size of the step."""
    init_from: str = ""
    """What this run's parameters start from: a run folder, a folder that transformers wrote, or a
    name on the hub; a head of another shape starts anew."""
    lora: LoRA = LoRA()
    """Adapters that are trained instead of the parameters; none without targets."""

    workdir: str = ""
    """Run folder; empty is runs/ and the name of the config."""
    parallel: Literal["jit", "pmap"] = "jit"
    """How several devices are used: jit over a mesh, or pmap over copies."""
    mesh: MeshShape = field(default_factory=MeshShape)
    """Devices along each axis of the mesh."""
    devices: int = 0
    """Devices to use, simulated on CPU where there are fewer; 0 uses all there are."""
    stop_after: str = ""
    """Save and stop after this time, such as 170m or 2h; empty never does."""
    log_every: int = 0
    """Steps between lines of metrics.jsonl; 0 makes a hundred of the run."""
    save_every: int = 0
    """Steps between checkpoints; 0 saves at every evaluation."""
    on_save_error: Literal["stop", "warn"] = "stop"
    """When a checkpoint cannot be written: stop the run, or warn and go on without it."""
    keep: int = 2
    """Newest checkpoints kept, beside the best one."""
    eval_batch_size: int = 0
    """Examples in an evaluation batch; 0 is the batch size."""
    tensorboard: bool = True
    """Write TensorBoard event files."""
    compile_cache: bool = True
    """Keep compiled programs on disk between runs."""
    allocator: bool = True
    """On CPU under glibc, keep freed memory instead of giving it back (fewer page faults)."""
    loader_threads: int = 2
    """Threads that prepare batches ahead."""


EXECUTION = {
    "workdir", "parallel", "mesh", "devices", "stop_after", "log_every", "save_every", "keep",
    "on_save_error", "eval_batch_size", "tensorboard", "compile_cache", "allocator",
    "loader_threads",
}  # fmt: skip
"""Fields of `Run` that are free to change at any resume; all others are the experiment."""


def parse(argv: list[str], prog: str = "train.py") -> tuple[Run, ModuleType | None]:
    """Reads `--config FILE_OR_NAME` and the overrides.

    Returns:
        The checked run, and the config's module when it is a file of the user's own.

    Raises:
        InputError: the file cannot be read, or a value is wrong.
        SystemExit: with 0 after --help, with 2 after a message about wrong usage.
    """
    import tyro

    for argument in argv:  # bytes that are no UTF-8 arrive as lone surrogates, which nothing prints
        if any("\ud800" <= char <= "\udfff" for char in argument):
            raise InputError(f"an argument is not UTF-8: {ascii(argument)[:80]}")
    name, rest = _config_argument(argv)
    if rest and rest[0].replace("_", "-").startswith("--tyro-"):  # it would write files
        raise InputError(f"{rest[0][:80]} is no option of {prog}; see --help")
    path = find_config(name)
    module, default = load(path)
    if any(argument in ("-h", "--help") for argument in rest):
        print(f"--config FILE_OR_NAME: the run to start from, now {path.stem}; "
              f"known: {', '.join(known_configs())}\n")  # fmt: skip
    run = tyro.cli(
        Run,
        args=rest,
        default=default,
        prog=prog,
        description=inspect.getdoc(module) or "",
        config=(tyro.conf.AvoidSubcommands,),
    )
    _check_bound(run, default)
    if not run.workdir:
        run = dataclasses.replace(run, workdir=f"runs/{path.stem}")
    check(run)
    return run, module


def _check_bound(run: Run, default: Run) -> None:
    """Refuses options for what a task takes from the data, which tyro makes of every field."""
    for part in dataclasses.fields(run.task) if type(run.task) is type(default.task) else ():
        if not part.init and getattr(run.task, part.name) != getattr(default.task, part.name):
            raise InputError(f"task.{part.name} comes from the data and is no option")


def _config_argument(argv: list[str]) -> tuple[str, list[str]]:
    name, rest = "digits_cnn", []
    arguments = iter(argv)
    for argument in arguments:
        if argument == "--config":
            name = next(arguments, "")
            if not name:
                raise InputError("--config needs the path or the name of a config file")
        elif argument.startswith("--config="):
            name = argument.partition("=")[2]
        else:
            rest.append(argument)
    return name, rest


def config_folder() -> Path:
    """Where the configs that come with the project are: in the wheel or in the repository."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "configs"


def known_configs() -> list[str]:
    """The names that `--config` knows."""
    return sorted(path.stem for path in config_folder().glob("[!_]*.py"))


def find_config(name: str) -> Path:
    """The file that `--config` means: a path, or the name of a config of the project.

    Raises:
        InputError: there is neither.
    """
    path = Path(name)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise InputError(f"config file {name[:80]}: {error.strerror}") from None
    if path.suffix in ("", ".py") and path.stem in known_configs() and len(path.parts) <= 2:
        return config_folder() / f"{path.stem}.py"
    near = difflib.get_close_matches(path.stem, known_configs(), 3, 0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise InputError(f"no config file {name[:80]}{hint} (known: {', '.join(known_configs())})")


def load(path: Path) -> tuple[ModuleType, Run]:
    """Executes a config file and returns its module and its value `config`.

    Raises:
        InputError: the file fails, or its `config` is no Run.
    """
    spec = importlib.util.spec_from_file_location(f"zoo_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        lines = [
            at.lineno
            for at in traceback.extract_tb(error.__traceback__)
            if at.filename == str(path)
        ]
        line = lines[-1] if lines else getattr(error, "lineno", None) or 1
        raise InputError(f"{path}:{line}: {type(error).__name__}: {error}") from error
    value = getattr(module, "config", None)
    if not isinstance(value, Run):
        raise InputError(
            f"{path} must hold one value `config = Run(...)`, found {type(value).__name__}"
        )
    return module, value


POSITIVE = ("batch_size", "accumulate", "keep", "loader_threads")
NOT_NEGATIVE = (
    "steps", "seed", "eval_every", "early_stopping", "steps_per_dispatch", "devices", "log_every",
    "save_every", "eval_batch_size", "reproducible",
)  # fmt: skip


def check(run: Run) -> None:
    """Checks types and ranges.

    Raises:
        InputError: naming the field, the value, and what it should be.
    """
    _check_types(run, "")
    for name in POSITIVE + NOT_NEGATIVE:
        least = 1 if name in POSITIVE else 0
        if getattr(run, name) < least:
            raise InputError(f"{name} must be at least {least}, got {getattr(run, name)}")
    if run.seed >= 2**32:
        raise InputError(f"seed must be below 2**32, got {run.seed}")
    if not 0 <= run.average < 1:
        raise InputError(f"average must be at least 0 and below 1, got {run.average}")
    if run.batch_size % run.accumulate:
        raise InputError(
            f"batch_size {run.batch_size} is not a multiple of accumulate {run.accumulate}"
        )
    if run.best_metric and not run.best_mode:
        raise InputError(f"best_metric {run.best_metric} needs --best-mode max or min")
    seconds(run.stop_after)
    if isinstance(run.model, Pretrained) and not run.init_from:
        raise InputError("the model is that of a pretrained folder; name it with --init-from")
    for name in ("model", "task", "data"):
        value = getattr(run, name)
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            raise InputError(f"{name} must be a dataclass value, got {value!r}")


def _check_types(value: Any, path: str) -> None:
    import typeguard

    all_items = typeguard.CollectionCheckStrategy.ALL_ITEMS
    hints = get_type_hints(type(value))
    for part in dataclasses.fields(value):
        found = getattr(value, part.name)
        try:
            typeguard.check_type(found, hints[part.name], collection_check_strategy=all_items)
        except typeguard.TypeCheckError as error:
            raise InputError(f"{path}{part.name} = {found!r}: {error}") from None
        if isinstance(found, float) and not math.isfinite(found):
            raise InputError(f"{path}{part.name} must be a finite number, got {found}")
        if dataclasses.is_dataclass(found) and not isinstance(found, type):
            _check_types(found, f"{path}{part.name}.")


def seconds(text: str) -> float:
    """A duration such as 90s, 170m or 2h in seconds; infinite when empty.

    Raises:
        InputError: it is no duration.
    """
    if not text:
        return float("inf")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match:
        raise InputError(f"stop_after {text!r} is no duration; write 90s, 170m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
