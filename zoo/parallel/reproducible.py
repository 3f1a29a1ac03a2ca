"""The same bits on any number of devices: fixed virtual shards, one program, one order of sums.

The batch is cut into N virtual shards, however many devices there are. One program of one device
computes the gradient of a shard and is dispatched for each, wherever the shard lies; sums run over
a fixed binary tree, whose lower levels lie within a device and whose upper ones exchange whole sums
between devices. Nothing a program of several devices computes is more than an addition, so the
compiler has nothing to do differently for another number of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from zoo.errors import InputError


@dataclass(frozen=True)
class Reproducible:
    """Data parallelism over copies of the state, in virtual shards.

    Attributes:
        devices: all devices of the run, those of a process together.
        shards: number of virtual shards, a power of two; the number of devices divides it.
        mapped: whether sums between devices are compiled by `pmap` instead of `jit`.
    """

    devices: Sequence[Any]
    shards: int
    mapped: bool = False
    axis = None  # within a virtual shard nothing is added over devices

    def __post_init__(self) -> None:
        if self.shards < 1 or self.shards & (self.shards - 1):
            raise InputError(f"reproducible must be a power of two, got {self.shards}")
        if self.shards % len(self.devices):
            raise InputError(
                f"reproducible: {len(self.devices)} devices do not divide {self.shards} virtual "
                "shards; use --devices with a power of two, or more shards"
            )

    @property
    def num_shards(self) -> int:
        """Parts the batch is cut into."""
        return self.shards

    @property
    def shape(self) -> dict[str, int]:
        """Devices along each axis."""
        return {"data": len(self.devices)}

    @property
    def _local(self) -> list[Any]:
        return [d for d in self.devices if d.process_index == jax.process_index()]

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.asarray(self.devices), ("data",))

    @property
    def _each(self) -> int:
        """Virtual shards of one device."""
        return self.shards // len(self.devices)

    def shardings(self, state: Any) -> Any:
        """Where each leaf of an abstract state lies: everywhere."""
        return jax.tree.map(lambda _: NamedSharding(self._mesh, P()), state)

    def place_batch(self, batch: Any, leading: int = 0) -> Any:
        """This process's virtual shards of a batch, each on its device.

        Args:
            batch: this process's rows, `[B, ...]`, or `[A, B/A, ...]` where `leading` is 1.
            leading: 1 where the rows are cut into A microbatches; a shard cuts its own rows.
        """
        count = self._each * len(self._local)

        def cut(leaf: np.ndarray) -> np.ndarray:
            parts = leaf.shape[:leading]
            rows = leaf.reshape(-1, *leaf.shape[leading + 1 :])
            return rows.reshape(count, *parts, -1, *rows.shape[1:])

        cuts = jax.tree.map(cut, batch)
        return [
            jax.device_put(jax.tree.map(lambda leaf, at=at: leaf[at], cuts), device)
            for at, device in enumerate(np.repeat(np.asarray(self._local), self._each))
        ]

    def place_state(self, state: Any) -> Any:
        """Puts a whole state from the host, or from other devices, on every device."""
        if jax.process_count() > 1:
            state = jax.tree.map(np.asarray, state)
        return jax.device_put(state, self.shardings(state))

    def saveable(self, state: Any) -> Any:
        """The state as a checkpoint takes it: global arrays."""
        return state

    def train(self, step: Any, state: Any, leading: int = 0) -> Callable[..., Any]:
        """The step in three kinds of programs: a shard's gradient, additions, the update.

        Args:
            step: gives `key(state)`, `shard(state, batch, key)` and `update(state, sums, extra)`.
            state: its shapes.
            leading: the batch's axes before its rows, as in `place_batch`.

        Returns:
            `(state, batch) -> (state, metrics)`; the given state is consumed.
        """
        del state, leading

        @jax.jit
        def gradient(state: Any, batch: Any, number: Any) -> Any:
            key = jax.random.fold_in(step.key(state), number)
            # The axis of 1 is that of the devices, once the sums of all of them are one array.
            return jax.tree.map(lambda leaf: leaf[None], step.shard(state, batch, key))

        @partial(jax.jit, donate_argnums=0)
        def update(state: Any, total: Any) -> Any:
            sums, extra = jax.tree.map(lambda leaf: leaf[0], total)
            return step.update(state, sums, jax.tree.map(self._mean, extra))

        add = jax.jit(partial(jax.tree.map, jnp.add))
        exchange = self._exchange()
        first = self.devices.index(self._local[0]) * self._each

        def call(state: Any, batch: Any) -> Any:
            copies = self._copies(state)
            sums = [
                gradient(copies[at // self._each], rows, np.int32(first + at))
                for at, rows in enumerate(batch)
            ]
            while len(sums) > len(copies):
                sums = [add(a, b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
            made = [update(copy, total) for copy, total in zip(copies, exchange(sums), strict=True)]
            return self._joined([new for new, _ in made]), self._joined([new for _, new in made])

        return call

    def evaluate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `(variables, batch) -> [sums of virtual shard 0, of shard 1, ...]`."""
        compiled = jax.jit(function)

        def call(variables: Any, batch: Any) -> list[Any]:
            copies = self._copies(variables)
            found = [compiled(copies[at // self._each], rows) for at, rows in enumerate(batch)]
            found = jax.device_get(found)
            if jax.process_count() == 1:
                return found
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
            stacked = multihost_utils.process_allgather(stacked, tiled=True)
            return [
                jax.tree.map(lambda leaf, at=at: leaf[at], stacked) for at in range(self.shards)
            ]

        return call

    def whole(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function of the state, or of a part of it, for one of its copies."""
        compiled = jax.jit(function)
        return lambda *trees: compiled(*(self._copies(tree)[0] for tree in trees))

    def _copies(self, tree: Any) -> list[Any]:
        """This process's copies of a replicated tree, in the order of its devices."""
        leaves, structure = jax.tree.flatten(tree)
        lists = [{shard.device: shard.data for shard in leaf.addressable_shards} for leaf in leaves]
        return [structure.unflatten([found[device] for found in lists]) for device in self._local]

    def _joined(self, copies: Sequence[Any]) -> Any:
        """The replicated tree that these copies are."""
        sharding = NamedSharding(self._mesh, P())
        return jax.tree.map(
            lambda *leaves: jax.make_array_from_single_device_arrays(
                leaves[0].shape, sharding, list(leaves)
            ),
            *copies,
        )

    def _mean(self, leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf / self.shards  # exact: a power of two
        return leaf // self.shards

    def _exchange(self) -> Callable[[list[Any]], list[Any]]:
        """Compiles the sum over all devices, on each: partners 1, 2, 4, ... apart swap theirs."""
        count = len(self.devices)
        if count == 1:
            return lambda sums: sums

        def butterfly(tree: Any) -> Any:
            leaves, structure = jax.tree.flatten(tree)
            for dtype in {leaf.dtype: None for leaf in leaves}:
                alike = [at for at, leaf in enumerate(leaves) if leaf.dtype == dtype]
                # One array, since in every exchange all devices wait for each other.
                total = jnp.concatenate([leaves[at].ravel() for at in alike])
                for apart in (2**level for level in range(count.bit_length() - 1)):
                    pairs = [(at, at ^ apart) for at in range(count)]
                    total += jax.lax.ppermute(total, "data", pairs)  # commutes: both get one sum
                ends = np.cumsum([leaves[at].size for at in alike])[:-1]
                for at, part in zip(alike, jnp.split(total, ends), strict=True):
                    leaves[at] = part.reshape(leaves[at].shape)
            return structure.unflatten(leaves)

        if self.mapped:  # takes and gives the rows of this process alone
            mesh = Mesh(np.asarray(self._local), ("data",))
            program = jax.pmap(butterfly, axis_name="data", devices=self.devices)
        else:
            mesh = self._mesh
            rows = P("data")
            program = jax.jit(jax.shard_map(butterfly, mesh=mesh, in_specs=rows, out_specs=rows))
        sharding = NamedSharding(mesh, P("data"))

        def join(*parts: Any) -> Any:
            shape = (mesh.size, *parts[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, sharding, list(parts))

        return lambda sums: self._copies(program(jax.tree.map(join, *sums)))
