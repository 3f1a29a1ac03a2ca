"""Residual networks: ResNet (He et al., 2015, https://arxiv.org/abs/1512.03385), ResNeXt (Xie et
al., 2016, https://arxiv.org/abs/1611.05431), wide ResNet (Zagoruyko and Komodakis, 2016,
https://arxiv.org/abs/1605.07146).

As in timm and torchvision, a bottleneck that halves the image does so in its 3x3 convolution;
`stride_in_1x1` is the paper's way, in its first one. Not here: variants with another stem, with
attention among the channels or with blurred pooling.

B batch, H W image, I channels of the image, D channels of the last stage (twice as many with
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
from zoo.nn.conv_norm import ConvNorm
from zoo.nn.dense import Dense
from zoo.nn.dropout import Dropout
from zoo.nn.patches import check_channels
from zoo.nn.pool import check_pool, global_pool, max_pool
from zoo.nn.stochastic_depth import StochasticDepth, rising_rate

TASKS = ("image-classification", "feature-extraction", "feature-pyramid")
BLOCKS = ("basic", "bottleneck")


@dataclass(frozen=True)
class Config:
    """Sizes of a residual network."""

    block: str = "bottleneck"
    """Two 3x3 convolutions ("basic"), or 1x1, 3x3 and 1x1 ("bottleneck")."""
    depths: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks of each stage; every stage but the first halves height and width."""
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    """Channels after each stage."""
    stem_width: int = 64
    """Channels of the 7x7 convolution on the image."""
    groups: int = 1
    """Groups of channels in the 3x3 convolution of a bottleneck: ResNeXt's cardinality."""
    group_width: int = 64
    """Channels of a group in the first of four stages; a bottleneck's 3x3 convolution has
    `groups * (width / 4) * group_width / 64` channels."""
    activation: str = "relu"
    """Activation function."""
    stride_in_1x1: bool = False
    """Whether a bottleneck halves the image in its first convolution, not in its 3x3 one."""
    stride_in_first_stage: bool = False
    """Whether the first stage halves the image too."""
    global_pool: str = "avg"
    """How the last map becomes a vector: avg, max, avgmax, catavgmax, or "" for the map itself."""
    dropout: float = 0.0
    """Rate before the classifier."""
    drop_path: float = 0.0
    """Rate at which an example skips the last block; it rises evenly from 0 in the first."""
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
    ) -> "ResNet":
        """The module with a head for the task.

        Raises:
            InputError: unknown task, or numbers that do not go together.
        """
        task = check_task("feature-extraction" if not (task or self.num_classes) else task, TASKS)
        sizes = (self.stem_width, self.groups, self.group_width, self.in_chans, self.image_size)
        if min(*sizes, *self.depths, *self.widths) < 1 or self.num_classes < 0:
            raise InputError("depths, widths and all other sizes must be at least 1")
        if len(self.depths) != len(self.widths) or not self.depths:
            raise InputError(f"depths {self.depths} and widths {self.widths} differ in length")
        if self.block not in BLOCKS:
            raise InputError(f"block is one of {', '.join(BLOCKS)}, not {self.block!r}")
        if self.block == "basic" and (self.groups, self.group_width) != (1, 64):
            raise InputError("groups and group_width are for bottlenecks; basic blocks have none")
        if self.block == "bottleneck" and min(map(self.inner, self.widths)) < 1:
            raise InputError(f"widths {self.widths} leave a 3x3 convolution without channels")
        check_pool(self.global_pool, task, self.num_classes)
        activation(self.activation)
        return ResNet(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        shape = (batch, self.image_size, self.image_size, self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}

    def inner(self, width: int) -> int:
        """Channels of the 3x3 convolution of a bottleneck of that width."""
        return width // 4 * self.group_width // 64 * self.groups


class ResNet(nn.Module):
    """Images in, by task:

    - image-classification: logits `[B, C]`;
    - feature-extraction: pooled features `[B, D]`, or with `global_pool=""` the last map
      `[B, h, w, D]`;
    - feature-pyramid: a tuple of maps `[B, h, w, width]`, of the stem (half the height and width of
      the image) and of every stage (a quarter, an eighth, ...), as timm's `features_only` gives.
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

        stem = conv_norm(cfg, dtypes)(cfg.stem_width, 7, 2, padding=3, name="stem")
        x = activation(cfg.activation)(stem(x, train))
        maps, number = [x], 0
        x = max_pool(x, 3, 2, padding=1)
        for stage, (depth, width) in enumerate(zip(cfg.depths, cfg.widths, strict=True), 1):
            halves = stage > 1 or cfg.stride_in_first_stage
            for i in range(depth):
                stride = 2 if halves and i == 0 else 1
                rate = rising_rate(cfg.drop_path, number, sum(cfg.depths))
                block = Block(cfg, width, stride, rate, name=f"stage{stage}_block{i}", **dtypes)
                x = block(x, train)
                number += 1
            maps.append(x)
        if self.task == "feature-pyramid":
            return tuple(maps)

        x = global_pool(x, cfg.global_pool)
        if self.task == "feature-extraction":
            return x
        x = Dropout(cfg.dropout, name="dropout")(x, train)
        return Dense(cfg.num_classes, name="head", **dtypes)(x)


class Block(nn.Module):
    """`activation(x + F(x))`; where the shape changes, x goes through a 1x1 convolution."""

    cfg: Config
    width: int
    stride: int
    drop_path: float
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W i"], train: bool) -> Float[Array, "B h w o"]:
        cfg, act = self.cfg, activation(self.cfg.activation)
        conv = conv_norm(cfg, {"dtype": self.dtype, "param_dtype": self.param_dtype})
        shortcut = x
        if x.shape[-1] != self.width or self.stride != 1:
            shortcut = conv(self.width, 1, self.stride, name="shortcut")(x, train)
        if cfg.block == "basic":
            x = act(conv(self.width, 3, self.stride, padding=1, name="conv1")(x, train))
            x = conv(self.width, 3, padding=1, name="conv2")(x, train)
        else:
            first, second = (self.stride, 1) if cfg.stride_in_1x1 else (1, self.stride)
            inner = cfg.inner(self.width)
            x = act(conv(inner, 1, first, name="conv1")(x, train))
            middle = conv(inner, 3, second, padding=1, groups=cfg.groups, name="conv2")
            x = conv(self.width, 1, name="conv3")(act(middle(x, train)), train)
        return act(StochasticDepth(self.drop_path, name="depth")(x, train) + shortcut)


def conv_norm(cfg: Config, dtypes: dict[str, Any]) -> partial[ConvNorm]:
    """Every convolution of a network has its norm, in one of the three ways."""
    return partial(ConvNorm, frozen=cfg.frozen_norm, folded=cfg.folded, **dtypes)


def basic(*depths: int) -> Config:
    """Basic blocks with the paper's widths."""
    return Config("basic", depths, (64, 128, 256, 512))


IMAGENET = "ImageNet top-1 {} with the weights of {}"

SIZES = {
    "resnet18": Size(
        basic(2, 2, 2, 2), 11_689_512, "arXiv:1512.03385; timm", "bsd-3-clause",
        IMAGENET.format(69.75, "torchvision"),
    ),
    "resnet34": Size(
        basic(3, 4, 6, 3), 21_797_672, "arXiv:1512.03385; timm", "bsd-3-clause",
        IMAGENET.format(73.30, "torchvision"),
    ),
    "resnet50": Size(
        Config(), 25_557_032, "arXiv:1512.03385; timm", "bsd-3-clause",
        IMAGENET.format(76.13, "torchvision") + ", 80.38 with timm's a1",
    ),
    "resnet101": Size(
        Config(depths=(3, 4, 23, 3)), 44_549_160, "arXiv:1512.03385; torchvision", "bsd-3-clause",
        IMAGENET.format(77.37, "torchvision"),
    ),
    "resnet152": Size(
        Config(depths=(3, 8, 36, 3)), 60_192_808, "arXiv:1512.03385; timm", "bsd-3-clause",
        IMAGENET.format(78.33, "torchvision"),
    ),
    "resnext50_32x4d": Size(
        Config(groups=32, group_width=4), 25_028_904, "arXiv:1611.05431; timm", "bsd-3-clause",
    ),
    "resnext101_32x8d": Size(
        Config(depths=(3, 4, 23, 3), groups=32, group_width=8), 88_791_336,
        "arXiv:1611.05431; torchvision", "bsd-3-clause", IMAGENET.format(79.31, "torchvision"),
    ),
    "wide_resnet50_2": Size(
        Config(group_width=128), 68_883_240, "arXiv:1605.07146; torchvision", "bsd-3-clause",
        IMAGENET.format(78.47, "torchvision"),
    ),
    "wide_resnet101_2": Size(
        Config(depths=(3, 4, 23, 3), group_width=128), 126_886_696,
        "arXiv:1605.07146; torchvision", "bsd-3-clause", IMAGENET.format(78.85, "torchvision"),
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"conv1/conv/kernel", P(None, None, None, "tensor")),
    (r"conv1/norm/(scale|bias)", P("tensor")),
    (r"conv2/conv/kernel", P(None, None, "tensor", None)),
    (r"head/kernel", P("tensor", None)),
)
"""The first convolution of a block is cut by its outputs, the next by its inputs."""
