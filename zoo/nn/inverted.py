"""Inverted residual blocks, of which mobile networks are made (Sandler et al., 2018,
https://arxiv.org/abs/1801.04381).

B batch, H W and h w image before and after, i o channels before and after.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.nn.activation import activation
from zoo.nn.conv_norm import ConvNorm
from zoo.nn.dense import Dense
from zoo.nn.dropout import Dropout
from zoo.nn.padding import check_padding
from zoo.nn.pool import check_pool
from zoo.nn.stochastic_depth import StochasticDepth


def divisible(channels: int | float, divisor: int = 8, smallest: int | None = None) -> int:
    """The nearest multiple of ``divisor``, or the next one where that is less than nine tenths.

    Args:
        channels: how many there would be.
        divisor: what their number is a multiple of.
        smallest: the least number; None is ``divisor``.
    """
    smallest = divisor if smallest is None else smallest
    near = max(smallest, int(channels + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * channels else near


class InvertedResidual(nn.Module):
    """A 1x1 convolution to ``hidden`` channels, a depthwise one, a 1x1 one to ``width`` channels;
    what comes in is added where the block ``adds``. The last one has no activation.

    Modules: ``expand`` (unless ``expands`` is False: ``hidden`` channels come in), ``depthwise``,
    ``squeeze`` (where ``squeeze`` is not 0), ``project``.
    """

    width: int
    hidden: int
    kernel_size: int
    strides: int
    activation: str
    expands: bool
    adds: bool
    padding: str
    squeeze: int = 0
    """Features of the squeeze-and-excitation; 0 is none."""
    squeeze_activation: str = "silu"
    gate: str = "sigmoid"
    drop_path: float = 0.0
    """Rate at which an example skips the block, where it adds."""
    dropout: float = 0.0
    """Rate on what the block adds."""
    epsilon: float = 1e-5
    momentum: float = 0.9
    expand_momentum: float = 0.9
    """Of the norm in ``expand``."""
    frozen: bool = False
    folded: bool = False
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W i"], train: bool) -> Float[Array, "B h w o"]:
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        ways = {"epsilon": self.epsilon, "frozen": self.frozen, "folded": self.folded}
        conv = partial(ConvNorm, **ways, **dtypes)
        act = activation(self.activation)

        y, size = x, self.kernel_size
        if self.expands:
            expand = conv(self.hidden, 1, momentum=self.expand_momentum, name="expand")
            y = act(expand(y, train))
        depthwise = conv(
            self.hidden, size, self.strides, self.padding, groups=self.hidden,
            momentum=self.momentum, name="depthwise",
        )  # fmt: skip
        y = act(depthwise(y, train))
        if self.squeeze:
            gates = (self.squeeze_activation, self.gate)
            y = SqueezeExcite(self.squeeze, *gates, **dtypes, name="squeeze")(y)
        y = conv(self.width, 1, momentum=self.momentum, name="project")(y, train)
        if not self.adds:
            return y
        y = StochasticDepth(self.drop_path, name="drop_path")(y, train)
        return x + Dropout(self.dropout, name="dropout")(y, train)


class SqueezeExcite(nn.Module):
    """Each channel multiplied by a number that follows from the means of all (Hu et al., 2017,
    https://arxiv.org/abs/1709.01507).

    Parameters: ``reduce`` to ``hidden`` features and ``expand`` back, each ``kernel``, ``bias``.
    """

    hidden: int
    activation: str
    gate: str
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        mean_BC = jnp.mean(x, axis=(1, 2))
        y_BK = activation(self.activation)(Dense(self.hidden, name="reduce", **dtypes)(mean_BC))
        y_BC = activation(self.gate)(Dense(x.shape[-1], name="expand", **dtypes)(y_BK))
        return x * y_BC[:, None, None]


def check_stages(
    cfg: Any, task: str, per_stage: tuple[str, ...], positive: tuple[str, ...]
) -> None:
    """Checks the fields that mobile networks have in common.

    Args:
        cfg: the Config.
        task: what the model is built for.
        per_stage: fields that have as many numbers as `depths`, all of them at least 1.
        positive: fields that are at least 1.

    Raises:
        InputError: numbers that do not go together.
    """
    columns = {name: getattr(cfg, name) for name in ("depths", *per_stage)}
    for name, column in columns.items():
        if len(column) != len(cfg.depths) or not column:
            raise InputError(f"{name} {column} and depths {cfg.depths} differ in length")
    numbers = [getattr(cfg, name) for name in (*positive, "in_chans", "image_size")]
    if min(*numbers, *(n for column in columns.values() for n in column)) < 1:
        raise InputError("depths, widths and all other sizes must be at least 1")
    if cfg.num_classes < 0:
        raise InputError(f"num_classes is 0 or more, not {cfg.num_classes}")
    check_pool(cfg.global_pool, task, cfg.num_classes)
    activation(cfg.activation)
    check_padding(cfg.padding)
