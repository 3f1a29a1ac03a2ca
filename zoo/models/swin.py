"""Swin Transformer: a hierarchical vision Transformer using shifted windows (Liu et al., 2021,
https://arxiv.org/abs/2103.14030), in timm's sizes.

B batch, H W image, I channels, h w map, D width of a stage, C classes.
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
from zoo.nn.dropout import Dropout
from zoo.nn.norm import LayerNorm
from zoo.nn.patches import Patches, check_channels, grid, pair
from zoo.nn.pool import POOLS, global_pool
from zoo.nn.stochastic_depth import StochasticDepth, rising_rate
from zoo.nn.vision import FeedForward, check_classes, dense
from zoo.nn.windows import WindowAttention, join, merge_patches, padded, split, strangers

TASKS = ("image-classification", "feature-extraction", "feature-pyramid")
MOST = 2**30
"""Bytes of the masks of shifted windows in the first stage."""
Pair = tuple[int, int]


@dataclass(frozen=True)
class Config:
    """Sizes of a Swin Transformer."""

    image_size: int | tuple[int, int] = 224
    """Height and width of the example batch, and of the images that windows are made for; the model
    takes images of any size."""
    patch_size: int | tuple[int, int] = 4
    """Height and width of a patch."""
    in_chans: int = 3
    """Channels of the images."""
    width: int = 96
    """Features in the first stage; every other stage has twice as many as the one before."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    """Blocks of each stage; every stage but the first halves height and width."""
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    """Attention heads in each stage; they divide its width."""
    window_size: int | tuple[int, int] | tuple[tuple[int, int], ...] = 7
    """Height and width of the windows, or a pair for each stage; a window wider than the map of
    `image_size` becomes as wide as that."""
    mlp_ratio: float = 4.0
    """Features inside the feed-forward layers over those of the stage."""
    activation: str = "gelu"
    """Of the feed-forward layers."""
    epsilon: float = 1e-5
    """Of the norms of blocks and the last norm; those of patches have 1e-5."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    as_transformers: bool = False
    """Whether images and maps are padded as transformers does it, not as timm: images to whole
    patches, maps before they are shifted; the map itself tells whether it is shifted, and
    stochastic depth is for attention alone."""
    global_pool: str = "avg"
    """How the last map becomes a vector: avg, max, avgmax, catavgmax, or "" for the map itself."""
    dropout: float = 0.0
    """Rate on the embedded patches and on what attention and feed-forward layers add."""
    attention_dropout: float = 0.0
    """Rate on attention weights."""
    drop_path: float = 0.1
    """Rate at which an example skips the last block; it rises evenly from 0 in the first."""
    head_dropout: float = 0.0
    """Rate before the classifier."""
    num_classes: int = 1000
    """Classes; 0 is a model without classifier, whose task is feature-extraction."""
    labels: tuple[str, ...] = ()
    """Names of the classes; none where they have none."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "Swin":
        """The module with a head for the task.

        Raises:
            InputError: unknown task, or numbers that do not go together.
        """
        task = check_task("feature-extraction" if not (task or self.num_classes) else task, TASKS)
        check_classes(task, self.num_classes)
        activation(self.activation)
        h, w = grid(self.image_size, self.patch_size)
        if len(self.depths) != len(self.num_heads) or not self.depths:
            raise InputError(
                f"depths {self.depths} and num_heads {self.num_heads} differ in length"
            )
        if min(self.width, self.in_chans, *self.depths, *self.num_heads) < 1:
            raise InputError("width, depths, num_heads and all other sizes must be at least 1")
        for stage, heads in enumerate(self.num_heads):
            if self.width * 2**stage % heads:
                raise InputError(
                    f"{heads} heads do not divide the width {self.width * 2**stage} of stage "
                    f"{stage + 1}"
                )
        if min(n for window in self.windows for n in window) < 1:
            raise InputError(f"windows must be at least 1x1, not {self.window_size}")
        if (masks := h * w * min(h * w, max(p * q for p, q in self.windows))) > MOST:
            raise InputError(
                f"image_size {self.image_size} makes {h}x{w} tokens, and the masks of their "
                f"shifted windows {masks / 2**30:.1f} GiB"
            )
        if int(self.width * self.mlp_ratio) < 1 or self.epsilon <= 0:
            raise InputError("mlp_ratio must leave a feature, and epsilon be above 0")
        if self.global_pool not in POOLS:
            raise InputError(
                f"global_pool is one of {', '.join(map(repr, POOLS))}, not {self.global_pool!r}"
            )
        if task == "image-classification" and not self.global_pool:
            raise InputError("image-classification needs global_pool")
        return Swin(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        shape = (batch, *pair(self.image_size), self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}

    @property
    def windows(self) -> tuple[Pair, ...]:
        """Height and width of the windows of each stage.

        Raises:
            InputError: not as many as stages.
        """
        given: Any = self.window_size
        if isinstance(given, int) or all(isinstance(n, int) for n in given):
            given = (pair(given),) * len(self.depths)
        if len(given) != len(self.depths):
            raise InputError(
                f"{len(given)} windows are not one for each of {len(self.depths)} stages"
            )
        if self.as_transformers:
            return given
        maps = self.maps
        return tuple((min(p, h), min(q, w)) for (p, q), (h, w) in zip(given, maps, strict=True))

    @property
    def maps(self) -> tuple[Pair, ...]:
        """Height and width of the map of each stage, for images of `image_size`."""
        h, w = grid(self.image_size, self.patch_size)
        return tuple((-(-h // 2**stage), -(-w // 2**stage)) for stage in range(len(self.depths)))

    def shift(self, stage: int, size: Pair) -> Pair:
        """By how much every second block of a stage (from 0) shifts a map of that size: half a
        window, and not at all where the map is no larger than a window."""
        p, q = self.windows[stage]
        if self.as_transformers:
            return (0, 0) if min(size) <= p else (p // 2, q // 2)
        h, w = self.maps[stage]
        return 0 if h <= p else p // 2, 0 if w <= q else q // 2


class Swin(nn.Module):
    """Images in, by task:

    - image-classification: logits `[B, C]`;
    - feature-extraction: normalised and pooled features `[B, D]`, or with `global_pool=""` the
      normalised last map `[B, h, w, D]`;
    - feature-pyramid: a tuple of maps `[B, h, w, D]`, of every stage (a quarter of the height and
      width of the image, an eighth, ...), as timm's `features_only` gives.
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
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = jnp.asarray(image, self.dtype)
        check_channels(x, cfg.in_chans)

        patch = pair(cfg.patch_size)
        x = Patches(cfg.width, patch, name="stem", **types)(
            padded(x, patch) if cfg.as_transformers else x
        )
        x = LayerNorm(1e-5, name="stem_norm", **types)(x)
        x = Dropout(cfg.dropout, name="stem_dropout")(x, train)
        maps, number = [], 0
        for stage, depth in enumerate(cfg.depths):
            if stage:
                x = LayerNorm(1e-5, name=f"stage{stage + 1}_norm", **types)(merge_patches(x))
                x = dense(x.shape[-1] // 2, types, f"stage{stage + 1}_halve", use_bias=False)(x)
            for i in range(depth):
                rate = rising_rate(cfg.drop_path, number, sum(cfg.depths))
                name = f"stage{stage + 1}_block{i}"
                x = Block(cfg, stage, i % 2 == 1, rate, name=name, **types)(x, train)
                number += 1
            maps.append(x)
        if self.task == "feature-pyramid":
            return tuple(maps)

        x = global_pool(LayerNorm(cfg.epsilon, name="norm", **types)(x), cfg.global_pool)
        x = Dropout(cfg.head_dropout, name="head_dropout")(x, train)
        if self.task == "feature-extraction":
            return x
        return dense(cfg.num_classes, types, "head")(x)


class Block(nn.Module):
    """Attention within windows, then feed-forward, each of the normalised input and added to it
    (equation 3). Every second block shifts the map by half a window, so that windows overlap.

    Parameters: `attention_norm`, `attention`, `mlp_norm`, `mlp`.
    """

    cfg: Config
    stage: int
    """From 0."""
    shifted: bool
    drop_path: float
    """Rate at which an example skips attention or feed-forward."""
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w D"], train: bool) -> Float[Array, "B h w D"]:
        cfg, (_, h, w, width) = self.cfg, x.shape
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        window = cfg.windows[self.stage]
        if cfg.as_transformers and min(h, w) < min(window):
            raise InputError(
                f"the map of stage {self.stage + 1} is {h}x{w}, smaller than its windows of "
                f"{window[0]}x{window[1]}: the image is too small"
            )
        shift = cfg.shift(self.stage, (h, w)) if self.shifted else (0, 0)

        y = LayerNorm(cfg.epsilon, name="attention_norm", **types)(x)
        y = padded(y, window) if cfg.as_transformers else y
        whole = y.shape[1:3]
        y = padded(jnp.roll(y, (-shift[0], -shift[1]), (1, 2)), window)
        size = (y.shape[1], y.shape[2])
        apart = strangers(size, window, shift) if any(shift) else None
        attend = WindowAttention(
            cfg.num_heads[self.stage], window, cfg.qkv_bias, cfg.attention_dropout,
            name="attention", **types,
        )  # fmt: skip
        y = join(attend(split(y, window), apart, train), window, size)
        y = jnp.roll(y[:, : whole[0], : whole[1]], shift, (1, 2))[:, :h, :w]
        y = Dropout(cfg.dropout, name="attention_dropout")(y, train)
        x = x + StochasticDepth(self.drop_path, name="attention_depth")(y, train)

        y = LayerNorm(cfg.epsilon, name="mlp_norm", **types)(x).reshape(-1, h * w, width)
        hidden = int(width * cfg.mlp_ratio)
        y = FeedForward(hidden, cfg.activation, 0.0, name="mlp", **types)(y, train)
        y = Dropout(cfg.dropout, name="mlp_dropout")(y, train).reshape(x.shape)
        rate = 0.0 if cfg.as_transformers else self.drop_path
        return x + StochasticDepth(rate, name="mlp_depth")(y, train)


def paper(width: int, depths: tuple[int, ...], window_size: int = 7) -> Config:
    """A size of the paper: heads of 32, images of 32 windows."""
    heads = tuple(width // 32 * 2**stage for stage in range(4))
    return Config(32 * window_size, 4, 3, width, depths, heads, window_size)


TINY, DEEP = (2, 2, 6, 2), (2, 2, 18, 2)
"""Blocks of the smallest size, and of the others."""
_PAPER = "arXiv:2103.14030; "
SIZES = {
    "swin_tiny_patch4_window7_224": Size(
        paper(96, TINY), 28_288_354, _PAPER + "timm", "MIT", "ImageNet top-1 81.39"
    ),
    "swin_small_patch4_window7_224": Size(
        paper(96, DEEP), 49_606_258, _PAPER + "torchvision", "MIT", "ImageNet top-1 83.2"
    ),
    "swin_base_patch4_window7_224": Size(
        paper(128, DEEP), 87_768_224, _PAPER + "torchvision", "MIT", "ImageNet top-1 83.5"
    ),
}

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
