"""Kernels of dense layers in 8 bits: a quarter of the memory of float32, for inference.

Every column of a kernel, which is one feature out, is rounded to whole numbers of -127 to 127 times
its own scale: ``kernel`` int8 ``[in, out]``, ``kernel_scale`` ``[out]``. The product is made with
the whole numbers in the dtype of the computation and scaled after it. Vectors, norms and tables of
embeddings stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from flax.traverse_util import unflatten_dict
from jaxtyping import Array, Float, Int8

from zoo.errors import InputError
from zoo.nn.dense import matmul
from zoo.paths import fits, leaf_paths, unfit
from zoo.surgery.wrapped import Wrapped, dense_layers, is_dense

SCALE = "kernel_scale"


class Quantized(Wrapped):
    """A model whose dense layers, those that ``layers`` chooses, have kernels in 8 bits."""

    layers: tuple[str, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own result, but for the rounding."""
        with nn.intercept_methods(partial(_whole_numbers, self.layers)):
            return self.model(*args, **kwargs)


def quantize(
    model: nn.Module,
    variables: Mapping[str, Any],
    layers: str | Sequence[str] = "*",
    *inputs: Any,
) -> tuple[Quantized, dict[str, Any]]:
    """The model with kernels in 8 bits, and its variables; `output_change` tells what it costs.

    Args:
        model: unbound module.
        variables: its collections.
        layers: patterns of dense layers' paths or of a part's that holds them, such as
            ``("*", "!head")``.
        *inputs: example arrays, where the model has no ``cfg.inputs()``.

    Raises:
        InputError: a pattern fits no dense layer; the message lists them.
    """
    patterns = (layers,) if isinstance(layers, str) else tuple(layers)
    there = dense_layers(model, variables, *inputs)
    if wrong := unfit(there, patterns, parts=True):
        raise InputError(
            f"int8: no dense layer fits {', '.join(wrong)}; there are {', '.join(sorted(there))}"
        )
    flat = leaf_paths(variables["params"])
    for path in there:
        if fits(path, patterns, parts=True):
            kernel = flat[f"{path}/kernel"]
            flat[f"{path}/kernel"], scale = rounded(kernel)
            flat[f"{path}/{SCALE}"] = scale.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    # Its name is for adapters that may be put around it, see Wrapped.
    small = Quantized(model, patterns, name="quantized")
    return small, {**variables, "params": unflatten_dict(flat, sep="/")}


def dequantize(model: Quantized, variables: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """The model as it was, with the rounded kernels in its ``param_dtype``."""
    flat = leaf_paths(variables["params"])
    for path in [path for path in flat if path.endswith(f"/{SCALE}")]:
        kernel = path.removesuffix(SCALE) + "kernel"
        flat[kernel] = (flat[kernel] * flat.pop(path)).astype(model.param_dtype)
    return model.model, {**variables, "params": unflatten_dict(flat, sep="/")}


def rounded(kernel: Float[Array, "in out"]) -> tuple[Int8[Array, "in out"], Float[Array, "out"]]:
    """Whole numbers and the scale of each column; off by half a scale at most."""
    wide = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    most = jnp.max(jnp.abs(wide), axis=0)
    scale = jnp.where(most > 0, most / 127, 1)
    return jnp.round(wide / scale).astype(jnp.int8), scale


def output_change(
    before: tuple[nn.Module, Any], after: tuple[nn.Module, Any], *args: Any, **kwargs: Any
) -> float:
    """How far two models' outputs are apart: the root mean square of the differences, in standard
    deviations of the first one's outputs.

    Args:
        before: a model and its variables.
        after: another one with the same outputs.
        *args: inputs of both.
        **kwargs: inputs by name.
    """

    def outputs(of: tuple[nn.Module, Any]) -> np.ndarray:
        leaves = jax.tree.leaves(of[0].apply(of[1], *args, **kwargs))
        return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves])

    wanted, found = outputs(before), outputs(after)
    return float(np.sqrt(np.mean((found - wanted) ** 2)) / np.std(wanted))


def _whole_numbers(
    patterns: tuple[str, ...],
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Interceptor of Linen's methods: a dense layer by its whole numbers."""
    layer: Any = context.module
    if not is_dense(context) or not fits("/".join(layer.path), patterns, parts=True):
        return call(*args, **kwargs)
    (x,) = args
    shape = (x.shape[-1], layer.features)
    kernel = layer.param("kernel", nn.initializers.zeros, shape, jnp.int8)
    wide = jnp.promote_types(layer.param_dtype, jnp.float32)
    scale = layer.param(SCALE, nn.initializers.ones, shape[1:], wide)
    bias = None
    if layer.use_bias:
        bias = layer.param("bias", layer.bias_init, shape[1:], layer.param_dtype)
    x, scale, bias = promote_dtype(x, scale, bias, dtype=layer.dtype)
    y = matmul(x, kernel.astype(x.dtype)) * scale
    return y if bias is None else y + bias
