"""VGG (Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556): blocks of 3x3 convolutions,
each block ending in a pooling, with or without batch norm.

As in timm, the two hidden layers before the classifier are convolutions over 7x7 places, so that
larger images give them several places, which are pooled; smaller ones are stretched by means over
repeated pixels. Images of 224x224 give one place, and the network of the paper.

B batch, H W image, I channels of the image, C classes.
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
from zoo.nn.conv import Conv
from zoo.nn.conv_norm import HE, ConvNorm
from zoo.nn.dense import Dense
from zoo.nn.dropout import Dropout
from zoo.nn.patches import check_channels
from zoo.nn.pool import adaptive_avg_pool, check_pool, global_pool, max_pool

TASKS = ("image-classification", "feature-extraction", "feature-pyramid")
PLACES = 7  # rows and columns that a hidden layer sees


@dataclass(frozen=True)
class Config:
    """Sizes of a VGG."""

    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    """Convolutions of each block; every block halves height and width."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels of each block."""
    norm: bool = False
    """Whether each convolution has a batch norm behind it."""
    hidden: int = 4096
    """Features of the first hidden layer."""
    features: int = 4096
    """Features of the second one, which are those that the classifier sees."""
    activation: str = "relu"
    """Activation function."""
    global_pool: str = "avg"
    """How several places become one: avg, max, avgmax, catavgmax, or "" for the map itself."""
    dropout: float = 0.0
    """Rate after the first hidden layer and before the classifier."""
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
    """Height and width of the example batch; the model takes images of any size from that at which
    its blocks leave something."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "VGG":
        """The module with a head for the task.

        Raises:
            InputError: unknown task, or numbers that do not go together.
        """
        task = check_task("feature-extraction" if not (task or self.num_classes) else task, TASKS)
        sizes = (self.hidden, self.features, self.in_chans, self.image_size)
        if min(*sizes, *self.depths, *self.widths) < 1 or self.num_classes < 0:
            raise InputError("depths, widths and all other sizes must be at least 1")
        if len(self.depths) != len(self.widths) or not self.depths:
            raise InputError(f"depths {self.depths} and widths {self.widths} differ in length")
        check_pool(self.global_pool, task, self.num_classes)
        activation(self.activation)
        check_size(self, self.image_size, self.image_size)
        return VGG(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        shape = (batch, self.image_size, self.image_size, self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}


class VGG(nn.Module):
    """Images in, by task:

    - image-classification: logits `[B, C]`;
    - feature-extraction: what the classifier sees `[B, features]`, or with `global_pool=""` the map
      `[B, h, w, features]`;
    - feature-pyramid: a tuple of maps `[B, h, w, width]`, of every block before its pooling (the
      height and width of the image, half of them, ...) and of the last after it, as timm's
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

        options = {"use_bias": True, "frozen": cfg.frozen_norm, **dtypes}
        options["folded"] = cfg.folded or not cfg.norm  # without norms there is nothing to fold
        maps = []
        for block, (depth, width) in enumerate(zip(cfg.depths, cfg.widths, strict=True), 1):
            for i in range(depth):
                name = f"block{block}_conv{i}"
                x = act(ConvNorm(width, 3, padding=1, name=name, **options)(x, train))
            maps.append(x)
            x = max_pool(x, 2)
        if self.task == "feature-pyramid":
            return (*maps, x)

        height, width = (max(PLACES, n) for n in x.shape[1:3])
        x = adaptive_avg_pool(x, (height, width))
        x = act(Conv(cfg.hidden, PLACES, kernel_init=HE, name="hidden1", **dtypes)(x))
        x = Dropout(cfg.dropout, name="dropout1")(x, train)
        x = act(Conv(cfg.features, 1, kernel_init=HE, name="hidden2", **dtypes)(x))
        x = global_pool(x, cfg.global_pool)
        if self.task == "feature-extraction":
            return x
        x = Dropout(cfg.dropout, name="dropout2")(x, train)
        return Dense(cfg.num_classes, name="head", **dtypes)(x)


def check_size(cfg: Config, height: int, width: int) -> None:
    """Raises:
    InputError: images of this size are too small for the blocks.
    """
    smallest = 2 ** len(cfg.depths)
    if min(height, width) < smallest:
        raise InputError(
            f"images of {height}x{width} are too small for this network: the smallest are "
            f"{smallest}x{smallest}"
        )


ELEVEN = Config((1, 1, 2, 2, 2))
THIRTEEN = Config((2, 2, 2, 2, 2))
SIXTEEN = Config()
NINETEEN = Config((2, 2, 4, 4, 4))

PAPER, TORCHVISION = "arXiv:1409.1556; torchvision", "torchvision"
LICENCE = "bsd-3-clause"


def normed(cfg: Config) -> Config:
    """The same with batch norm."""
    return Config(cfg.depths, norm=True)


SIZES = {
    "vgg11": Size(ELEVEN, 132_863_336, PAPER, LICENCE),
    "vgg11_bn": Size(normed(ELEVEN), 132_868_840, TORCHVISION, LICENCE),
    "vgg13": Size(THIRTEEN, 133_047_848, PAPER, LICENCE),
    "vgg13_bn": Size(normed(THIRTEEN), 133_053_736, TORCHVISION, LICENCE),
    "vgg16": Size(
        SIXTEEN, 138_357_544, PAPER, LICENCE, "ImageNet top-1 71.59 with the weights of torchvision"
    ),
    "vgg16_bn": Size(normed(SIXTEEN), 138_365_992, TORCHVISION, LICENCE),
    "vgg19": Size(NINETEEN, 143_667_240, PAPER, LICENCE),
    "vgg19_bn": Size(normed(NINETEEN), 143_678_248, TORCHVISION, LICENCE),
}

TENSOR_PARALLEL = (
    (r"hidden1/kernel", P(None, None, None, "tensor")),
    (r"hidden1/bias", P("tensor")),
    (r"hidden2/kernel", P(None, None, "tensor", None)),
    (r"head/kernel", P("tensor", None)),
)
"""The hidden layers, which have most of the parameters: cut by outputs, then by inputs."""
