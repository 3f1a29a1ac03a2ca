"""Plain convolutional networks: one list of layers, no branches.

LeNet-5 (LeCun et al., 1998, https://doi.org/10.1109/5.726791), AlexNet (Krizhevsky, 2014,
https://arxiv.org/abs/1404.5997, as torchvision has it) and small networks for small images. Not
here: VGG and anything with residual or parallel paths, which have files of their own.

B batch, H W image, I channels, C classes.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.models.registry import Size, check_task
from zoo.nn.activation import ACTIVATIONS, activation
from zoo.nn.conv import Conv
from zoo.nn.dense import Dense
from zoo.nn.dropout import Dropout
from zoo.nn.norm import BatchNorm
from zoo.nn.patches import check_channels
from zoo.nn.pool import adaptive_avg_pool, avg_pool, max_pool, output_size

TASKS = ("image-classification", "regression")


@dataclass(frozen=True)
class Config:
    """Layers of a network, in order, and the images it takes.

    A layer is a word, its numbers and options:

    - ``conv FEATURES KERNEL``, with ``stride=1``, ``padding=0`` and ``bias=1`` where not given
      (``bias=0`` before a batch norm, which takes it away again);
    - ``max_pool WINDOW`` and ``avg_pool WINDOW``, with ``stride=WINDOW`` and ``padding=0``;
    - ``adaptive_avg_pool SIZE``: means over a SIZE x SIZE grid; 1 is global pooling;
    - ``batch_norm``;
    - ``dense FEATURES``: images are flattened before the first;
    - ``dropout RATE``;
    - an activation: ``relu``, ``tanh``, ...

    A dense layer with ``num_classes`` outputs, the head, follows the last.
    """

    layers: tuple[str, ...] = ("conv 32 3", "relu", "max_pool 2", "dense 64", "relu")
    """Layers before the head, each a word with numbers such as "conv 64 3 stride=2 padding=1"."""
    num_classes: int = 10
    """Outputs: logits of the classes, or values of a regression."""
    image_size: int = 28
    """Height and width of the images."""
    channels: int = 1
    """Channels of the images: 1 for grey, 3 for colour."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "CNN":
        """The module; all tasks share one head.

        Raises:
            InputError: unknown task, a layer that cannot be read, or images too small for the
                layers.
        """
        if min(self.num_classes, self.image_size, self.channels) < 1:
            raise InputError("num_classes, image_size and channels must all be at least 1")
        check_size(self.layers, self.image_size, self.image_size)
        return CNN(self, check_task(task, TASKS), dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        shape = (batch, self.image_size, self.image_size, self.channels)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}


class CNN(nn.Module):
    """Images ``[B, H, W, I]`` in, logits or values ``[B, C]`` out.

    Layers with parameters are named by their kind and count: ``conv1``, ``norm1``, ``dense1``.
    """

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[ArrayLike, "B H W I"], train: bool = False
    ) -> Float[Array, "B C"]:
        cfg = self.cfg
        x = jnp.asarray(image, self.dtype)
        check_channels(x, cfg.channels)
        check_size(cfg.layers, *x.shape[1:3])

        # He's initialisation keeps the variance through ReLUs: without it VGG-16 does not train.
        hidden: dict[str, Any] = {"kernel_init": nn.initializers.he_normal()}
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        count: Counter[str] = Counter()
        for layer in map(parse, cfg.layers):
            count[layer.kind] += 1
            i, n = count[layer.kind], layer.number
            match layer.kind:
                case "conv":
                    conv = Conv(int(n), layer.window, layer.stride, layer.padding,
                                bool(layer.bias), name=f"conv{i}", **hidden, **dtypes)  # fmt: skip
                    x = conv(x)
                case "max_pool":
                    x = max_pool(x, layer.window, layer.stride, layer.padding)
                case "avg_pool":
                    x = avg_pool(x, layer.window, layer.stride, layer.padding)
                case "adaptive_avg_pool":
                    x = adaptive_avg_pool(x, int(n))
                case "batch_norm":
                    x = BatchNorm(name=f"norm{i}", **dtypes)(x, train)
                case "dense":
                    x = x.reshape(x.shape[0], -1)
                    x = Dense(int(n), name=f"dense{i}", **hidden, **dtypes)(x)
                case "dropout":
                    x = Dropout(n, name=f"dropout{i}")(x, train)
                case _:
                    x = activation(layer.kind)(x)
        x = x.reshape(x.shape[0], -1)
        return Dense(cfg.num_classes, name="head", **dtypes)(x)


@dataclass(frozen=True)
class Layer:
    """One layer as read from its text."""

    kind: str
    number: float = 0
    """Features, grid size or rate."""
    window: int = 1
    stride: int = 1
    padding: int = 0
    bias: int = 1


NUMBERS: dict[str, tuple[str, ...]] = {
    "conv": ("number", "window"),
    "max_pool": ("window",),
    "avg_pool": ("window",),
    "adaptive_avg_pool": ("number",),
    "batch_norm": (),
    "dense": ("number",),
    "dropout": ("number",),
} | dict.fromkeys(ACTIVATIONS, ())
"""What the numbers after each word are."""


@cache
def parse(text: str) -> Layer:
    """Reads one layer, such as ``"conv 64 3 padding=1"``.

    Raises:
        InputError: it is no layer that ``Config`` lists.
    """
    kind, *rest = text.split() or [""]
    options = dict(word.split("=", 1) for word in rest if "=" in word)
    numbers = [word for word in rest if "=" not in word]
    windowed = kind in ("conv", "max_pool", "avg_pool")
    try:
        values = dict(zip(NUMBERS[kind], numbers, strict=True))
        allowed = {"stride", "padding", "bias"} if kind == "conv" else {"stride", "padding"}
        if not options.keys() <= (allowed if windowed else set()):
            raise ValueError
        rate = float(values.pop("number", 0))
        whole = {key: int(value) for key, value in (values | options).items()}
    except (KeyError, ValueError):
        words = ", ".join(" ".join((k, *map(str.upper, v))) for k, v in NUMBERS.items())
        raise InputError(f"cannot read the layer {text!r}; layers are: {words}") from None
    if kind.endswith("_pool") and windowed:
        whole.setdefault("stride", whole["window"])
    layer = Layer(kind, rate, **whole)
    counts = kind in ("conv", "dense", "adaptive_avg_pool")
    if min(layer.window, layer.stride) < 1 or layer.padding < 0 or layer.bias not in (0, 1):
        raise InputError(
            f"layer {text!r}: window and stride are at least 1, padding at least 0, bias 0 or 1"
        )
    if kind.endswith("_pool") and 2 * layer.padding > layer.window:
        raise InputError(f"layer {text!r}: padding is at most half the window")
    if counts and (rate < 1 or not rate.is_integer()) or kind == "dropout" and not 0 <= rate <= 1:
        raise InputError(f"layer {text!r}: {rate:g} is out of range")
    return layer


def fits(layers: tuple[str, ...], size: int) -> bool:
    """Whether every window finds a place when the images have this height (or width)."""
    for layer in map(parse, layers):
        size = output_size(size, layer.window, layer.stride, layer.padding)
        if size < 1:
            return False
        if layer.kind == "adaptive_avg_pool":
            size = int(layer.number)
    return True


@cache
def check_size(layers: tuple[str, ...], height: int, width: int) -> None:
    """Raises:
    InputError: images of this size are too small for the layers; it says the smallest size.
    """
    flat = False
    for text in layers:
        kind = parse(text).kind
        if flat and kind in ("conv", "max_pool", "avg_pool", "adaptive_avg_pool"):
            raise InputError(f"layer {text!r} needs an image, and comes after a dense layer")
        flat = flat or kind == "dense"
    if not fits(layers, min(height, width)):
        smallest = next(size for size in range(1, 2**16) if fits(layers, size))
        raise InputError(
            f"images of {height}x{width} are too small for this network: the smallest are "
            f"{smallest}x{smallest}"
        )


def small(dense: int) -> Config:
    """Two convolutions with pooling and one dense layer, for 28x28 digits."""
    conv = ("conv 32 3", "relu", "max_pool 2", "conv 64 3", "relu", "max_pool 2")
    return Config((*conv, f"dense {dense}", "relu"))


LENET5 = Config(
    ("conv 6 5 padding=2", "tanh", "avg_pool 2", "conv 16 5", "tanh", "avg_pool 2",
     "dense 120", "tanh", "dense 84", "tanh"),
)  # fmt: skip
"""The layout of 1998 with full connections between the maps; tanh and mean pooling without
coefficients where the paper has a scaled tanh and trained ones, a dense layer for its RBF units."""

ALEXNET = Config(
    ("conv 64 11 stride=4 padding=2", "relu", "max_pool 3 stride=2",
     "conv 192 5 padding=2", "relu", "max_pool 3 stride=2",
     "conv 384 3 padding=1", "relu", "conv 256 3 padding=1", "relu",
     "conv 256 3 padding=1", "relu", "max_pool 3 stride=2", "adaptive_avg_pool 6",
     "dropout 0.5", "dense 4096", "relu", "dropout 0.5", "dense 4096", "relu"),
    num_classes=1000,
    image_size=224,
    channels=3,
)  # fmt: skip

DIGITS = Config(
    ("conv 48 3 padding=1 bias=0", "batch_norm", "relu",
     "conv 48 3 padding=1 bias=0", "batch_norm", "relu", "max_pool 2",
     "conv 96 3 padding=1 bias=0", "batch_norm", "relu",
     "conv 96 3 padding=1 bias=0", "batch_norm", "relu",
     "conv 96 3 padding=1 bias=0", "batch_norm", "relu",
     "adaptive_avg_pool 1", "dropout 0.3"),
    image_size=8,
)  # fmt: skip

SIZES = {
    "lenet5": Size(LENET5, 61_706, "closed form, LeCun 1998 layout with full connections"),
    "cnn-8x8-digits": Size(DIGITS, 230_266, "closed form; 8x8 digits"),
    "cnn-28x28-dense64": Size(small(64), 121_930, "closed form: conv 32, conv 64, dense 64"),
    "cnn-28x28-dense128": Size(small(128), 225_034, "closed form: conv 32, conv 64, dense 128"),
    "alexnet": Size(ALEXNET, 61_100_840, "torchvision"),
}

TENSOR_PARALLEL = (
    (r"conv\d+/kernel", P(None, None, None, "tensor")),
    (r"head/kernel", P("tensor", None)),
)
