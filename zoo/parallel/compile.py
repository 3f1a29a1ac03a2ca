"""The same pure functions compiled by `jit` over a mesh or by `pmap`: one state, one meaning.

On copies of the state both give the same bits, because both compile what one device does and add
with `psum`. Left to itself, the compiler may transpose a gradient before or after it is added,
and a small product and its transpose round differently.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from zoo.errors import InputError
from zoo.parallel.mesh import BATCH_AXES, state_shardings
from zoo.parallel.reproducible import Reproducible


@dataclass(frozen=True)
class Jit:
    """`jit` over a mesh. Where only the batch is cut, each device's part is written out as under
    `pmap`; a mesh that cuts the state too is left to the compiler, by the shardings."""

    mesh: Mesh
    tensor_parallel: Sequence[tuple[str, P]] = ()

    @property
    def axis(self) -> str | None:
        """The named axis to add over; None where the compiler adds, or there is one device."""
        return "data" if 1 < self.mesh.size == self.mesh.shape["data"] else None

    @property
    def num_shards(self) -> int:
        """Parts the batch is cut into."""
        return int(np.prod([self.mesh.shape[axis] for axis in BATCH_AXES]))

    @property
    def shape(self) -> dict[str, int]:
        """Devices along each axis."""
        return dict(self.mesh.shape)

    def shardings(self, state: Any) -> Any:
        """Where each leaf of an abstract state lies."""
        return state_shardings(state, self.mesh, self.tensor_parallel)

    def place_batch(self, batch: Any, leading: int = 0) -> Any:
        """Puts this process's rows `[..., B, ...]` on the devices, cut on axis `leading`."""
        if self.mesh.size == 1 and self.mesh.devices.flat[0].platform == "cpu":
            return batch  # the program reads the host's memory
        sharding = NamedSharding(self.mesh, P(*[None] * leading, BATCH_AXES))
        if jax.process_count() == 1:
            return jax.device_put(batch, sharding)
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch
        )

    def place_state(self, state: Any) -> Any:
        """Puts a state from the host, or from other devices, where this mode keeps it."""
        return jax.device_put(state, self.shardings(state))

    def train(self, step: Callable[..., Any], state: Any, leading: int = 0) -> Callable[..., Any]:
        """Compiles `(state, batch, ...) -> (state, metrics)`; the given state is consumed.

        Args:
            step: the function.
            state: its shapes.
            leading: the batch's axes before its rows, as in `place_batch`.
        """
        shardings = (self.shardings(state), self._replicated)
        return jax.jit(self._on_each(step, leading), donate_argnums=0, out_shardings=shardings)

    def evaluate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `(variables, batch) -> [sums]`, whole and on the host."""
        compiled = jax.jit(self._on_each(function), out_shardings=self._replicated)
        return lambda variables, batch: [jax.device_get(compiled(variables, batch))]

    def whole(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function of the state, or of a part of it; its result is on every device."""
        return jax.jit(function, out_shardings=self._replicated)

    def saveable(self, state: Any) -> Any:
        """The state as a checkpoint takes it: global arrays."""
        return state

    def _on_each(self, function: Callable[..., Any], leading: int = 0) -> Callable[..., Any]:
        if not self.axis:
            return function
        rows = P(*[None] * leading, BATCH_AXES)

        def call(first: Any, batch: Any, *scalars: Any) -> Any:
            specs = (P(), rows, *[P()] * len(scalars))
            # check_vma would add gradients of copied parameters by itself, and psum once more.
            mapped = jax.shard_map(
                function, mesh=self.mesh, in_specs=specs, out_specs=P(), check_vma=False
            )
            return mapped(first, batch, *scalars)

        return call

    @property
    def _replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())


@dataclass(frozen=True)
class Pmap:
    """`pmap`: every device holds the whole state and computes its rows; sums by `psum`."""

    devices: Sequence[Any]
    axis = "data"

    @property
    def num_shards(self) -> int:
        """Parts the batch is cut into."""
        return len(self.devices)

    @property
    def shape(self) -> dict[str, int]:
        """Devices along each axis."""
        return {"data": len(self.devices)}

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.asarray(self.devices), ("data",))

    @property
    def _replicated(self) -> NamedSharding:
        return NamedSharding(self._mesh, P())

    def shardings(self, state: Any) -> Any:
        """Where each leaf of an abstract state lies: everywhere."""
        return jax.tree.map(lambda _: self._replicated, state)

    def place_batch(self, batch: Any, leading: int = 0) -> Any:
        """Cuts this process's rows on axis `leading` and moves the parts to the front."""
        local = len([d for d in self.devices if d.process_index == jax.process_index()])

        def cut(leaf: np.ndarray) -> np.ndarray:
            shape = leaf.shape
            parts = (*shape[:leading], local, shape[leading] // local, *shape[leading + 1 :])
            return np.moveaxis(leaf.reshape(parts), leading, 0)

        return jax.tree.map(cut, batch)

    def place_state(self, state: Any) -> Any:
        """Puts a state from the host, or from other devices, where this mode keeps it."""
        if jax.process_count() > 1:
            return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), state)
        return jax.device_put(state, self._replicated)

    def train(self, step: Callable[..., Any], state: Any, leading: int = 0) -> Callable[..., Any]:
        """Compiles `(state, batch, ...) -> (state, metrics)`; the given state is consumed."""
        return self._mapped(step, donate_argnums=0)

    def evaluate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `(variables, batch) -> [sums]`, whole and on the host."""
        compiled = self._mapped(function)
        return lambda variables, batch: [jax.device_get(compiled(variables, batch))]

    def whole(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function of the state, or of a part of it; its result is on every device."""
        return jax.jit(function)

    def saveable(self, state: Any) -> Any:
        """The state as a checkpoint takes it: global arrays, also where a process sees its own."""
        if jax.process_count() == 1:
            return state
        return multihost_utils.host_local_array_to_global_array(state, self._mesh, P())

    def _mapped(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        compiled: dict[int, Callable[..., Any]] = {}

        def call(first: Any, batch: Any, *scalars: Any) -> Any:
            if len(scalars) not in compiled:
                compiled[len(scalars)] = jax.pmap(
                    function,
                    axis_name=self.axis,
                    out_axes=None,
                    devices=self.devices,
                    in_axes=(None, 0, *[None] * len(scalars)),
                    **options,
                )
            return compiled[len(scalars)](first, batch, *scalars)

        return call


Parallel = Jit | Pmap | Reproducible
"""How a run uses its devices."""


def initialise(parallel: Parallel, function: Callable[..., Any], *args: Any) -> Any:
    """Runs `function` under one `jit`, each array born where `parallel` keeps it."""
    if isinstance(parallel, Reproducible):  # a program of several devices may round differently
        return parallel.place_state(jax.jit(function)(*args))
    shapes = jax.eval_shape(function, *args)
    return jax.jit(function, out_shardings=parallel.shardings(shapes))(*args)


def check_divisible(name: str, size: int, parallel: Parallel) -> None:
    """Raises InputError unless `size` rows can be cut evenly over the devices."""
    parts = "virtual shards" if isinstance(parallel, Reproducible) else "devices"
    if size % parallel.num_shards:
        raise InputError(
            f"{name} {size} does not divide over {parallel.num_shards} {parts}; choose a multiple"
        )


def local_rows(size: int) -> tuple[int, int]:
    """First row and number of rows of a global batch that this process reads."""
    rows = size // jax.process_count()
    return rows * jax.process_index(), rows
