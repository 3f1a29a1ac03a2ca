"""MobileNetV3 (Howard et al., 2019, https://arxiv.org/abs/1905.02244): inverted residual blocks,
some of them with squeeze-and-excitation, found by search; activations made of lines.

B batch, H W image, I channels of the image, D features, C classes.
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
    """Sizes of a MobileNetV3; as given those of the large one, the paper's table 1, whose columns
    these are, with a number for each block."""

    depths: tuple[int, ...] = (1, 2, 3, 4, 2, 3)
    """Blocks of each stage, whose maps have one size and mostly one width."""
    kernel_sizes: tuple[int, ...] = (3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5)
    """Side of the depthwise kernel of each block."""
    hidden: tuple[int, ...] = (
        16, 64, 72, 72, 120, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960
    )  # fmt: skip
    """Channels within each block; as many as come into it is a block without expansion."""
    widths: tuple[int, ...] = (16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160)
    """Channels after each block."""
    squeezed: tuple[bool, ...] = (False,) * 3 + (True,) * 3 + (False,) * 4 + (True,) * 5
    """Whether each block has squeeze-and-excitation."""
    hard: tuple[bool, ...] = (False,) * 6 + (True,) * 9
    """Whether each block has the activation function of the network, not ReLU."""
    strides: tuple[int, ...] = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1)
    """How far each block shrinks height and width."""
    stem_width: int = 16
    """Channels of the 3x3 convolution on the image."""
    last_width: int = 960
    """Channels of the 1x1 convolution behind the blocks."""
    features: int = 1280
    """Features of the hidden layer behind the pooling, which the classifier sees."""
    activation: str = "hard_swish"
    """Activation function of stem, end and the blocks that say so."""
    padding: str = "symmetric"
    """Where zeros are put around an image: symmetric, or same as TensorFlow does it."""
    epsilon: float = 1e-5
    """Added to the variance in batch norms."""
    global_pool: str = "avg"
    """How the last map becomes a vector: avg, max, avgmax, catavgmax, or "" for the map itself."""
    dropout: float = 0.0
    """Rate before the classifier."""
    drop_path: float = 0.0
    """Rate at which an example would skip the block after the last one, which is the convolution
    there; it rises evenly from 0."""
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
    ) -> "MobileNetV3":
        """The module with a head for the task.

        Raises:
            InputError: unknown task, or numbers that do not go together.
        """
        task = check_task("feature-extraction" if not (task or self.num_classes) else task, TASKS)
        check_stages(self, task, (), ("stem_width", "last_width", "features"))
        for name in ("kernel_sizes", "hidden", "widths", "squeezed", "hard", "strides"):
            column = getattr(self, name)
            if len(column) != sum(self.depths):
                raise InputError(
                    f"{name} {column} has not one value for each block of {self.depths}"
                )
            if name not in ("squeezed", "hard") and min(column) < 1:
                raise InputError("depths, widths and all other sizes must be at least 1")
        return MobileNetV3(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        shape = (batch, self.image_size, self.image_size, self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}

    def expands(self, number: int) -> bool:
        """Whether a block has an expansion."""
        return self.hidden[number] != (self.stem_width, *self.widths)[number]


class MobileNetV3(nn.Module):
    """Images in, by task:

    - image-classification: logits `[B, C]`;
    - feature-extraction: the hidden layer `[B, D]`, or with `global_pool=""` of every place
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
        ways: dict[str, Any] = {"epsilon": cfg.epsilon, "padding": cfg.padding}
        ways |= {"frozen": cfg.frozen_norm, "folded": cfg.folded, **dtypes}
        conv = partial(ConvNorm, **ways)
        x = jnp.asarray(image, self.dtype)
        check_channels(x, cfg.in_chans)

        x = act(conv(cfg.stem_width, 3, 2, name="stem")(x, train))
        maps, number = [], 0
        for stage, depth in enumerate(cfg.depths, 1):
            for i in range(depth):
                stride, hidden, width = cfg.strides[number], cfg.hidden[number], cfg.widths[number]
                if stride > 1:
                    maps.append(x)
                block = InvertedResidual(
                    width, hidden, cfg.kernel_sizes[number], stride,
                    cfg.activation if cfg.hard[number] else "relu", expands=cfg.expands(number),
                    adds=stride == 1 and x.shape[-1] == width,
                    squeeze=divisible(hidden / 4) if cfg.squeezed[number] else 0,
                    squeeze_activation="relu", gate="hard_sigmoid",
                    drop_path=cfg.drop_path * number / (len(cfg.widths) + 1), **ways,
                    name=f"stage{stage}_block{i}",
                )  # fmt: skip
                x = block(x, train)
                number += 1
        x = act(conv(cfg.last_width, 1, name="last")(x, train))
        if self.task == "feature-pyramid":
            return (*maps, x)

        x = global_pool(x, cfg.global_pool)
        x = act(Dense(cfg.features, name="hidden", **dtypes)(x))
        if self.task == "feature-extraction":
            return x
        x = Dropout(cfg.dropout, name="dropout")(x, train)
        return Dense(cfg.num_classes, name="head", **dtypes)(x)


SMALL = Config(
    depths=(1, 2, 3, 2, 3),
    kernel_sizes=(3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5),
    hidden=(16, 72, 88, 96, 240, 240, 120, 144, 288, 576, 576),
    widths=(16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96),
    squeezed=(True,) + (False,) * 2 + (True,) * 8,
    hard=(False,) * 3 + (True,) * 8,
    strides=(2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1),
    last_width=576,
    features=1024,
)
"""The small one, the paper's table 2."""

SIZES = {
    "mobilenetv3_large_100": Size(
        Config(), 5_483_032, "arXiv:1905.02244; timm", "apache-2.0",
        "ImageNet top-1 75.78 with the weights of timm",
    ),
    "mobilenetv3_small_100": Size(SMALL, 2_542_856, "timm", "apache-2.0"),
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
    (r"hidden/kernel", P(None, "tensor")),
    (r"hidden/bias", P("tensor")),
    (r"head/kernel", P("tensor", None)),
)
"""What lies within a block is cut by its channels, which meet again in the squeeze and in its last
convolution; the hidden layer so too."""
