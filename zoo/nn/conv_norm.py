"""Convolution followed by batch norm: trained, frozen, or folded into one for inference."""

from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.nn.conv import Conv, both_sides
from zoo.nn.depthwise import depthwise
from zoo.nn.norm import BatchNorm
from zoo.nn.padding import pad_image
from zoo.nn.patches import pair

HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. (2015, https://arxiv.org/abs/1502.01852) with the fan of the outputs, as the reference
implementations of residual networks have it."""
DEPTHWISE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""The same where each output sees one input, and each input is seen by one output."""


class ConvNorm(nn.Module):
    """A convolution, without bias where it is not asked for, and a batch norm.

    Modules: ``conv`` (``kernel``, ``bias``), ``norm`` (``scale``, ``bias``; ``mean`` and ``var`` in
    ``batch_stats``). In ``groups`` groups of channels each output sees the inputs of its own group:
    the kernel is ``[k, k, in / groups, out]``. ``frozen`` takes the running statistics in training
    too, and leaves them as they are. ``folded`` has no norm: its ``conv`` has a ``bias``, and
    ``fold`` gives its parameters. ``padding`` is a number of zeros on every side or one of
    ``zoo.nn.padding.PADDINGS``.
    """

    features: int
    kernel_size: int | tuple[int, int]
    strides: int = 1
    padding: int | tuple[int, int] | str = 0
    groups: int = 1
    use_bias: bool = False
    epsilon: float = 1e-5
    momentum: float = 0.9
    frozen: bool = False
    folded: bool = False
    kernel_init: Initializer = HE
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W in"], train: bool) -> Float[Array, "B h w out"]:
        padding = self.padding
        if isinstance(padding, str):
            assert isinstance(self.kernel_size, int), "such padding is for square kernels"
            x, padding = pad_image(x, self.kernel_size, self.strides, padding)
        numbers = (self.features, self.kernel_size, self.strides, padding)
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        options: dict[str, Any] = {"kernel_init": self.kernel_init, **dtypes}
        options["use_bias"] = self.use_bias or self.folded
        if self.groups == 1:
            x = Conv(*numbers, name="conv", **options)(x)
        else:
            if self.groups == x.shape[-1]:
                options["kernel_init"] = DEPTHWISE
            x = GroupedConv(*numbers, groups=self.groups, name="conv", **options)(x)
        if self.folded:
            return x
        norm = BatchNorm(self.momentum, self.epsilon, name="norm", **dtypes)
        return norm(x, train and not self.frozen)


class GroupedConv(nn.Module):
    """``Conv`` in groups of channels (Krizhevsky et al., 2012): output channels of a group see the
    inputs of that group alone; as many groups as channels is a depthwise convolution.

    Parameters: ``kernel`` ``[k, k, in / groups, out]``, ``bias`` ``[out]``.
    """

    features: int
    kernel_size: int | tuple[int, int]
    strides: int = 1
    padding: int | tuple[int, int] = 0
    groups: int = 1
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B H W in"]) -> Float[Array, "B h w out"]:
        shape = (*pair(self.kernel_size), x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, shape[-1:], self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        if self.groups == x.shape[-1] == self.features and isinstance(self.padding, int):
            y = cast(Array, depthwise(self.strides, self.padding, x, kernel))
        else:
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(self.strides, self.strides),
                padding=both_sides(self.padding),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=self.groups,
            )
        return y if bias is None else y + bias


def fold(variables: Any, epsilon: float = 1e-5) -> dict[str, Any]:
    """Variables for the same model with ``folded`` blocks, whose outputs are the same up to
    rounding: every norm's factor goes into the kernel before it, the rest into a bias.

    Args:
        variables: ``params`` and ``batch_stats`` of a model. Norms that are in no ``ConvNorm``,
            since no convolution is right before them, stay as they are, and so do their statistics.
        epsilon: of its norms.
    """

    def walk(params: Any, stats: Any) -> tuple[Any, Any]:
        if "norm" not in stats:
            parts = {name: walk(params[name], part) for name, part in stats.items()
                     if isinstance(part, Mapping)}  # fmt: skip
            own = {name: part for name, part in stats.items() if name not in parts}
            rest = {name: part for name, (_, part) in parts.items() if part}
            return {**params, **{name: part for name, (part, _) in parts.items()}}, own | rest
        conv, norm, stats = params["conv"], params["norm"], stats["norm"]
        kind = jnp.promote_types(conv["kernel"].dtype, jnp.float32)
        mean, var, scale, bias = (
            jnp.asarray(x, kind) for x in (stats["mean"], stats["var"], norm["scale"], norm["bias"])
        )
        factor = scale * jax.lax.rsqrt(var + epsilon)
        kernel = (conv["kernel"] * factor).astype(conv["kernel"].dtype)
        bias += (conv.get("bias", 0.0) - mean) * factor
        return {"conv": {"kernel": kernel, "bias": bias.astype(kernel.dtype)}}, {}

    params, rest = walk(variables["params"], variables["batch_stats"])
    return {"params": params, "batch_stats": rest} if rest else {"params": params}
