"""Adapters of low rank beside dense layers: LoRA (Hu et al., 2021,
https://arxiv.org/abs/2106.09685) and DoRA (Liu et al., 2024, https://arxiv.org/abs/2402.09353).

A dense layer ``y = x W + b`` with an adapter computes ``y = x (W + s A B) + b``, and with DoRA
every column of ``W + s A B`` is given the length that `magnitude` says. The adapter's parameters
lie beside the layer's own: ``lora_a`` ``[in, R]``, ``lora_b`` ``[R, out]``, ``magnitude``
``[out]``. R rank, s scale.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.traverse_util import unflatten_dict
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.models import registry
from zoo.nn.dense import matmul
from zoo.nn.dropout import keep_mask
from zoo.paths import fits, leaf_paths, map_leaves, mask, unfit
from zoo.surgery.wrapped import Wrapped, is_dense

A, B, MAGNITUDE = "lora_a", "lora_b", "magnitude"
NAMES = (A, B, MAGNITUDE)
"""Of an adapter's parameters."""


@dataclass(frozen=True)
class LoRA:
    """Which dense layers get adapters, of which kind, and what is trained beside them."""

    targets: tuple[str, ...] = ()
    """Dense layers that get adapters: patterns of their paths or of a part's that holds them, such
    as `*/query`; none by default."""
    rank: int = 8
    """Rows of the matrix that an adapter adds."""
    alpha: float = 8.0
    """What an adapter adds is multiplied by alpha / rank."""
    rslora: bool = False
    """Multiply by alpha / root of rank instead (Kalajdzievski, 2023, arXiv:2312.03732)."""
    dora: bool = False
    """Train the lengths of the kernel's columns too (DoRA)."""
    dropout: float = 0.0
    """Rate on an adapter's input."""
    bias: Literal["none", "lora_only", "all"] = "none"
    """Biases that are trained: none, those of the layers with adapters, or all."""
    whole: tuple[str, ...] = ()
    """Parts that are trained as they are and get no adapters, such as `head`."""
    exceptions: tuple[tuple[str, int, float], ...] = ()
    """Pattern, rank and alpha of layers that differ; the first that fits counts."""

    def adapts(self, path: str) -> bool:
        """Whether the dense layer at that path gets an adapter."""
        inside = fits(path, self.whole, parts=True)
        return not inside and fits(path, self.targets, parts=True)

    def size(self, path: str) -> tuple[int, float]:
        """Rank and scale of the adapter at that path."""
        found = ((r, a) for pattern, r, a in self.exceptions if fits(path, (pattern,), parts=True))
        rank, alpha = next(found, (self.rank, self.alpha))
        return rank, alpha / (math.sqrt(rank) if self.rslora else rank)

    def check(self) -> None:
        """Raises InputError where the numbers make no adapter."""
        ranks = [self.rank, *(rank for _, rank, _ in self.exceptions)]
        if not self.targets or min(ranks) < 1 or not 0 <= self.dropout < 1:
            raise InputError(
                "lora: it needs targets (patterns of dense layers), ranks of at least 1 and a "
                f"dropout rate in [0, 1), not {self}"
            )

    def trained(self, params: Any) -> Any:
        """A tree of booleans: whether a parameter is trained.

        Raises:
            InputError: a pattern of `whole` fits nothing.
        """
        whole = leaf_paths(mask(params, self.whole, "lora.whole"))

        def is_trained(path: str, _: Any) -> bool:
            layer, _, name = path.rpartition("/")
            bias = name == "bias" and self.bias != "none"
            bias = bias and (self.bias == "all" or f"{layer}/{A}" in whole)
            return whole[path] or name in NAMES or bias

        return map_leaves(is_trained, params)

    def frozen(self, params: Any) -> Any:
        """A tree of booleans: whether a parameter is not trained."""
        return jax.tree.map(lambda trained: not trained, self.trained(params))


class Adapted(Wrapped):
    """A model with adapters."""

    lora: LoRA

    def __call__(self, *args: Any, train: bool = False, **kwargs: Any) -> Any:
        """The model's own result.

        Raises:
            InputError: a pattern of the targets fits no dense layer of it.
        """
        self.lora.check()
        seen: set[str] = set()
        with nn.intercept_methods(partial(_with_adapter, self.lora, train, seen)):
            result = self.model(*args, train=train, **kwargs)
        patterns = [*self.lora.targets, *(pattern for pattern, _, _ in self.lora.exceptions)]
        if wrong := unfit(seen, patterns, parts=True):
            raise InputError(
                f"lora: no dense layer fits {', '.join(wrong)}; there are {', '.join(sorted(seen))}"
            )
        return result


def inject(
    model: nn.Module, variables: Mapping[str, Any], lora: LoRA, key: jax.Array, *inputs: Any
) -> tuple[Adapted, dict[str, Any]]:
    """A model with adapters that change nothing yet: ``lora_b`` is zero, ``magnitude`` the length
    of the kernel's columns.

    Args:
        model: unbound module.
        variables: its collections.
        lora: which layers, which adapters.
        key: random key of ``lora_a``.
        *inputs: example arrays, where the model has no ``cfg.inputs()``.

    Raises:
        InputError: a pattern fits nothing.
    """
    if isinstance(model, Adapted):
        raise InputError("inject: the model has adapters; merge them first, or choose more targets")
    adapted = Adapted(model, lora)

    def fresh(key: jax.Array) -> dict[str, Array]:  # the others are left out by the compiler
        return leaf_paths(apart(registry.init(adapted, key, *inputs)["params"])[1])

    flat = leaf_paths(variables["params"]) | jax.jit(fresh)(key)
    params = with_lengths(unflatten_dict(flat, sep="/"))
    lora.trained(params)
    return adapted, {**variables, "params": params}


def apart(params: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's own parameters, and those of its adapters; `join` makes one tree of both."""
    flat = leaf_paths(params)
    beside = {path: leaf for path, leaf in flat.items() if path.rpartition("/")[2] in NAMES}
    own = {path: leaf for path, leaf in flat.items() if path not in beside}
    return unflatten_dict(own, sep="/"), unflatten_dict(beside, sep="/")


def with_lengths(params: Any) -> dict[str, Any]:
    """The parameters, each `magnitude` set to the lengths of its kernel's columns, as DoRA starts:
    for kernels that were put in after the adapters were made."""
    flat = leaf_paths(params)
    for path, leaf in flat.items():
        layer, _, name = path.rpartition("/")
        if name == MAGNITUDE:
            flat[path] = jax.device_put(
                lengths(flat[f"{layer}/kernel"]).astype(leaf.dtype), leaf.sharding
            )
    return unflatten_dict(flat, sep="/")


def adapters(model: Adapted, variables: Mapping[str, Any]) -> dict[str, Any]:
    """What the adapters hold, by the names of the model: to keep, to swap, to give to `unmerge`.

    With DoRA also ``length`` ``[out]`` of each, that of the columns before `magnitude` counts.
    """
    flat = leaf_paths(variables["params"])
    found = leaf_paths(apart(variables["params"])[1])
    for layer in _layers(flat) if model.lora.dora else ():
        found[f"{layer}/length"] = lengths(_directions(model.lora, flat, layer))
    return unflatten_dict(found, sep="/")


def merge(model: Adapted, variables: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """The model without adapters that computes the same, each adapter added to its kernel.

    Raises:
        InputError: a kernel is in 8 bits, which cannot hold the sum.
    """
    flat = leaf_paths(variables["params"])
    if whole := [layer for layer in _layers(flat) if flat[f"{layer}/kernel"].dtype == jnp.int8]:
        raise InputError(f"merge: kernels in 8 bits: {', '.join(whole)}; dequantize them first")
    merged = leaf_paths(apart(variables["params"])[0])
    for layer in _layers(flat):
        kernel = _directions(model.lora, flat, layer)
        if model.lora.dora:
            kernel = kernel * (flat[f"{layer}/{MAGNITUDE}"] / lengths(kernel))
        merged[f"{layer}/kernel"] = kernel.astype(flat[f"{layer}/kernel"].dtype)
    return model.model, {**variables, "params": unflatten_dict(merged, sep="/")}


def unmerge(model: Adapted, merged: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of the model with adapters, from those that `merge` gave: exact but for the
    rounding of the sums.

    Args:
        model: with adapters.
        merged: variables from `merge`.
        kept: from `adapters`, of the variables that were merged.
    """
    flat, held = leaf_paths(merged["params"]), leaf_paths(kept)
    for layer in _layers(held):
        kernel = _wide(flat[f"{layer}/kernel"])
        if model.lora.dora:
            kernel = kernel * (held[f"{layer}/length"] / held[f"{layer}/{MAGNITUDE}"])
        kernel = kernel - _product(model.lora, held, layer)
        flat[f"{layer}/kernel"] = kernel.astype(flat[f"{layer}/kernel"].dtype)
    flat |= {path: leaf for path, leaf in held.items() if path.rpartition("/")[2] in NAMES}
    return {**merged, "params": unflatten_dict(flat, sep="/")}


def lengths(kernel: Float[Array, "in out"]) -> Float[Array, "out"]:
    """Of the columns, in at least float32."""
    return jnp.linalg.norm(_wide(kernel), axis=0)


def _with_adapter(
    lora: LoRA,
    train: bool,
    seen: set[str],
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Interceptor of Linen's methods: a dense layer's output and what its adapter adds."""
    layer: Any = context.module
    if not is_dense(context):
        return call(*args, **kwargs)
    path = "/".join(layer.path)
    seen.add(path)
    y = call(*args, **kwargs)
    if not lora.adapts(path):
        return y
    (x,) = args
    rank, scale = lora.size(path)
    kernel = layer.get_variable("params", "kernel")
    # Uniform up to the inverse root of the features in, as the authors' code has it.
    start = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    a = layer.param(A, start, (kernel.shape[0], rank), layer.param_dtype)
    b = layer.param(B, nn.initializers.zeros, (rank, kernel.shape[1]), layer.param_dtype)
    if lora.dora:
        if kernel.dtype == jnp.int8:
            raise InputError(f"dora needs the lengths of {path}'s kernel, which is in 8 bits")
        first = lambda _: lengths(kernel).astype(layer.param_dtype)  # noqa: E731
        magnitude = layer.param(MAGNITUDE, first)
        # Section 4.3 of DoRA: the lengths are constants to the gradient.
        length = jax.lax.stop_gradient(lengths(_wide(kernel) + scale * (_wide(a) @ _wide(b))))
        gain = (magnitude / length).astype(y.dtype)
    dropping = train and lora.dropout > 0
    if dropping:
        keep = keep_mask(layer.make_rng("dropout"), lora.dropout, x.shape)
        x = jnp.where(keep, x * (1.0 / (1.0 - lora.dropout)), jnp.zeros((), x.dtype))
    x, a, b = promote_dtype(x, a, b, dtype=layer.dtype)
    added = scale * matmul(matmul(x, a), b)
    if not lora.dora:
        return y + added
    return y + (gain - 1) * matmul(x, kernel.astype(x.dtype)) + gain * added


def _layers(flat: Mapping[str, Any]) -> list[str]:
    """Paths of the layers with adapters."""
    return [path.removesuffix(f"/{A}") for path in flat if path.endswith(f"/{A}")]


def _product(lora: LoRA, flat: Mapping[str, Any], layer: str) -> Float[Array, "in out"]:
    """What an adapter adds to a kernel."""
    scale = lora.size(layer)[1]
    return scale * (_wide(flat[f"{layer}/{A}"]) @ _wide(flat[f"{layer}/{B}"]))


def _directions(lora: LoRA, flat: Mapping[str, Any], layer: str) -> Float[Array, "in out"]:
    """Kernel and adapter, in at least float32."""
    return _wide(flat[f"{layer}/kernel"]) + _product(lora, flat, layer)


def _wide(x: Any) -> Array:
    return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
