"""Devices and how arrays lie on them: the mesh, automatic FSDP, tensor-parallel tables."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from zoo.errors import InputError

BATCH_AXES = ("data", "fsdp")  # the axes that share out a batch


@dataclass(frozen=True)
class MeshShape:
    """How many devices lie along each axis of the mesh (`--parallel jit`)."""

    data: int = 0
    """Devices that hold whole copies of the state; 0 takes all that the other axes leave."""
    fsdp: int = 1
    """Devices over which parameters and optimizer state are cut up."""
    tensor: int = 1
    """Devices over which single layers are cut up, by the model's own table."""


def select_devices(count: int) -> list[Any]:
    """The JAX devices a run uses: all of them, or the first `count`.

    Raises:
        InputError: there are fewer than `count`.
    """
    devices = jax.devices()
    if count > len(devices):
        raise InputError(
            f"devices: {count} asked for, {len(devices)} {devices[0].platform} device(s) found"
        )
    return devices[:count] if count else devices


def make_mesh(shape: MeshShape, devices: Sequence[Any]) -> Mesh:
    """A mesh with the axes data, fsdp and tensor over JAX devices.

    Raises:
        InputError: the axes do not multiply to the number of devices.
    """
    rest = shape.fsdp * shape.tensor
    if min(shape.fsdp, shape.tensor) < 1 or shape.data < 0:
        raise InputError("mesh: fsdp and tensor must be at least 1, data at least 0")
    data = shape.data or max(len(devices) // rest, 1)
    if data * rest != len(devices):
        raise InputError(
            f"mesh: data {data} x fsdp {shape.fsdp} x tensor {shape.tensor} is not the number "
            f"of devices, {len(devices)}"
        )
    grid = np.asarray(devices).reshape(data, shape.fsdp, shape.tensor)
    return Mesh(grid, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def state_shardings(state: Any, mesh: Mesh, tensor_parallel: Sequence[tuple[str, P]] = ()) -> Any:
    """A NamedSharding for every leaf of an abstract state, over the mesh's axes fsdp and tensor.

    The tensor-parallel table is a list of (path ending, PartitionSpec); optimizer moments follow
    their parameter because their paths end alike. FSDP then cuts the largest axis that is still
    free and divisible. Scalars and small leaves are replicated.

    Raises:
        InputError: a rule of the table matches no leaf.
    """
    fsdp, tensor = mesh.shape.get("fsdp", 1), mesh.shape.get("tensor", 1)
    rules = tensor_parallel if tensor > 1 else ()
    used: set[str] = set()

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        spec: list[Any] = [None] * len(leaf.shape)
        for ending, rule in rules:
            if re.search(rf"(^|/){ending}$", name) and len(rule) <= len(spec):
                spec[: len(rule)] = rule
                used.add(ending)
                break
        if fsdp > 1:
            free = [
                axis
                for axis, size in enumerate(leaf.shape)
                if spec[axis] is None and size % fsdp == 0
            ]
            if free:
                spec[max(free, key=lambda axis: leaf.shape[axis])] = "fsdp"
        return NamedSharding(mesh, P(*spec))

    shardings = jax.tree_util.tree_map_with_path(sharding, state)
    if unused := sorted({ending for ending, _ in rules} - used):
        raise InputError(f"tensor-parallel rules that match no parameter: {', '.join(unused)}")
    return shardings
