"""EfficientNet (Tan and Le, 2019, https://arxiv.org/abs/1905.11946): inverted residual blocks with
squeeze-and-excitation, made wider and deeper together.

B batch, H W image, I channels of the image, D features (twice as many with `catavgmax`),
C classes.
"""

import math
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
    """Sizes of an EfficientNet; as given those of B0, the paper's table 1."""

    depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    """Blocks of each stage."""
    widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    """Channels after each stage."""
    kernel_sizes: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    """Side of the depthwise kernels of each stage."""
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    """How far the first block of each stage shrinks height and width."""
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    """Channels within the blocks of each stage for each that comes in; 1 is no expansion."""
    squeeze: float = 0.25
    """Features of the squeeze-and-excitation for each channel that comes into the block."""
    stem_width: int = 32
    """Channels of the 3x3 convolution on the image."""
    features: int = 1280
    """Channels of the last convolution, which the classifier sees."""
    activation: str = "silu"
    """Activation function."""
    padding: str = "symmetric"
    """Where zeros are put around an image: symmetric; same, as TensorFlow does it; or ahead, as
    Keras does for images of even size."""
    symmetric_blocks: tuple[int, ...] = ()
    """Blocks, numbered from 0, whose padding is symmetric all the same."""
    epsilon: float = 1e-5
    """Added to the variance in batch norms."""
    norm_momentum: float = 0.9
    """Share of the running statistics that a training step keeps."""
    expand_momentum: float = 0.9
    """The same of the norms behind expansions."""
    global_pool: str = "avg"
    """How the last map becomes a vector: avg, max, avgmax, catavgmax, or "" for the map itself."""
    dropout: float = 0.0
    """Rate before the classifier."""
    drop_path: float = 0.0
    """Rate at which an example would skip the block after the last one; it rises evenly from 0."""
    block_dropout: float = 0.0
    """Rate on single elements of what the block after the last one would add; it rises so too."""
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
    ) -> "EfficientNet":
        """The module with a head for the task.

        Raises:
            InputError: unknown task, or numbers that do not go together.
        """
        task = check_task("feature-extraction" if not (task or self.num_classes) else task, TASKS)
        per_stage = ("widths", "kernel_sizes", "strides", "expansions")
        check_stages(self, task, per_stage, ("stem_width", "features"))
        if not 0.0 < self.squeeze <= 1.0:
            raise InputError(f"squeeze is a number above 0 and up to 1, not {self.squeeze}")
        return EfficientNet(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        shape = (batch, self.image_size, self.image_size, self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}


class EfficientNet(nn.Module):
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
        for stage, depth in enumerate(cfg.depths):
            expansion = cfg.expansions[stage]
            if cfg.strides[stage] > 1:
                maps.append(x)
            for i in range(depth):
                share, before = number / sum(cfg.depths), x.shape[-1]
                block = InvertedResidual(
                    cfg.widths[stage], before * expansion, cfg.kernel_sizes[stage],
                    cfg.strides[stage] if i == 0 else 1, cfg.activation,
                    expands=expansion > 1, adds=i > 0,
                    padding="symmetric" if number in cfg.symmetric_blocks else cfg.padding,
                    squeeze=max(1, int(before * cfg.squeeze)), squeeze_activation=cfg.activation,
                    drop_path=cfg.drop_path * share, dropout=cfg.block_dropout * share,
                    expand_momentum=cfg.expand_momentum, **ways, name=f"stage{stage + 1}_block{i}",
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


def scaled(width: float, depth: float, image_size: int) -> Config:
    """B0 with so many times its channels and blocks (section 3.3 of the paper)."""
    return Config(
        depths=tuple(math.ceil(blocks * depth) for blocks in Config.depths),
        widths=tuple(divisible(channels * width) for channels in Config.widths),
        stem_width=divisible(Config.stem_width * width),
        features=divisible(Config.features * width),
        image_size=image_size,
    )


SIZES = {
    "efficientnet_b0": Size(
        Config(), 5_288_548, "arXiv:1905.11946; timm", "apache-2.0",
        "ImageNet top-1 77.70 with the weights of timm",
    ),
    "efficientnet_b1": Size(scaled(1.0, 1.1, 240), 7_794_184, "timm", "apache-2.0"),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"expand/conv/kernel", P(None, None, None, "tensor")),
    (r"expand/norm/(scale|bias)", P("tensor")),
    (r"depthwise/conv/kernel", P(None, None, None, "tensor")),
    (r"depthwise/norm/(scale|bias)", P("tensor")),
    (r"squeeze/reduce/kernel", P("tensor", None)),
    (r"squeeze/expand/kernel", P(None, "tensor")),
    (r"squeeze/expand/bias", P("tensor")),
    (r"project/conv/kernel", P(None, None, "tensor", None)),
    (r"head/kernel", P("tensor", None)),
)
"""What lies within a block is cut by its channels, which meet again in the squeeze and in its last
convolution."""
