"""Run folders: opening one again, starting from one, keeping one to its experiment."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from zoo import assemble, config_json
from zoo import config as configs
from zoo.data import Info
from zoo.errors import InputError, RunError
from zoo.training.checkpoints import Checkpoints, abstract_state
from zoo.training.receipt import write_json

TOKENIZER = "tokenizer"
"""Where in a run folder the files of the data's tokenizer are."""
PROCESSOR = "processor"
"""Where those of the data's image processor are."""


@dataclass(frozen=True)
class OpenedRun:
    """A run folder, opened to evaluate or predict.

    Attributes:
        run: its resolved config.
        info: what the checkpoint knows of the data (class names, statistics, vocabulary).
        task: bound to that.
        module: the model.
        variables: for `module.apply`, with averaged parameters where the run keeps them.
        step: the checkpoint's step.
        folder: the run folder.
    """

    run: configs.Run
    info: Any
    task: Any
    module: Any
    variables: dict[str, Any]
    step: int
    folder: Path


def open_run(
    folder: str | Path,
    checkpoint: str = "last",
    module: ModuleType | None = None,
    warn: Any = print,
) -> OpenedRun:
    """Opens a run folder: its config, and the model with the parameters of a checkpoint.

    Nothing in the folder is executed, moved or changed.

    Args:
        folder: the run folder.
        checkpoint: `last`, `best` (by the validation score) or a step.
        module: the user's config file, for runs that use classes of their own.
        warn: called with one sentence for each damaged checkpoint that is passed over.

    Raises:
        InputError: no run folder, or no such checkpoint.
        RunError: no checkpoint that is whole.
    """
    folder = Path(folder)
    run = config_json.from_json(read_config(folder), module)
    run = dataclasses.replace(run, data=at_home(run.data, folder))
    directory = folder / "checkpoints"
    if not directory.is_dir():
        raise InputError(f"{folder} has no checkpoints yet; train it first")
    checkpoints = Checkpoints(directory, warn=warn, read_only=True)
    steps = checkpoints.steps()
    if not steps:
        raise InputError(f"{folder} has no checkpoints yet; train it first")
    step = _choose(checkpoints, checkpoint, steps)
    info = None
    for candidate in [step] if step is not None else steps[::-1]:
        try:
            info = Info.from_json(checkpoints.meta(candidate)["info"])
            break
        except Exception as error:
            warn(f"checkpoint {candidate} is damaged ({str(error).splitlines()[0][:200]})")
    if info is None:
        raise RunError(f"no whole checkpoint in {directory}")
    task = run.task.bind(info)
    model = assemble.build_model(run, task)
    like = jax.eval_shape(lambda: assemble.fresh_state(run, model, info))
    single = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = abstract_state(like, jax.tree.map(lambda _: single, like))
    restored = checkpoints.restore(like, step)
    checkpoints.close()
    assert restored is not None
    state = restored[0]
    return OpenedRun(run, info, task, model, state.averaged_variables, int(state.step), folder)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a run folder.

    Raises:
        InputError: it is missing or damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} is no run folder: it has no config.json")
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: it holds no object")
    return value


def at_home(source: Any, folder: Path) -> Any:
    """A source with the run folder's copies of its tokenizer and processor, where there are any."""
    for part in (TOKENIZER, PROCESSOR):
        if (folder / part).is_dir() and hasattr(source, part):
            source = dataclasses.replace(source, **{part: str(folder / part)})
    return source


def _choose(checkpoints: Checkpoints, name: str, steps: list[int]) -> int | None:
    if name == "last":
        return None
    if name == "best":
        best = checkpoints.best_step()
        if best is None:
            raise InputError(
                f"no checkpoint in {checkpoints.directory} has a validation score; choose last"
            )
        return best
    if name.isdigit() and int(name) in steps:
        return int(name)
    raise InputError(
        f"no checkpoint {name!r}; there are last, best and the steps {', '.join(map(str, steps))}"
    )


def check_config(folder: Path, run: configs.Run) -> None:
    """Checks that a folder is free for this experiment, or already holds it.

    Raises:
        InputError: it holds another one; the message names the fields that differ.
    """
    if (folder / "config.json").is_file():
        old = read_config(folder)
        found = config_json.differences(old, config_json.to_json(run))
        steps = old.get("steps", 0)
        longer = isinstance(steps, int) and steps < run.steps
        if longer and not run.optimizer.schedule.depends_on_steps():
            found = [field for field in found if not field.startswith("steps: ")]
        if found:
            raise InputError(
                f"{folder} holds another experiment; choose another --workdir, or undo: "
                + "; ".join(found)
            )
    elif (folder / "checkpoints").is_dir() and any((folder / "checkpoints").iterdir()):
        raise InputError(f"{folder} holds checkpoints but no config.json; choose another --workdir")


def of_another_run(config: dict[str, Any], meta: dict[str, Any]) -> str:
    """Why a checkpoint is not of the run of this config, by the config inside it; else empty.

    Fields that may change at a resume are left out, and those derived from them.
    """
    if "config" not in meta:
        return ""
    found = config_json.differences(config, meta["config"])
    found = [field for field in found if not field.startswith(("steps: ", "eval_every: "))]
    return f"it is of another run; {found[0]}" if found else ""


def write_config(folder: Path, run: configs.Run) -> None:
    """Writes config.json; the folder is known to be this experiment's."""
    write_json(folder / "config.json", config_json.to_json(run))
