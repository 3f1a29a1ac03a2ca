"""Vision Transformer: an image is worth 16x16 words (Dosovitskiy et al., 2020,
https://arxiv.org/abs/2010.11929), in timm's sizes, with the heads of timm and transformers.

B batch, H W image, I channels, N patches, T = 1 + N tokens, D width, C classes.
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
from zoo.nn.encoder import PooledOutput, check_heads
from zoo.nn.norm import LayerNorm
from zoo.nn.patches import ImageTokens, grid, pair
from zoo.nn.stochastic_depth import rising_rate
from zoo.nn.vision import EncoderLayer, check_classes, dense

TASKS = ("image-classification", "feature-extraction")
POOLS = ("token", "avg", "")


@dataclass(frozen=True)
class Config:
    """Pre-norm encoder of patches and a class token, with learned positions."""

    image_size: int | tuple[int, int] = 224
    """Height and width whose positions are learned; those of any other size are resized."""
    patch_size: int | tuple[int, int] = 16
    """Height and width of a patch."""
    in_chans: int = 3
    """Channels of the images."""
    width: int = 768
    """Features of a token."""
    depth: int = 12
    """Layers."""
    num_heads: int = 12
    """Attention heads; they divide the width."""
    hidden: int = 0
    """Features inside the feed-forward layers; 0: four times the width."""
    activation: str = "gelu"
    """Of the feed-forward layers."""
    epsilon: float = 1e-6
    """Of every layer norm."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    num_classes: int = 1000
    """Outputs of the classification head; 0: a model for feature-extraction."""
    global_pool: str = "token"
    """What a classifier looks at: the class "token", the mean of the patches ("avg", normalised
    after it), or every token ("")."""
    pooler: str = ""
    """Activation of feature extraction's pooler, a dense layer on the class token; "": none, and
    the features are those that a classifier is given."""
    pooler_width: int = 0
    """Outputs of the pooler; 0: as many as the width."""
    antialias: bool = True
    """Whether positions are resized with antialiasing, as timm does it and transformers does not;
    with it the interpolation is another one for larger images too."""
    embed_dropout: float = 0.0
    """Rate on the embedded tokens."""
    dropout: float = 0.0
    """Rate on what attention and feed-forward layers add."""
    attention_dropout: float = 0.0
    """Rate on attention weights."""
    mlp_dropout: float = 0.0
    """Rate after the activation of the feed-forward layers."""
    drop_path: float = 0.0
    """Rate at which an example skips the last layer; it rises evenly from 0 in the first."""
    head_dropout: float = 0.0
    """Rate before the classifier."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "ViT":
        """The module.

        Raises:
            InputError: unknown task, activation or pooling, heads that do not divide the width, an
                image without a patch, or classification without classes.
        """
        task = check_task(task or TASKS[not self.num_classes], TASKS)
        check_classes(task, self.num_classes)
        activation(self.activation)
        activation(self.pooler or self.activation)
        check_heads(self.num_heads, self.width)
        grid(self.image_size, self.patch_size)
        if self.global_pool not in POOLS:
            raise InputError(f"no global_pool {self.global_pool!r}; there are 'token', 'avg', ''")
        return ViT(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch."""
        shape = (batch, *pair(self.image_size), self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}


class ViT(nn.Module):
    """Images in; logits, features or tokens out (see ``__call__``)."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[ArrayLike, "B H W I"], train: bool = False
    ) -> Array | PooledOutput:
        """Classification: logits ``[B, C]``, without ``global_pool`` ``[B, T, C]``. Feature
        extraction: the features ``[B, D]`` or ``[B, T, D]`` that a classifier is given, or where
        there is a pooler the normalised tokens and what it makes of the first (``PooledOutput``).

        Args:
            image: normalised, of any size of at least a patch.
            train: whether dropout and stochastic depth are active; needs
                ``rngs={"dropout": key}``.

        Raises:
            InputError: images without a patch, or of another number of channels.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x_BTD = ImageTokens(
            cfg.width, pair(cfg.image_size), pair(cfg.patch_size), cfg.in_chans, ("class_token",),
            cfg.antialias, **types, name="tokens",
        )(jnp.asarray(image))  # fmt: skip
        x_BTD = Dropout(cfg.embed_dropout, name="embed_dropout")(x_BTD, train)
        for i in range(cfg.depth):
            layer = EncoderLayer(
                cfg.num_heads, cfg.hidden or 4 * cfg.width, cfg.activation, cfg.epsilon,
                cfg.qkv_bias, cfg.attention_dropout, cfg.mlp_dropout, cfg.dropout,
                rising_rate(cfg.drop_path, i, cfg.depth), **types, name=f"layer{i}",
            )  # fmt: skip
            x_BTD = layer(x_BTD, train)

        norm = LayerNorm(cfg.epsilon, **types, name="norm")
        if self.task == "feature-extraction" and cfg.pooler:
            x_BTD = norm(x_BTD)
            pooled_BD = dense(cfg.pooler_width or cfg.width, types, "pooler")(x_BTD[:, 0])
            return PooledOutput(x_BTD, activation(cfg.pooler)(pooled_BD))
        if cfg.global_pool == "avg":
            features = norm(jnp.mean(x_BTD[:, 1:], axis=1))
        else:
            features = norm(x_BTD[:, 0] if cfg.global_pool == "token" else x_BTD)
        features = Dropout(cfg.head_dropout, name="head_dropout")(features, train)
        if self.task == "feature-extraction":
            return features
        return dense(cfg.num_classes, types, "head")(features)


def _of(width: int, depth: int, patch_size: int = 16) -> Config:
    """A size of the paper or of DeiT: heads of 64."""
    return Config(patch_size=patch_size, width=width, depth=depth, num_heads=width // 64)


_PAPER = "arXiv:2010.11929; timm"
SIZES = {
    "vit_tiny_patch16_224": Size(
        _of(192, 12), 5_717_416, _PAPER, "Apache-2.0", "ImageNet top-1 75.45"
    ),
    "vit_small_patch16_224": Size(
        _of(384, 12), 22_050_664, _PAPER, "Apache-2.0", "ImageNet top-1 81.40"
    ),
    "vit_base_patch16_224": Size(
        _of(768, 12), 86_567_656, _PAPER, "Apache-2.0", "ImageNet top-1 84.53"
    ),
    "vit_base_patch32_224": Size(
        _of(768, 12, 32), 88_224_232, "arXiv:2010.11929; torchvision's vit_b_32", "Apache-2.0"
    ),
    "vit_large_patch16_224": Size(
        _of(1024, 24), 304_326_632, "arXiv:2010.11929; torchvision's vit_l_16", "Apache-2.0"
    ),
    "vit_large_patch32_224": Size(
        _of(1024, 24, 32), 306_535_400, "arXiv:2010.11929; torchvision's vit_l_32", "Apache-2.0"
    ),
}

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
