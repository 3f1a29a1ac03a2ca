"""MobileNetV2 (Sandler et al., 2018, https://arxiv.org/abs/1801.04381): inverted residual blocks
with linear bottlenecks.

Not here: dilated convolutions, which keep the map large for segmentation.

B batch, H W image, I channels of the image, D features (twice as many with `catavgmax`),
C classes.
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
from zoo.nn.conv_norm import ConvNorm
from zoo.nn.dense import Dense
from zoo.nn.dropout import Dropout
from zoo.nn.inverted import InvertedResidual, check_stages, divisible
from zoo.nn.patches import check_channels
from zoo.nn.pool import global_pool

TASKS = ("image-classification", "feature-extraction", "feature-pyramid")


@dataclass(frozen=True)
class Config:
    """Sizes of a MobileNetV2; as given those of the paper's table 2."""

    depths: tuple[int, ...] = (1, 2, 3, 4, 3, 3, 1)
    """Blocks of each stage."""
    widths: tuple[int, ...] = (16, 24, 32, 64, 96, 160, 320)
    """Channels after each stage."""
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    """How far the first block of each stage shrinks height and width."""
    expansion: float = 6.0
    """Channels within a block for each that comes in; the first block of all has no expansion."""
    divisor: int = 8
    """Channels within a block are a multiple of it."""
    stem_width: int = 32
    """Channels of the 3x3 convolution on the image."""
    features: int = 1280
    """Channels of the last convolution, which the classifier sees."""
    activation: str = "relu6"
    """Activation function."""
    padding: str = "symmetric"
    """Where zeros are put around an image: symmetric, or same as TensorFlow does it."""
    epsilon: float = 1e-5
    """Added to the variance in batch norms."""
    norm_momentum: float = 0.9
    """Share of the running statistics that a training step keeps."""
    global_pool: str = "avg"
    """How the last map becomes a vector: avg, max, avgmax, catavgmax, or "" for the map itself."""
    dropout: float = 0.0
    """Rate before the classifier."""
    drop_path: float = 0.0
    """Rate at which an example would skip the block after the last one; it rises evenly from 0."""
    frozen_norm: bool = False
    """Whether batch norm takes its running statistics in training too, and leaves them."""
    folded: bool = False
    """Whether norms are part of the convolutions: for inference, by `zoo.nn.conv_norm.fold`."""
    num_classes: int = 1000
    """Classes; 0 is a model without classifier, whose task is feature-extraction."""
    labels: tuple[str, ...] = ()
    """Names of the classes; none where they have none."""
    in_chans: int = 3
    """Channels of the images."""
    image_size: int = 224
    """Height and width of the example batch; the model takes images of any size."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "MobileNetV2":
        """The module with a head for the task.

        Raises:
            InputError: unknown task, or numbers that do not go together.
        """
        task = check_task("feature-extraction" if not (task or self.num_classes) else task, TASKS)
        check_stages(self, task, ("widths", "strides"), ("stem_width", "features", "divisor"))
        if not self.expansion > 0.0:
            raise InputError(f"expansion is a number above 0, not {self.expansion}")
        return MobileNetV2(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        shape = (batch, self.image_size, self.image_size, self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}

    def hidden(self, width: int) -> int:
        """Channels within a block that so many come into."""
        return divisible(round(width * self.expansion), self.divisor)


class MobileNetV2(nn.Module):
    """Images in, by task:

    - image-classification: logits `[B, C]`;
    - feature-extraction: pooled features `[B, D]`, or with `global_pool=""` the last map
      `[B, h, w, D]`;
    - feature-pyramid: a tuple of maps `[B, h, w, width]`, the last one of each size (half the
      height and width of the image, a quarter, ...), as timm's `features_only` gives.
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
        ways: dict[str, Any] = {"epsilon": cfg.epsilon, "momentum": cfg.norm_momentum}
        ways |= {"frozen": cfg.frozen_norm, "folded": cfg.folded, **dtypes}
        conv = partial(ConvNorm, padding=cfg.padding, **ways)
        x = jnp.asarray(image, self.dtype)
        check_channels(x, cfg.in_chans)

        x = act(conv(cfg.stem_width, 3, 2, name="stem")(x, train))
        maps, number = [], 0
        for stage, (depth, width) in enumerate(zip(cfg.depths, cfg.widths, strict=True), 1):
            if cfg.strides[stage - 1] > 1:
                maps.append(x)
            for i in range(depth):
                before, first = x.shape[-1], number == 0
                stride = cfg.strides[stage - 1] if i == 0 else 1
                block = InvertedResidual(
                    width, before if first else cfg.hidden(before), 3, stride, cfg.activation,
                    expands=not first, adds=not first and stride == 1 and before == width,
                    padding=cfg.padding, drop_path=cfg.drop_path * number / sum(cfg.depths),
                    expand_momentum=cfg.norm_momentum, **ways, name=f"stage{stage}_block{i}",
                )  # fmt: skip
                x = block(x, train)
                number += 1
        if self.task == "feature-pyramid":
            return (*maps, x)

        x = act(conv(cfg.features, 1, name="last")(x, train))
        x = global_pool(x, cfg.global_pool)
        if self.task == "feature-extraction":
            return x
        x = Dropout(cfg.dropout, name="dropout")(x, train)
        return Dense(cfg.num_classes, name="head", **dtypes)(x)


def scaled(multiplier: float) -> Config:
    """The network with more or fewer channels (section 5.1 of the paper), but never with fewer
    features for the classifier."""
    widths = tuple(divisible(width * multiplier) for width in Config.widths)
    features = max(Config.features, divisible(Config.features * multiplier))
    return Config(widths=widths, stem_width=divisible(32 * multiplier), features=features)


SIZES = {
    "mobilenetv2_100": Size(
        Config(), 3_504_872, "arXiv:1801.04381; timm", "apache-2.0",
        "ImageNet top-1 72.91 with the weights of timm",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"expand/conv/kernel", P(None, None, None, "tensor")),
    (r"expand/norm/(scale|bias)", P("tensor")),
    (r"depthwise/conv/kernel", P(None, None, None, "tensor")),
    (r"depthwise/norm/(scale|bias)", P("tensor")),
    (r"project/conv/kernel", P(None, None, "tensor", None)),
    (r"head/kernel", P("tensor", None)),
)
"""What lies within a block is cut by its channels, which meet again in its last convolution."""
