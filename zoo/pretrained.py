"""Models with weights: from what a reference library saved, and back to it."""

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from zoo.errors import InputError
from zoo.hub import find_folder
from zoo.models import registry
from zoo.nn.patches import grid
from zoo.parallel.mesh import state_shardings
from zoo.weights import loading, timm
from zoo.weights.configs import check_sizes, read_labels
from zoo.weights.files import open_tensors
from zoo.weights.torch_zip import open_torch

FORMATS: dict[str, Any] = {"transformers": loading, "timm": timm}
"""What reads and writes the folders of each reference library."""
DAMAGE = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, MemoryError)
"""What numbers that do not go together may raise, anywhere in a model."""


def from_pretrained(
    path_or_hub_name: str | Path,
    task: str | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike | None = None,
    mesh: Mesh | None = None,
    weights: str | None = None,
    **config_changes: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """A model and its variables, from a folder of transformers or timm, or from a run folder.

    Every tensor of the files is used or known to be of no use, and every parameter is filled, else
    one error lists all that does not fit. No code of the folder is executed.

    Args:
        path_or_hub_name: a folder with config.json and model.safetensors (or its shards), a run
            folder of this package, or a name on the Hugging Face hub.
        task: which head; None is the one that was saved. A head that the files do not have is
            initialised by key 0, and a warning names it.
        dtype: of the computation; None is that of the parameters.
        param_dtype: of the parameters; None keeps the files'.
        mesh: devices to lay the parameters out on, by the rules of training: cut over its axes
            fsdp and tensor, where it has them; each device reads its part alone.
        weights: name of a file of the folder that `torch.save` wrote, such as `pytorch_model.bin`;
            such a file is read only when asked for.
        **config_changes: new values for fields of the Config, such as `num_classes=3`; for other
            `in_chans` the first convolution is made to fit as timm does, for another `image_size`
            learned positions are resized, and `num_classes=0` is the model without classifier.

    Raises:
        InputError: no such folder or name, an unknown model, a value of config.json that is not
            implemented, or tensors that do not fit.
    """
    folder = find_folder(path_or_hub_name)
    if is_run(folder):
        return _from_run(folder, task, dtype, param_dtype, mesh, config_changes)
    saved = read_saved(folder)
    family, cfg = saved.family, saved.config(**config_changes)
    bare = getattr(cfg, "num_classes", None) == 0
    task = task or (loading.BARE if bare else saved.task)
    try:
        tensors = open_torch(_inside(folder, weights)) if weights else open_tensors(folder)
        kept = next((t.dtype for t in tensors.values() if np.dtype(t.dtype).kind in "fV"), None)
        kept = jnp.dtype(param_dtype or kept or jnp.float32)
        module, shapes = _build(cfg, task, jnp.dtype(dtype or kept), kept)
        flat = loading.flatten(shapes)
        plan = loading.plan(
            family, cfg, task, saved.task, tensors, {k: v.shape for k, v in flat.items()},
            "num_classes" in config_changes, "in_chans" in config_changes,
            _saved_grid(saved.cfg), saved.cfg,
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    shardings: dict[str, Any]
    if mesh is None:
        single = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shardings = dict.fromkeys(flat, single)
    else:
        mesh = Mesh(mesh.devices, mesh.axis_names)  # what is cut how is left to the compiler
        table = registry.module_of(cfg).TENSOR_PARALLEL
        shardings = loading.flatten(state_shardings(shapes, mesh, table))
        for path, leaf in flat.items():
            try:
                shardings[path].shard_shape(leaf.shape)
            except ValueError:
                spec = shardings[path].spec
                raise InputError(
                    f"the mesh {dict(mesh.shape)} does not divide {path} {leaf.shape} by {spec}"
                ) from None

    def place(path: str, array: np.ndarray) -> jax.Array:
        def part(index: Any) -> np.ndarray:
            kind = loading.kept_dtype(path, param_dtype or array.dtype)
            return array[index].astype(kind)  # a copy, out of the file

        return jax.make_array_from_callback(array.shape, shardings[path], part)

    found = plan.read(place)
    if plan.fresh:
        warnings.warn(
            f"{folder} has no {', '.join(sorted(plan.fresh))}; initialised, to be trained",
            stacklevel=2,
        )
        new = _init(module, plan.fresh)
        found |= {path: jax.device_put(new[path], shardings[path]) for path in plan.fresh}
    return module, loading.nest(found)


@dataclasses.dataclass(frozen=True)
class Saved:
    """What config.json of a reference's folder says.

    Attributes:
        folder: the folder.
        family: the table of its format.
        cfg: the Config, with the names of labels.
        task: of the head that was saved.
    """

    folder: Path
    family: Any
    cfg: Any
    task: str

    def config(self, **changes: Any) -> Any:
        """The Config with other field values; for other classes the names are forgotten.

        Raises:
            InputError: unknown field, or a value of the wrong type.
        """
        if "num_classes" in changes and hasattr(self.cfg, "labels"):
            changes = {"labels": ()} | changes
        return registry.replace(self.cfg, **changes)


def read_saved(folder: Path) -> Saved:
    """Reads config.json of a reference's folder.

    Raises:
        InputError: an unknown model, or a value that is not implemented.
    """
    values = _read_json(folder / "config.json")
    if timm.is_config(values):
        family = timm.family_of(values)
        cfg = _config(folder, lambda values: timm.read_config(family, values), values)
        return Saved(folder, family, cfg, timm.task_of(cfg))
    family = loading.family_of(values)
    cfg = _config(folder, family.read_config, values)
    fields = {field.name for field in dataclasses.fields(cfg)}
    cfg = dataclasses.replace(cfg, **{k: v for k, v in read_labels(values).items() if k in fields})
    return Saved(folder, family, cfg, loading.task_of(family, values))


def fill(saved: Saved, module: nn.Module, variables: Any) -> tuple[dict[str, Any], list[str]]:
    """Variables of a module with those of a folder in their place, each of the dtype and where it
    is; a head that the folder does not have, or has of another shape, stays as it is. Classes that
    both name, in another order, are put in the module's; those of other names stay as they are.

    Returns:
        The collections that the folder fills, and the paths of the parameters that stayed.

    Raises:
        InputError: tensors that do not fit.
    """
    flat = loading.flatten(variables)

    def place(path: str, array: np.ndarray) -> jax.Array:
        old = flat[path]

        def part(index: Any) -> np.ndarray:
            return array[index].astype(old.dtype)  # a copy, out of the file

        return jax.make_array_from_callback(old.shape, old.sharding, part)

    try:
        plan = loading.plan(
            saved.family, module.cfg, module.task, saved.task, open_tensors(saved.folder),
            {path: leaf.shape for path, leaf in flat.items()}, True, True, _saved_grid(saved.cfg),
            saved.cfg,
        )  # fmt: skip
        found = plan.read(place)
    except InputError as error:
        raise InputError(f"{saved.folder}: {error}") from None
    ours, theirs = (getattr(cfg, "labels", ()) for cfg in (module.cfg, saved.cfg))
    fresh = set(plan.fresh)
    if ours and theirs and ours != theirs and module.task in loading.CLASSIFIERS:
        for path in _by_class(module, flat) - fresh:
            if sorted(ours) == sorted(theirs):
                order = np.array([theirs.index(name) for name in ours])
                found[path] = jax.device_put(found[path][..., order], flat[path].sharding)
            else:
                found.pop(path)
                fresh.add(path)
    return loading.nest(flat | found), sorted(fresh)


def _by_class(module: nn.Module, flat: dict[str, Any]) -> set[str]:
    """Paths of the parameters that have an entry for each class."""
    wider = dataclasses.replace(module.cfg, num_classes=module.cfg.num_classes + 1)
    _, shapes = _build(wider, module.task, module.dtype, module.param_dtype)
    wide = loading.flatten(shapes)
    return {path for path, leaf in flat.items() if wide[path].shape != leaf.shape}


def is_run(folder: Path) -> bool:
    """Whether a folder is a run folder of this package."""
    values = _read_json(folder / "config.json")
    return isinstance(values.get("model"), dict) and "model_type" not in values


def save_pretrained(
    directory: str | Path, model: nn.Module, variables: Any, format: str = "transformers"
) -> None:
    """Writes a folder that the reference library opens: for timm by
    `timm.create_model("local-dir:DIRECTORY", pretrained=True)`.

    Args:
        directory: made where it does not exist; config.json and the weights in it are replaced.
        model: from `create_model` or `from_pretrained`.
        variables: its variables.
        format: `transformers` or `timm`.

    Raises:
        InputError: an unknown format, or a model or head that the reference does not have.
    """
    if format not in FORMATS:
        raise InputError(f"save_pretrained: no format {format!r}; there are: {', '.join(FORMATS)}")
    tables, kind = FORMATS[format], registry.family(model.cfg)
    family = tables.families().get(kind)
    if family is None:
        known = ", ".join(tables.families())
        raise InputError(f"{kind} has no format of {format}; {known} have")
    flat = {
        path: np.asarray(jax.device_get(leaf)) for path, leaf in loading.flatten(variables).items()
    }
    tables.write_folder(Path(directory), family, model.cfg, model.task, flat)


def _from_run(
    folder: Path, task: Any, dtype: Any, param_dtype: Any, mesh: Any, changes: dict[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """A run folder's model with its (averaged) parameters."""
    from zoo import runs

    if task or mesh or changes or dtype or param_dtype:
        raise InputError(
            f"{folder} is a run folder: it is opened as it is, without other arguments"
        )
    opened = runs.open_run(folder)
    return opened.module, opened.variables


def _config(folder: Path, read: Callable[[Any], Any], values: dict[str, Any]) -> Any:
    """The Config of config.json, every field of the type it declares."""
    try:
        cfg = read(values)
        cfg = registry.replace(cfg, **vars(cfg))
        check_sizes(cfg)
        return cfg
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    except DAMAGE as error:
        told = str(error) or repr(error)
        raise InputError(f"{folder / 'config.json'} is damaged: {told}") from None


def _build(cfg: Any, task: str, dtype: Any, param_dtype: Any) -> tuple[nn.Module, Any]:
    """The module and the shapes of its variables.

    Raises:
        InputError: an unknown task, or numbers of the Config that do not go together.
    """
    try:
        module = cfg.build(task, dtype, param_dtype)
        return module, jax.eval_shape(lambda: registry.init(module, jax.random.key(0)))
    except InputError:
        raise
    except DAMAGE as error:
        told = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(f"config.json describes no model that can be built: {told}") from error


def _init(module: nn.Module, paths: list[str]) -> dict[str, jax.Array]:
    """Some variables of a module, initialised by key 0; the others are not computed."""

    def run(key: jax.Array) -> dict[str, Any]:
        flat = loading.flatten(registry.init(module, key))
        return {path: flat[path] for path in paths}

    return jax.jit(run)(jax.random.key(0))


def _saved_grid(cfg: Any) -> tuple[int, int] | None:
    """The grid of patches of a Config that has patches."""
    return grid(cfg.image_size, cfg.patch_size) if hasattr(cfg, "patch_size") else None


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise InputError(f"there is no file {name}")
    return path


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path.parent} has no config.json")
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {str(error)[:200]}") from None
    return value
