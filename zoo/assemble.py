"""What a run is made of: model, task, data and devices joined, and checked against each other."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo import config as configs
from zoo.errors import InputError
from zoo.models import registry
from zoo.parallel.compile import Jit, Parallel, Pmap
from zoo.parallel.mesh import make_mesh, select_devices
from zoo.parallel.reproducible import Reproducible
from zoo.surgery.lora import Adapted
from zoo.tasks.batch import PRIMARY, split_inputs
from zoo.training.optimizers import Freeze
from zoo.training.state import State, initial_state


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


def build_model(run: configs.Run, task: Any) -> Any:
    """The module of a run, with the head that its task needs, and its adapters.

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
    module = run.model.build(usable[0], jnp.dtype(run.dtype), jnp.dtype(run.param_dtype))
    return Adapted(module, run.lora) if run.lora.targets else module


def frozen(run: configs.Run) -> Freeze:
    """What is not trained: by the optimizer's patterns, or all that lora does not name.

    Raises:
        InputError: both are given.
    """
    if not run.lora.targets:
        return run.optimizer.freeze
    if run.optimizer.freeze:
        raise InputError(
            "lora freezes all but its adapters and --lora.whole; leave --optimizer.freeze out"
        )
    return run.lora.frozen


def never_trained(run: configs.Run) -> Freeze:
    """What gets no gradient at any step of the run."""
    return () if run.optimizer.freeze_steps else frozen(run)


def init_variables(module: Any, info: Any, key: Any) -> dict[str, Any]:
    """Fresh variables of a module for the shapes of the data (to be run under one jit)."""
    batch = {k: jnp.zeros(v.shape, v.dtype) for k, v in example_inputs(info, 2).items()}
    primary, keywords = split_inputs(batch)
    return module.init(key, primary, **keywords)


def example_inputs(info: Any, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of model inputs, as the data give them."""
    return {
        key: jax.ShapeDtypeStruct((batch_size, *shape), np.dtype(dtype))
        for key, (shape, dtype) in info.inputs.items()
    }


def fresh_state(run: configs.Run, module: Any, info: Any) -> State:
    """The state before the first step (to be run under one jit)."""
    variables = init_variables(module, info, jax.random.key(run.seed))
    optimizer = run.optimizer.build(run.steps, frozen(run))
    return initial_state(variables, optimizer, run.seed, run.average > 0)


def check_fit(run: configs.Run, module: Any, info: Any) -> None:
    """Checks, without computing, that the model takes the data's inputs.

    Raises:
        InputError: saying what the model wants and what the data give.
    """
    given = example_inputs(info, 2)
    name = next((key for key in PRIMARY if key in given), "")
    if not name:
        raise InputError(f"the data give {', '.join(given)}; a model needs one of {PRIMARY}")
    if hasattr(run.model, "inputs"):
        wanted, spec = next(iter(run.model.inputs().items()))
        if not _agree(spec, given[name]):
            raise InputError(
                f"{type(module).__name__} takes {wanted} {_show(spec)}, the data give {name} "
                f"{_show(given[name])}; change the config of the model (--model...) or of the "
                "data (--data...)"
            )
    vocabulary = getattr(run.model, "vocab_size", None)
    if vocabulary and info.vocab_size and vocabulary < info.vocab_size:
        raise InputError(
            f"the data have {info.vocab_size} tokens, the model {vocabulary}; set "
            f"--model.vocab-size {info.vocab_size}"
        )
    try:
        jax.eval_shape(lambda: init_variables(module, info, jax.random.key(0)))
    except InputError:
        raise
    except Exception as error:
        inputs = ", ".join(f"{key} {_show(spec)}" for key, spec in given.items())
        first = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(
            f"the model does not take the data's inputs ({inputs}): {first}"
        ) from error


def _agree(spec: Any, given: Any) -> bool:
    whole = [np.issubdtype(array.dtype, np.integer) for array in (spec, given)]
    ours, theirs = spec.shape[1:], given.shape[1:]
    if whole[0] != whole[1] or whole[0] and len(ours) != len(theirs):
        return False
    if not whole[0] and len(ours) == 1:
        return int(np.prod(theirs)) == ours[0]  # a vector takes anything of its size, flattened
    # Sequences may have another length; the model says itself which lengths it takes.
    fixed = ours[1:] if len(ours) < 3 else ours
    return len(ours) == len(theirs) and fixed == theirs[len(theirs) - len(fixed) :]


def _show(spec: Any) -> str:
    return f"{np.dtype(spec.dtype).name}[{', '.join(map(str, ('B', *spec.shape[1:])))}]"


def text_generator(module: Any, task: Any, source: Any, info: Any) -> tuple[Any, Any]:
    """For tasks that score generated text: `(variables, batch) -> ids`, and ids to text.

    Both are None for all other tasks.
    """
    if not getattr(task, "generates", False):
        return None, None
    from zoo.inference.generation import greedy

    (length,), _ = info.inputs["decoder_input_ids"]

    def generate(variables: Any, batch: dict[str, np.ndarray]) -> Any:
        return greedy(
            module, variables, batch["input_ids"], batch.get("attention_mask"),
            bos=info.bos, eos=info.eos, pad=info.pad, max_length=length,
        )  # fmt: skip

    return generate, lambda ids: source.decode(ids, info)


def parallelism(run: configs.Run) -> Parallel:
    """How a run uses its devices.

    Raises:
        InputError: too few devices, a mesh that does not fit, or a batch cut into microbatches
            whose examples are compared with each other.
    """
    if run.accumulate > 1 and getattr(run.task, "global_batch", False):
        raise InputError(
            f"the loss of {type(run.task).__name__} needs the whole batch in one piece; accumulate "
            "cuts it into microbatches: leave it at 1, and use more devices for a larger batch"
        )
    devices = select_devices(run.devices)
    if run.reproducible:
        return _reproducible(run, devices)
    if run.parallel == "pmap":
        if (run.mesh.fsdp, run.mesh.tensor) != (1, 1):
            raise InputError("--parallel pmap copies the state to every device; a mesh needs jit")
        return Pmap(devices)
    table = getattr(registry.module_of(run.model), "TENSOR_PARALLEL", ())
    return Jit(make_mesh(run.mesh, devices), table)


def _reproducible(run: configs.Run, devices: list[Any]) -> Reproducible:
    if (run.mesh.fsdp, run.mesh.tensor) != (1, 1):
        raise InputError("reproducible copies the state to every device; it takes no other mesh")
    if run.steps_per_dispatch > 1:
        raise InputError("reproducible dispatches every virtual shard; steps_per_dispatch is 1")
    if getattr(run.task, "global_batch", False):
        raise InputError(
            f"the loss of {type(run.task).__name__} needs the whole batch in one piece; "
            "reproducible cuts it into virtual shards"
        )
    return Reproducible(devices, run.reproducible, run.parallel == "pmap")
