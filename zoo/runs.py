"""What a run is made of: model, task and data joined; and opening a run folder again."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo import config as configs
from zoo.errors import InputError, RunError
from zoo.models import registry
from zoo.training.checkpoints import Checkpoints, abstract_state
from zoo.training.state import State, initial_state


def build_model(run: configs.Run, task: Any) -> Any:
    """The module of a run, with the head that its task needs.

    Raises:
        InputError: the model has no such head.
    """
    known = getattr(registry.module_of(run.model), "TASKS", None)
    names = tuple(getattr(task, "names", ())) or (None,)
    usable = [name for name in names if known is None or name in known]
    if not usable:
        raise InputError(
            f"model {registry.family(run.model)} has no head for {names[0]}; it has: "
            f"{', '.join(known or ())}"
        )
    return run.model.build(usable[0], jnp.dtype(run.dtype), jnp.dtype(run.param_dtype))


def example_inputs(info: Any, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of model inputs, as the data give them."""
    return {
        key: jax.ShapeDtypeStruct((batch_size, *shape), np.dtype(dtype))
        for key, (shape, dtype) in info.inputs.items()
    }


def init_variables(module: Any, task: Any, info: Any, key: Any) -> dict[str, Any]:
    """Fresh variables of a module for the shapes of the data (to be run under one jit)."""
    from zoo.tasks.batch import split_inputs

    batch = {k: jnp.zeros(v.shape, v.dtype) for k, v in example_inputs(info, 2).items()}
    primary, keywords = split_inputs(batch)
    return module.init(key, primary, **keywords)


def check_fit(run: configs.Run, module: Any, task: Any, info: Any) -> None:
    """Checks, without computing, that the model takes the data's inputs and the task its outputs.

    Raises:
        InputError: saying what the model wants and what the data give.
    """
    given = example_inputs(info, 2)
    wanted = run.model.inputs() if hasattr(run.model, "inputs") else {}
    for key, spec in list(wanted.items())[:1]:
        primary = next((k for k in ("image", "features", "input_ids") if k in given), "")
        shape = given[primary].shape[1:] if primary else ()
        if not _agree(spec, given.get(primary)):
            raise InputError(
                f"{registry.family(run.model)} takes {key} {_show(spec.shape[1:], spec.dtype)}, the "
                f"data give {primary or 'no input'} "
                f"{_show(shape, given[primary].dtype) if primary else ''}; change the model's "
                "config (--model...) or the data's (--data...)"
            )
    if info.vocab_size and (getattr(run.model, "vocab_size", None) or info.vocab_size) < info.vocab_size:
        raise InputError(
            f"the data have {info.vocab_size} tokens, the model {run.model.vocab_size}; set "
            f"--model.vocab-size {info.vocab_size}"
        )
    try:
        jax.eval_shape(lambda: init_variables(module, task, info, jax.random.key(0)))
    except InputError:
        raise
    except Exception as error:
        first = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(
            f"the model does not take the data's inputs "
            f"({', '.join(f'{k} {_show(v.shape[1:], v.dtype)}' for k, v in given.items())}): {first}"
        ) from error


def _agree(spec: Any, given: Any) -> bool:
    if given is None or np.issubdtype(spec.dtype, np.integer) != np.issubdtype(given.dtype, np.integer):
        return False
    ours, theirs = spec.shape[1:], given.shape[1:]
    if len(ours) == 1 and not np.issubdtype(spec.dtype, np.integer):
        return int(np.prod(theirs)) == ours[0]  # a vector takes anything of its size, flattened
    if len(ours) != len(theirs):
        return False
    # Sequences may have another length; the model says itself which lengths it takes.
    fixed = ours[1:] if len(ours) < 3 else ours
    return fixed == theirs[len(theirs) - len(fixed) :]


def _show(shape: tuple[int, ...], dtype: Any) -> str:
    return f"{np.dtype(dtype).name}[{', '.join(map(str, ('B', *shape)))}]"


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
    from zoo.data import Info

    folder = Path(folder)
    run = configs.from_json(read_config(folder), module)
    directory = folder / "checkpoints"
    if not directory.is_dir():
        raise InputError(f"{folder} has no checkpoints yet; train it first")
    checkpoints = Checkpoints(directory, warn=warn, read_only=True)
    steps = checkpoints.steps()
    if not steps:
        raise InputError(f"{folder} has no checkpoints yet; train it first")
    step = _choose(checkpoints, checkpoint, steps)
    info, like = None, None
    for candidate in [step] if step is not None else steps[::-1]:
        try:
            info = Info.from_json(checkpoints.meta(candidate)["info"])
            break
        except Exception as error:
            warn(f"checkpoint {candidate} is damaged ({str(error).splitlines()[0][:200]})")
    if info is None:
        raise RunError(f"no whole checkpoint in {directory}")
    task = run.task.bind(info)
    model = build_model(run, task)
    like = abstract_training_state(run, model, task, info, run.steps)
    single = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = abstract_state(like, jax.tree.map(lambda _: single, like))
    restored = checkpoints.restore(like, step)
    checkpoints.close()
    assert restored is not None
    state = restored[0]
    return OpenedRun(
        run, info, task, model, state.averaged_variables, int(state.step), folder
    )


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
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: it holds no object")
    return value


def abstract_training_state(run: configs.Run, module: Any, task: Any, info: Any, steps: int) -> State:
    """Shapes of the whole training state."""
    return jax.eval_shape(lambda: fresh_state(run, module, task, info, steps))


def fresh_state(run: configs.Run, module: Any, task: Any, info: Any, steps: int) -> State:
    """The state before the first step (to be run under one jit)."""
    variables = init_variables(module, task, info, jax.random.key(run.seed))
    return initial_state(variables, run.optimizer.build(steps), run.seed, run.average > 0)


def warm_start(state: State, source: OpenedRun, warn: Any) -> State:
    """`state` with the parameters and statistics of another run, where their shapes agree.

    Raises:
        InputError: no parameter agrees.
    """
    from zoo.training.state import leaf_paths

    theirs = leaf_paths(source.variables)
    new: list[str] = []

    def take(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found = theirs.get(name)
        if found is None or found.shape != leaf.shape:
            new.append(name)
            return leaf
        return jax.device_put(found.astype(leaf.dtype), leaf.sharding)

    variables = jax.tree_util.tree_map_with_path(take, state.variables)
    if len(new) == len(leaf_paths(state.variables)):
        raise InputError(f"init_from: no parameter of {source.folder} fits this model")
    if new:
        warn(f"init_from: these start anew, since {source.folder} has none of their shape: {', '.join(new)}")
    params = variables.pop("params")
    average = jax.tree.map(jnp.array, params) if state.average else state.average
    return state.replace(params=params, extra=variables, average=average)


def _choose(checkpoints: Checkpoints, name: str, steps: list[int]) -> int | None:
    if name == "last":
        return None
    if name == "best":
        return checkpoints.best_step()
    if name.isdigit() and int(name) in steps:
        return int(name)
    raise InputError(
        f"no checkpoint {name!r}; there are last, best and the steps {', '.join(map(str, steps))}"
    )


def text_generator(module: Any, task: Any, source: Any, info: Any) -> tuple[Any, Any]:
    """For tasks that score generated text: `(variables, batch) -> ids`, and ids to text.

    Both are None for all other tasks.
    """
    if not getattr(task, "generates", False):
        return None, None
    from zoo.inference.generation import greedy

    def generate(variables: Any, batch: dict[str, np.ndarray]) -> Any:
        return greedy(
            module, variables, batch["input_ids"], batch.get("attention_mask"),
            bos=info.bos, eos=info.eos, pad=info.pad, max_length=info.max_length,
        )  # fmt: skip

    return generate, lambda ids: source.decode(ids, info)


def resolved(run: configs.Run) -> configs.Run:
    """The run with its intervals filled in: ten evaluations, a hundred log lines."""
    eval_every = run.eval_every or max(run.steps // 10, 1)
    return dataclasses.replace(
        run,
        eval_every=eval_every,
        log_every=run.log_every or max(run.steps // 100, 1),
        save_every=run.save_every or eval_every,
        eval_batch_size=run.eval_batch_size or run.batch_size,
    )
