"""DenseNet (Huang et al., 2016, https://arxiv.org/abs/1608.06993), with bottlenecks and compression
(DenseNet-BC): every layer sees the maps of all layers before it in its block.

As in timm and torchvision. Norm and activation come before their convolution, so a norm has a
convolution right before it, and can be folded into it, in the stem and between the two convolutions
of a layer alone; the others stay norms in a `folded` network. Not here: variants with a stem of
three convolutions or with blurred pooling.

B batch, H W image, I channels of the image, D channels of the last map (twice as many with
`catavgmax`), C classes.
"""

from dataclasses import dataclass
from functools import partial
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
from zoo.nn.conv import Conv
from zoo.nn.conv_norm import ConvNorm
from zoo.nn.dense import Dense
from zoo.nn.dropout import Dropout
from zoo.nn.norm import BatchNorm
from zoo.nn.patches import check_channels
from zoo.nn.pool import avg_pool, check_pool, global_pool, max_pool

TASKS = ("image-classification", "feature-extraction", "feature-pyramid")
HE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""He et al. (2015, https://arxiv.org/abs/1502.01852), which section 4.2 takes, with the fan of the
inputs as the reference implementation has it."""


@dataclass(frozen=True)
class Config:
    """Sizes of a DenseNet."""

    growth: int = 32
    """Channels that each layer adds (k of the paper); the stem has twice as many."""
    depths: tuple[int, ...] = (6, 12, 24, 16)
    """Layers of each block; between two blocks channels, height and width are halved."""
    bottleneck: int = 4
    """The 1x1 convolution of a layer gives so many times the growth."""
    activation: str = "relu"
    """Activation function."""
    global_pool: str = "avg"
    """How the last map becomes a vector: avg, max, avgmax, catavgmax, or "" for the map itself."""
    dropout: float = 0.0
    """Rate before the classifier."""
    layer_dropout: float = 0.0
    """Rate on what each layer adds."""
    frozen_norm: bool = False
    """Whether batch norm takes its running statistics in training too, and leaves them."""
    folded: bool = False
    """Whether norms right behind a convolution are part of it: for inference, by
    `zoo.nn.conv_norm.fold`."""
    num_classes: int = 1000
    """Classes; 0 is a model without classifier, whose task is feature-extraction."""
    labels: tuple[str, ...] = ()
    """Names of the classes; none where they have none."""
    in_chans: int = 3
    """Channels of the images."""
    image_size: int = 224
    """Height and width of the example batch; the model takes images of any size from that at which
    its blocks leave something."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "DenseNet":
        """The module with a head for the task.

        Raises:
            InputError: unknown task, or numbers that do not go together.
        """
        task = check_task("feature-extraction" if not (task or self.num_classes) else task, TASKS)
        sizes = (self.growth, self.bottleneck, self.in_chans, self.image_size)
        if min(*sizes, *self.depths) < 1 or not self.depths or self.num_classes < 0:
            raise InputError("depths and all other sizes must be at least 1")
        check_pool(self.global_pool, task, self.num_classes)
        activation(self.activation)
        check_size(self, self.image_size, self.image_size)
        return DenseNet(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        shape = (batch, self.image_size, self.image_size, self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}


class DenseNet(nn.Module):
    """Images in, by task:

    - image-classification: logits `[B, C]`;
    - feature-extraction: pooled features `[B, D]`, or with `global_pool=""` the last map
      `[B, h, w, D]`;
    - feature-pyramid: a tuple of maps `[B, h, w, width]`, of the stem (half the height and width of
      the image) and of every block (a quarter, an eighth, ...), the last one normalised, as timm's
      `features_only` gives.
    """

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[ArrayLike, "B H W I"], train: bool = False
    ) -> Float[Array, "B *rest"] | tuple[Float[Array, "B h w D"], ...]:
        cfg, act = self.cfg, activation(self.cfg.activation)
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = jnp.asarray(image, self.dtype)
        check_channels(x, cfg.in_chans)
        check_size(cfg, *x.shape[1:3])

        x = act(conv_norm(cfg, dtypes)(2 * cfg.growth, 7, 2, 3, name="stem")(x, train))
        maps = [x]
        x = max_pool(x, 3, 2, padding=1)
        for block, depth in enumerate(cfg.depths, 1):
            if block > 1:
                x = Transition(cfg, name=f"transition{block - 1}", **dtypes)(x, train)
            for i in range(depth):
                added = Layer(cfg, name=f"block{block}_layer{i}", **dtypes)(x, train)
                x = jnp.concatenate([x, added], axis=-1)
            maps.append(x)
        x = act(BatchNorm(name="final_norm", **dtypes)(x, train and not cfg.frozen_norm))
        if self.task == "feature-pyramid":
            return (*maps[:-1], x)

        x = global_pool(x, cfg.global_pool)
        if self.task == "feature-extraction":
            return x
        x = Dropout(cfg.dropout, name="dropout")(x, train)
        return Dense(cfg.num_classes, name="head", **dtypes)(x)


class Layer(nn.Module):
    """What a layer adds (section 3): a 1x1 and a 3x3 convolution, each of the normalised input."""

    cfg: Config
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W i"], train: bool) -> Float[Array, "B H W k"]:
        cfg, act = self.cfg, activation(self.cfg.activation)
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = act(BatchNorm(name="norm1", **dtypes)(x, train and not cfg.frozen_norm))
        inner = cfg.bottleneck * cfg.growth
        x = act(conv_norm(cfg, dtypes)(inner, 1, name="conv1")(x, train))
        x = Conv(cfg.growth, 3, 1, 1, False, kernel_init=HE, name="conv2", **dtypes)(x)
        return Dropout(cfg.layer_dropout, name="dropout")(x, train)


class Transition(nn.Module):
    """Between blocks: channels halved by a 1x1 convolution, height and width by a mean."""

    cfg: Config
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W i"], train: bool) -> Float[Array, "B h w o"]:
        cfg, half = self.cfg, x.shape[-1] // 2
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = BatchNorm(name="norm1", **dtypes)(x, train and not cfg.frozen_norm)
        x = activation(cfg.activation)(x)
        x = Conv(half, 1, use_bias=False, kernel_init=HE, name="conv1", **dtypes)(x)
        return avg_pool(x, 2)


def conv_norm(cfg: Config, dtypes: dict[str, Any]) -> partial[ConvNorm]:
    """A convolution with the norm right behind it, in one of the three ways."""
    return partial(ConvNorm, frozen=cfg.frozen_norm, folded=cfg.folded, kernel_init=HE, **dtypes)


def check_size(cfg: Config, height: int, width: int) -> None:
    """Raises:
    InputError: images of this size are too small for the blocks.
    """
    smallest = 2 ** (len(cfg.depths) + 1) - 3  # the stem rounds up, what halves blocks down
    if min(height, width) < smallest:
        raise InputError(
            f"images of {height}x{width} are too small for this network: the smallest are "
            f"{smallest}x{smallest}"
        )


SIZES = {
    "densenet121": Size(
        Config(), 7_978_856, "arXiv:1608.06993; timm", "bsd-3-clause",
        "ImageNet top-1 74.75 with the weights of torchvision",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"conv1/conv/kernel", P(None, None, None, "tensor")),
    (r"conv1/norm/(scale|bias)", P("tensor")),
    (r"conv2/kernel", P(None, None, "tensor", None)),
    (r"head/kernel", P("tensor", None)),
)
"""The first convolution of a layer is cut by its outputs, the next by its inputs."""
