"""ConvNeXt: a ConvNet for the 2020s (Liu et al., 2022, https://arxiv.org/abs/2201.03545), in timm's
sizes, and with `response_norm` in the place of `layer_scale` its second version (Woo et al., 2023,
https://arxiv.org/abs/2301.00808).

Not here: the stems, heads and norms of timm's own smaller variants.

B batch, H W image, I channels of the image, D channels of the last stage, C classes.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.models.registry import Size, check_task
from zoo.nn.activation import activation
from zoo.nn.conv_norm import GroupedConv
from zoo.nn.dropout import Dropout
from zoo.nn.norm import LayerNorm
from zoo.nn.patches import Patches, check_channels
from zoo.nn.pool import check_pool, global_pool
from zoo.nn.stochastic_depth import StochasticDepth, rising_rate
from zoo.nn.vision import INIT, dense

TASKS = ("image-classification", "feature-extraction", "feature-pyramid")
POOLS = ("avg", "max", "avgmax", "")


@dataclass(frozen=True)
class Config:
    """Sizes of a ConvNeXt."""

    depths: tuple[int, ...] = (3, 3, 9, 3)
    """Blocks of each stage; every stage but the first halves height and width."""
    widths: tuple[int, ...] = (96, 192, 384, 768)
    """Channels of each stage."""
    patch_size: int = 4
    """Height and width of the patches of the image that the first stage begins with."""
    kernel_size: int = 7
    """Height and width that a block's convolution sees; odd."""
    activation: str = "gelu"
    """Between the two dense layers of a block."""
    layer_scale: float = 1e-6
    """What the factors of each block's output start as; 0: none."""
    response_norm: bool = False
    """Whether channels between the two dense layers of a block compete (`ResponseNorm`)."""
    epsilon: float = 1e-6
    """Of every layer norm."""
    final_epsilon: float = 0.0
    """Of the last layer norm where it has another one; 0: as the others."""
    global_pool: str = "avg"
    """How the last map becomes a vector: avg, max, avgmax, or "" for the map itself."""
    drop_path: float = 0.0
    """Rate at which an example skips the last block; it rises evenly from 0 in the first."""
    dropout: float = 0.0
    """Rate before the classifier."""
    num_classes: int = 1000
    """Classes; 0 is a model without classifier, whose task is feature-extraction."""
    labels: tuple[str, ...] = ()
    """Names of the classes; none where they have none."""
    in_chans: int = 3
    """Channels of the images."""
    image_size: int = 224
    """Height and width of the example batch; the model takes images of any size from that of a
    patch for every place of the last map."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "ConvNeXt":
        """The module with a head for the task.

        Raises:
            InputError: unknown task, or numbers that do not go together.
        """
        task = check_task("feature-extraction" if not (task or self.num_classes) else task, TASKS)
        if len(self.depths) != len(self.widths) or not self.depths:
            raise InputError(f"depths {self.depths} and widths {self.widths} differ in length")
        sizes = (self.patch_size, self.kernel_size, self.in_chans, *self.depths, *self.widths)
        if min(sizes) < 1 or self.num_classes < 0:
            raise InputError("depths, widths and all other sizes must be at least 1")
        if self.kernel_size % 2 == 0:
            raise InputError(f"kernel_size must be odd, not {self.kernel_size}")
        if self.layer_scale < 0 or self.final_epsilon < 0 or self.epsilon <= 0:
            raise InputError("layer_scale and final_epsilon must be at least 0, epsilon above it")
        if self.image_size < self.smallest:
            raise InputError(
                f"images of {self.image_size}x{self.image_size} are too small; the smallest are "
                f"{self.smallest}x{self.smallest}"
            )
        check_pool(self.global_pool, task, self.num_classes, POOLS)
        activation(self.activation)
        return ConvNeXt(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        shape = (batch, self.image_size, self.image_size, self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}

    @property
    def smallest(self) -> int:
        """Height and width of the smallest images, whose last map has one place."""
        return self.patch_size * 2 ** (len(self.depths) - 1)


class ConvNeXt(nn.Module):
    """Images in, by task:

    - image-classification: logits `[B, C]`;
    - feature-extraction: pooled and normalised features `[B, D]`, or with `global_pool=""` the
      normalised last map `[B, h, w, D]`;
    - feature-pyramid: a tuple of maps `[B, h, w, width]`, of every stage (a quarter of the height
      and width of the image, an eighth, ...), as timm's `features_only` gives.
    """

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[ArrayLike, "B H W I"], train: bool = False
    ) -> Float[Array, "B *rest"] | tuple[Float[Array, "B h w D"], ...]:
        cfg = self.cfg
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = jnp.asarray(image, self.dtype)
        check_channels(x, cfg.in_chans)
        height, width = x.shape[1:3]
        if min(height, width) < cfg.smallest:
            raise InputError(
                f"images of {height}x{width} are too small; the smallest are "
                f"{cfg.smallest}x{cfg.smallest}"
            )

        side = (cfg.patch_size, cfg.patch_size)
        x = Patches(cfg.widths[0], side, name="stem", **dtypes)(x)
        x = LayerNorm(cfg.epsilon, name="stem_norm", **dtypes)(x)
        maps, number = [], 0
        for stage, (depth, width) in enumerate(zip(cfg.depths, cfg.widths, strict=True), 1):
            if stage > 1:
                x = LayerNorm(cfg.epsilon, name=f"stage{stage}_norm", **dtypes)(x)
                x = Patches(width, (2, 2), name=f"stage{stage}_halve", **dtypes)(x)
            for i in range(depth):
                rate = rising_rate(cfg.drop_path, number, sum(cfg.depths))
                x = Block(cfg, rate, name=f"stage{stage}_block{i}", **dtypes)(x, train)
                number += 1
            maps.append(x)
        if self.task == "feature-pyramid":
            return tuple(maps)

        x = global_pool(x, cfg.global_pool)
        x = LayerNorm(cfg.final_epsilon or cfg.epsilon, name="norm", **dtypes)(x)
        x = Dropout(cfg.dropout, name="dropout")(x, train)
        if self.task == "feature-extraction":
            return x
        return dense(cfg.num_classes, dtypes, "head")(x)


class Block(nn.Module):
    """`x + scale * down(activation(up(norm(conv(x)))))`, where every channel has a convolution of
    its own (figure 4).

    Parameters: `conv`, `norm`, `up` and `down`, four times as wide between them, `scale` `[D]`.
    """

    cfg: Config
    drop_path: float
    """Rate at which an example skips the block."""
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w D"], train: bool) -> Float[Array, "B h w D"]:
        cfg, width = self.cfg, x.shape[-1]
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = GroupedConv(
            width, cfg.kernel_size, padding=cfg.kernel_size // 2, groups=width, kernel_init=INIT,
            name="conv", **dtypes,
        )(x)  # fmt: skip
        y = LayerNorm(cfg.epsilon, name="norm", **dtypes)(y)
        y = activation(cfg.activation)(dense(4 * width, dtypes, "up")(y))
        if cfg.response_norm:
            y = ResponseNorm(name="response_norm", **dtypes)(y)
        y = dense(width, dtypes, "down")(y)
        if cfg.layer_scale:
            start = nn.initializers.constant(cfg.layer_scale)
            y *= self.param("scale", start, (width,), self.param_dtype).astype(self.dtype)
        return x + StochasticDepth(self.drop_path, name="depth")(y, train)


class ResponseNorm(nn.Module):
    """`x + x * n * scale + bias`, where n is the length of a channel over all places, relative to
    the mean of all channels (Woo et al., 2023, algorithm 1).

    Parameters: `scale` `[D]`, `bias` `[D]`, which start at 0.
    """

    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w D"]) -> Float[Array, "B h w D"]:
        scale, bias = (
            self.param(name, nn.initializers.zeros, x.shape[-1:], self.param_dtype)
            for name in ("scale", "bias")
        )
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        square = jnp.sum(jnp.square(wide), axis=(1, 2), keepdims=True)
        # The root's derivative at 0 is left out, where a channel is 0 everywhere.
        length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
        relative = length / (jnp.mean(length, axis=-1, keepdims=True) + 1e-6)
        return (wide + wide * relative * scale + bias).astype(self.dtype)


DEEP = (3, 3, 27, 3)
"""Blocks of every size above the smallest."""


def twice(width: int) -> tuple[int, ...]:
    """Four stages, each twice as wide as the one before."""
    return tuple(width * 2**stage for stage in range(4))


_PAPER, _TOP1 = "arXiv:2201.03545; ", "ImageNet top-1 {}"
SIZES = {
    "convnext_tiny": Size(
        Config(), 28_589_128, _PAPER + "timm", "Apache-2.0", _TOP1.format(82.07)
    ),
    "convnext_small": Size(
        Config(DEEP), 50_223_688, _PAPER + "torchvision", "Apache-2.0", _TOP1.format(83.1)
    ),
    "convnext_base": Size(
        Config(DEEP, twice(128)), 88_591_464, _PAPER + "timm", "Apache-2.0", _TOP1.format(83.84)
    ),
    "convnext_large": Size(
        Config(DEEP, twice(192)), 197_767_336, _PAPER + "timm", "Apache-2.0", _TOP1.format(84.3)
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"up/kernel", P(None, "tensor")),
    (r"up/bias", P("tensor")),
    (r"down/kernel", P("tensor", None)),
)
"""Path endings and partitions: the features between a block's dense layers are cut, so it needs one
sum."""
