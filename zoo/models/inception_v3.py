"""Inception-v3 (Szegedy et al., 2015, https://arxiv.org/abs/1512.00567): blocks of branches with
convolutions of several sizes, large ones taken apart into rows and columns.

As in timm and torchvision, whose network it is: the widths that the paper leaves open are those of
the weights that were published. Images of 299x299 give maps of 35x35, 17x17 and 8x8.

B batch, H W image, I channels of the image, D channels of the last map (twice as many with
`catavgmax`), C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
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
from zoo.nn.pool import avg_pool, check_pool, global_pool, max_pool

TASKS = ("image-classification", "feature-extraction", "feature-pyramid")
INIT, AUX_INIT, AUX_HEAD_INIT = (nn.initializers.truncated_normal(std) for std in (0.1, 0.01, 1e-3))
"""Of kernels, and of the last two of the auxiliary classifier, as the first implementation has
them."""


@dataclass(frozen=True)
class Config:
    """Sizes of an Inception-v3."""

    pool_widths: tuple[int, ...] = (32, 64, 64)
    """Channels of the pooled branch of each block of the first stage (figure 5)."""
    inner_widths: tuple[int, ...] = (128, 160, 160, 192)
    """Channels within the branches of each block of the second stage (figure 6)."""
    last_blocks: int = 2
    """Blocks of the third stage (figure 7)."""
    divisor: int = 1
    """All channels are divided by it, for smaller networks; each layer keeps at least one."""
    activation: str = "relu"
    """Activation function."""
    epsilon: float = 1e-3
    """Of the norms."""
    aux_logits: bool = False
    """Whether a second classifier, on the second stage, gives logits too (section 4)."""
    global_pool: str = "avg"
    """How the last map becomes a vector: avg, max, avgmax, catavgmax, or "" for the map itself."""
    dropout: float = 0.0
    """Rate before the classifier."""
    frozen_norm: bool = False
    """Whether batch norm takes its running statistics in training too, and leaves them."""
    folded: bool = False
    """Whether norms are part of the convolutions: for inference, by `zoo.nn.conv_norm.fold`, which
    is to be given the epsilon."""
    num_classes: int = 1000
    """Classes; 0 is a model without classifier, whose task is feature-extraction."""
    labels: tuple[str, ...] = ()
    """Names of the classes; none where they have none."""
    in_chans: int = 3
    """Channels of the images."""
    image_size: int = 299
    """Height and width of the example batch; the model takes images of any size from 75x75, with
    a second classifier from 299x299."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "InceptionV3":
        """The module with a head for the task.

        Raises:
            InputError: unknown task, or numbers that do not go together.
        """
        task = check_task("feature-extraction" if not (task or self.num_classes) else task, TASKS)
        sizes = (self.last_blocks, self.divisor, self.in_chans, self.image_size)
        widths = (*self.pool_widths, *self.inner_widths)
        if min(*sizes, *widths) < 1 or not (self.pool_widths and self.inner_widths):
            raise InputError("every stage needs a block, and all sizes must be at least 1")
        if self.num_classes < 0:
            raise InputError(f"num_classes must be at least 0, not {self.num_classes}")
        check_pool(self.global_pool, task, self.num_classes)
        activation(self.activation)
        check_size(self, task, self.image_size, self.image_size)
        return InceptionV3(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        shape = (batch, self.image_size, self.image_size, self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}


@flax.struct.dataclass
class AuxiliaryLogits:
    """What two classifiers say."""

    logits: Any
    """``[B, C]``, of the last stage."""
    aux_logits: Any
    """``[B, C]``, of the second one; for training."""


class InceptionV3(nn.Module):
    """Images in, by task:

    - image-classification: logits `[B, C]`, or with `aux_logits` those of both classifiers;
    - feature-extraction: pooled features `[B, D]`, or with `global_pool=""` the last map
      `[B, h, w, D]`;
    - feature-pyramid: a tuple of maps `[B, h, w, width]`, two of the stem and one of each stage, as
      timm's `features_only` gives.
    """

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[ArrayLike, "B H W I"], train: bool = False
    ) -> Float[Array, "B *rest"] | tuple[Float[Array, "B h w D"], ...] | AuxiliaryLogits:
        cfg = self.cfg
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = jnp.asarray(image, self.dtype)
        check_channels(x, cfg.in_chans)
        check_size(cfg, self.task, *x.shape[1:3])

        conv = layers(cfg, train, dtypes)
        x = conv("stem1", x, 32, 3, 2, padding=0)
        x = conv("stem2", x, 32, 3, padding=0)
        maps = [x := conv("stem3", x, 64, 3)]
        x = conv("stem4", max_pool(x, 3, 2), 80, 1)
        maps.append(x := conv("stem5", x, 192, 3, padding=0))
        x = max_pool(x, 3, 2)
        for i, width in enumerate(cfg.pool_widths):
            x = Block(cfg, stage1, width, name=f"stage1_block{i}", **dtypes)(x, train)
        maps.append(x)
        x = Block(cfg, reduction1, name="reduction1", **dtypes)(x, train)
        for i, width in enumerate(cfg.inner_widths):
            x = Block(cfg, stage2, width, name=f"stage2_block{i}", **dtypes)(x, train)
        maps.append(x)
        aux = None
        if cfg.aux_logits and self.task == "image-classification":
            aux = AuxiliaryClassifier(cfg, name="aux", **dtypes)(x, train)
        x = Block(cfg, reduction2, name="reduction2", **dtypes)(x, train)
        for i in range(cfg.last_blocks):
            x = Block(cfg, stage3, name=f"stage3_block{i}", **dtypes)(x, train)
        if self.task == "feature-pyramid":
            return (*maps, x)

        x = global_pool(x, cfg.global_pool)
        if self.task == "feature-extraction":
            return x
        x = Dropout(cfg.dropout, name="dropout")(x, train)
        logits = Dense(cfg.num_classes, kernel_init=INIT, name="head", **dtypes)(x)
        return logits if aux is None else AuxiliaryLogits(logits, aux)


class Block(nn.Module):
    """Branches side by side, their channels behind one another."""

    cfg: Config
    branches: Callable[..., list[Array]]
    width: int = 0
    """What the kind of branches leaves open."""
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W i"], train: bool) -> Float[Array, "B h w o"]:
        conv = layers(self.cfg, train, {"dtype": self.dtype, "param_dtype": self.param_dtype})
        return jnp.concatenate(self.branches(conv, x, self.width), axis=-1)


def stage1(conv: Callable[..., Array], x: Array, width: int) -> list[Array]:
    """x itself, 5x5, two 3x3, a mean (figure 5)."""
    return [
        conv("one", x, 64, 1),
        chain(conv, "five", x, (48, 1), (64, 5)),
        chain(conv, "double", x, (64, 1), (96, 3), (96, 3)),
        conv("pool", avg_pool(x, 3, 1, 1), width, 1),
    ]


def reduction1(conv: Callable[..., Array], x: Array, _: int) -> list[Array]:
    """Half the height and width by 3x3, two 3x3 and a maximum (figure 10)."""
    three = conv("three", x, 384, 3, 2, 0)
    double = chain(conv, "double", x, (64, 1), (96, 3), (96, 3, 2, 0))
    return [three, double, max_pool(x, 3, 2)]


def stage2(conv: Callable[..., Array], x: Array, width: int) -> list[Array]:
    """x itself, 7x7 as rows and columns, once and twice, a mean (figure 6)."""
    row, column = (1, 7), (7, 1)
    first, rows, columns = (width, 1), (width, row), (width, column)
    return [
        conv("one", x, 192, 1),
        chain(conv, "seven", x, first, rows, (192, column)),
        chain(conv, "double", x, first, columns, rows, columns, (192, row)),
        conv("pool", avg_pool(x, 3, 1, 1), 192, 1),
    ]


def reduction2(conv: Callable[..., Array], x: Array, _: int) -> list[Array]:
    """Half the height and width again, one branch with a row and a column of 7 before."""
    three = chain(conv, "three", x, (192, 1), (320, 3, 2, 0))
    seven = chain(conv, "seven", x, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, 0))
    return [three, seven, max_pool(x, 3, 2)]


def stage3(conv: Callable[..., Array], x: Array, _: int) -> list[Array]:
    """x itself, a row and a column of 3 side by side, once behind a 3x3, a mean (figure 7)."""
    three = conv("three1", x, 384, 1)
    double = chain(conv, "double", x, (448, 1), (384, 3))
    return [
        conv("one", x, 320, 1),
        conv("three_row", three, 384, (1, 3)),
        conv("three_column", three, 384, (3, 1)),
        conv("double_row", double, 384, (1, 3)),
        conv("double_column", double, 384, (3, 1)),
        conv("pool", avg_pool(x, 3, 1, 1), 192, 1),
    ]


class AuxiliaryClassifier(nn.Module):
    """Logits from the second stage, which pass it a gradient of their own (figure 8)."""

    cfg: Config
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W i"], train: bool) -> Float[Array, "B C"]:
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv = layers(self.cfg, train, dtypes)
        x = conv("conv1", avg_pool(x, 5, 3), 128, 1)
        x = conv("conv2", x, 768, 5, padding=0, kernel_init=AUX_INIT)
        x = global_pool(x, "avg")
        return Dense(self.cfg.num_classes, kernel_init=AUX_HEAD_INIT, name="head", **dtypes)(x)


def layers(cfg: Config, train: bool, dtypes: dict[str, Any]) -> Callable[..., Array]:
    """A function that applies a convolution of that name, its norm and the activation; no
    padding stated is as much as keeps the size."""

    def apply(
        name: str,
        x: Array,
        width: int,
        kernel: int | tuple[int, int],
        strides: int = 1,
        padding: int | None = None,
        kernel_init: Initializer = INIT,
    ) -> Array:
        sides = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
        conv = ConvNorm(
            max(width // cfg.divisor, 1), kernel, strides, sides if padding is None else padding,
            epsilon=cfg.epsilon, frozen=cfg.frozen_norm, folded=cfg.folded,
            kernel_init=kernel_init, name=name, **dtypes,
        )  # fmt: skip
        return activation(cfg.activation)(conv(x, train))

    return apply


def chain(conv: Callable[..., Array], name: str, x: Array, *steps: tuple[Any, ...]) -> Array:
    """Convolutions behind one another, numbered from 1."""
    for number, step in enumerate(steps, 1):
        x = conv(f"{name}{number}", x, *step)
    return x


def check_size(cfg: Config, task: str, height: int, width: int) -> None:
    """Raises:
    InputError: images of this size are too small for the stages, or for the second classifier.
    """
    aux = cfg.aux_logits and task == "image-classification"
    smallest = 299 if aux else 75
    if min(height, width) < smallest:
        raise InputError(
            f"images of {height}x{width} are too small for this network"
            f"{' with aux_logits' * aux}: the smallest are {smallest}x{smallest}"
        )


SIZES = {
    "inception_v3": Size(
        Config(), 23_834_568, "arXiv:1512.00567; timm", "apache-2.0",
        "ImageNet top-1 77.47 with the weights of torchvision",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"stage._block\d+/(five|double|seven|three)1/conv/kernel", P(None, None, None, "tensor")),
    (r"stage._block\d+/(five|double|seven|three)1/norm/(scale|bias)", P("tensor")),
    (r"stage._block\d+/(five|double|seven)2/conv/kernel", P(None, None, "tensor", None)),
    (r"stage._block\d+/three_(row|column)/conv/kernel", P(None, None, "tensor", None)),
    (r"head/kernel", P("tensor", None)),
)
"""The first convolution of a branch is cut by its outputs, the next by its inputs."""
