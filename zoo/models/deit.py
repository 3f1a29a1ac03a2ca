"""DeiT: training data-efficient image Transformers and distillation through attention (Touvron et
al., 2020, https://arxiv.org/abs/2012.12877).

A Vision Transformer with a distillation token beside the class token, and a head for each: one
learns the labels, the other a teacher's decisions. DeiT without distillation is a Vision
Transformer (``zoo.models.vit``).

B batch, H W image, I channels, N patches, T = 2 + N tokens, D width, C classes.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from zoo.models.registry import Size, check_task
from zoo.nn.activation import activation
from zoo.nn.dropout import Dropout
from zoo.nn.encoder import PooledOutput, check_heads
from zoo.nn.norm import LayerNorm
from zoo.nn.patches import ImageTokens, grid, pair
from zoo.nn.stochastic_depth import rising_rate
from zoo.nn.vision import EncoderLayer, check_classes, dense

TASKS = ("image-classification", "feature-extraction")
SPECIAL = ("class_token", "distillation_token")


@dataclass(frozen=True)
class Config:
    """Pre-norm encoder of patches and two special tokens, with learned positions."""

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
    """Outputs of each classification head; 0: a model for feature-extraction."""
    distilled: bool = True
    """Whether the distillation token has a head too, as it has unless it was dropped for
    fine-tuning."""
    averaged: bool = True
    """Whether the logits of two heads are averaged; else the result has them apart, which training
    by a teacher needs."""
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
    """Rate before the classifiers."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "DeiT":
        """The module.

        Raises:
            InputError: unknown task or activation, heads that do not divide the width, an image
                without a patch, or classification without classes.
        """
        task = check_task(task or TASKS[not self.num_classes], TASKS)
        check_classes(task, self.num_classes)
        activation(self.activation)
        activation(self.pooler or self.activation)
        check_heads(self.num_heads, self.width)
        grid(self.image_size, self.patch_size)
        return DeiT(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch."""
        shape = (batch, *pair(self.image_size), self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}


@flax.struct.dataclass
class DistilledLogits:
    """What two heads say."""

    logits: Any
    """``[B, C]``, the mean of both."""
    cls_logits: Any
    """``[B, C]``, of the class token."""
    distillation_logits: Any
    """``[B, C]``, of the distillation token."""


class DeiT(nn.Module):
    """Images in; logits, features or tokens out (see ``__call__``)."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[ArrayLike, "B H W I"], train: bool = False
    ) -> Array | DistilledLogits | PooledOutput:
        """Classification: logits ``[B, C]``, the mean of both heads; ``DistilledLogits`` where they
        are not ``averaged``. Feature extraction: the mean ``[B, D]`` of what the heads are given,
        or where there is a pooler the normalised tokens and what it makes of the first
        (``PooledOutput``).

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
            cfg.width, pair(cfg.image_size), pair(cfg.patch_size), cfg.in_chans, SPECIAL,
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
        x_BTD = LayerNorm(cfg.epsilon, **types, name="norm")(x_BTD)

        if self.task == "feature-extraction" and cfg.pooler:
            pooled_BD = dense(cfg.pooler_width or cfg.width, types, "pooler")(x_BTD[:, 0])
            return PooledOutput(x_BTD, activation(cfg.pooler)(pooled_BD))
        outputs: list[Array] = []
        for place, name in enumerate(("head", "distillation_head")[: 1 + cfg.distilled]):
            y_BD = Dropout(cfg.head_dropout, name=f"{name}_dropout")(x_BTD[:, place], train)
            if self.task == "image-classification":
                y_BD = dense(cfg.num_classes, types, name)(y_BD)
            outputs.append(y_BD)
        mean = (outputs[0] + outputs[-1]) / 2  # of one head: its own
        if cfg.averaged or not cfg.distilled or self.task == "feature-extraction":
            return mean
        return DistilledLogits(mean, *outputs)


SIZES = {
    "deit_base_distilled_patch16_224": Size(
        Config(), 87_338_192, "arXiv:2012.12877; timm", "Apache-2.0", "ImageNet top-1 83.4"
    ),
}

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
