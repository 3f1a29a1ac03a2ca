"""The training state: one pytree, the same under `jit` and `pmap`, saved whole."""

import hashlib
import re
import sys
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.experimental import multihost_utils

from zoo.errors import InputError
from zoo.paths import leaf_paths
from zoo.training.sums import long_sums


@struct.dataclass
class State:
    """Everything that a training step reads and writes.

    Attributes:
        step: int32 scalar, the batches consumed so far; the next step uses batch and key `step`.
        seed: uint32 scalar; the key of step n is `fold_in(key(seed), n)`.
        params: nested dict of trainable arrays.
        opt_state: optax's state.
        extra: the other collections of the model, such as `{"batch_stats": ...}`.
        average: exponential moving average of `params`; an empty dict where none is kept.
        failed: int32 scalar, the first step whose loss or gradient was not finite; -1 if none.
            Once set, no later step changes the state (unless the run skips such updates).
        skipped: int32 scalar, updates left out because they were not finite.
        best: float32 scalar, best validation score so far, larger is better.
        stale: int32 scalar, evaluations since `best` improved.
    """

    step: Any
    seed: Any
    params: Any
    opt_state: Any
    extra: Any
    average: Any
    failed: Any
    skipped: Any
    best: Any
    stale: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes for training: the raw parameters and the other collections."""
        return {"params": self.params, **self.extra}

    @property
    def averaged_variables(self) -> dict[str, Any]:
        """What evaluation uses: averaged parameters where they are kept, else the raw ones."""
        return {"params": self.average or self.params, **self.extra}


def initial_state(variables: dict[str, Any], optimizer: Any, seed: int, average: bool) -> State:
    """The state before the first step, from freshly initialised `variables`."""
    params = variables["params"]
    extra = {name: tree for name, tree in variables.items() if name != "params"}
    return State(
        step=jnp.int32(0),
        seed=jnp.uint32(seed),
        params=params,
        opt_state=optimizer.init(params),
        extra=extra,
        average=jax.tree.map(jnp.array, params) if average else {},
        failed=jnp.int32(-1),
        skipped=jnp.int32(0),
        best=jnp.float32(-jnp.inf),
        stale=jnp.int32(0),
    )


def check_names(tree: Any) -> None:
    """Refuses names that would not be safe as parts of a path in a checkpoint.

    Raises:
        InputError: a name has other characters than letters, digits, `_`, `-` and `.`, or is a
            relative folder.
    """
    for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]:
        for key in path:
            name = jax.tree_util.keystr((key,), simple=True)
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name in (".", ".."):
                raise InputError(
                    f"the parameter name {name!r} cannot be part of a path; name the module with "
                    "letters, digits, _, - and . alone"
                )


def leaf_shapes(tree: Any) -> dict[str, str]:
    """The dtypes and shapes of the leaves, such as `float32[3,4]`, by path."""
    return {
        path: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for path, leaf in leaf_paths(tree).items()
    }


def host_array(leaf: Any) -> np.ndarray:
    """A leaf's whole value on the host; every process must ask for it, where there are several."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        if not leaf.is_fully_replicated:
            return multihost_utils.process_allgather(leaf, tiled=True)
        leaf = leaf.addressable_data(0)
    return np.asarray(leaf)


def _update(digest: Any, name: str, array: np.ndarray) -> None:
    shape = "x".join(str(size) for size in array.shape)
    digest.update(f"{name}\0{array.dtype.name}\0{shape}\0".encode())
    if sys.byteorder == "big":
        array = array.byteswap()
    digest.update(np.ascontiguousarray(array).tobytes())


def leaf_digests(tree: Any, summed: Collection[str] | None = None) -> dict[str, str]:
    """A digest of every leaf, by path.

    SHA-256 (of path, dtype, shape, little-endian C-order bytes) where a process holds the leaf
    whole. A leaf in shards of several processes is not gathered: its digest is `sums:` and two
    position-weighted sums modulo 2**32 (`zoo.training.sums`), which do not depend on the shards.

    Args:
        tree: all processes must ask, where there are several.
        summed: paths of the leaves that get sums; None decides by where the leaves lie.
    """
    leaves = leaf_paths(tree)
    if summed is None:
        summed = [path for path, leaf in leaves.items() if _in_shards(leaf)]
    chosen = [path for path in leaves if path in set(summed)]
    sums = np.asarray(long_sums([leaves[path] for path in chosen])) if chosen else []
    digests = {path: f"sums:{a:08x}{b:08x}" for path, (a, b) in zip(chosen, sums, strict=True)}
    for path, leaf in leaves.items():
        if path not in digests:
            digest = hashlib.sha256()
            _update(digest, path, host_array(leaf))
            digests[path] = digest.hexdigest()
    return digests


def differing_leaf(tree: Any, digests: dict[str, str]) -> str | None:
    """The first leaf whose digest is another than the given one; None if there is none."""
    summed = [path for path, digest in digests.items() if digest.startswith("sums:")]
    found = leaf_digests(tree, summed)
    return next((path for path in found if found[path] != digests.get(path)), None)


def _in_shards(leaf: Any) -> bool:
    held = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
    return not held and not leaf.is_fully_replicated


def params_digest(params: Any) -> str:
    """SHA-256 over all parameters; two runs agree bit for bit exactly when theirs do.

    For each leaf, sorted by its path as UTF-8: the path, a zero byte, the dtype's name, a zero
    byte, the shape as decimal numbers joined by `x`, a zero byte, the little-endian C-order bytes.
    """
    digest = hashlib.sha256()
    leaves = leaf_paths(params)
    for path in sorted(leaves, key=lambda path: path.encode()):
        _update(digest, path, host_array(leaves[path]))
    return digest.hexdigest()
