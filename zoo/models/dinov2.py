"""DINOv2: learning robust visual features without supervision (Oquab et al., 2023,
https://arxiv.org/abs/2304.07193), with the heads of the reference implementation and of timm.

A Vision Transformer whose sublayers are scaled, a feature at a time, before they are added
(LayerScale, Touvron et al., 2021, https://arxiv.org/abs/2103.17239, equation 5), with gated
feed-forward layers in its largest size.

B batch, H W image, I channels, N patches, T = 1 + N tokens, D width, C classes.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.errors import InputError
from zoo.models.registry import Size, check_task
from zoo.nn.activation import activation
from zoo.nn.dropout import Dropout
from zoo.nn.encoder import PooledOutput, check_heads
from zoo.nn.gated import GatedMLP
from zoo.nn.norm import LayerNorm
from zoo.nn.patches import ImageTokens, grid, pair
from zoo.nn.stochastic_depth import StochasticDepth, rising_rate
from zoo.nn.vision import INIT, FeedForward, SelfAttention, check_classes, dense

TASKS = ("feature-extraction", "image-classification")
POOLS = ("both", "token", "avg", "")


@dataclass(frozen=True)
class Config:
    """Pre-norm encoder of patches and a class token, with learned positions."""

    image_size: int | tuple[int, int] = 518
    """Height and width whose positions are learned; those of any other size are resized."""
    patch_size: int | tuple[int, int] = 14
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
    """Features inside the feed-forward layers, 0: four times the width; gated ones have two thirds
    of it, rounded up to a multiple of 8."""
    gated: bool = False
    """Whether the feed-forward layers are gated by ``silu`` (SwiGLU)."""
    activation: str = "gelu"
    """Of the feed-forward layers that are not gated."""
    epsilon: float = 1e-6
    """Of every layer norm."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    layer_scale: float = 1.0
    """What the scales of the sublayers start at."""
    mask_token: bool = True
    """Whether there is a token that stands for hidden patches."""
    num_classes: int = 1000
    """Outputs of the classification head; 0: a model for feature-extraction."""
    global_pool: str = "both"
    """What a classifier looks at: the class token beside the mean of the patches ("both"), or as
    in timm the class "token", the mean of the patches ("avg", normalised after it), or every token
    ("")."""
    antialias: bool = False
    """Whether positions are resized with antialiasing, as timm does it and transformers does not;
    with it the interpolation is another one for larger images too."""
    dropout: float = 0.0
    """Rate on the embedded tokens."""
    attention_dropout: float = 0.0
    """Rate on attention weights."""
    drop_path: float = 0.0
    """Rate at which an example skips a sublayer."""
    rising: bool = False
    """Whether that is the rate of the last layer, which rises evenly from 0 in the first, as in
    timm; else it is the same in all layers."""
    head_dropout: float = 0.0
    """Rate before the classifier."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "DINOv2":
        """The module.

        Raises:
            InputError: unknown task, activation or pooling, heads that do not divide the width, an
                image without a patch, or classification without classes.
        """
        task = check_task(task, TASKS)
        check_classes(task, self.num_classes)
        activation(self.activation)
        check_heads(self.num_heads, self.width)
        grid(self.image_size, self.patch_size)
        if self.global_pool not in POOLS:
            known = ", ".join(map(repr, POOLS))
            raise InputError(f"no global_pool {self.global_pool!r}; there are {known}")
        return DINOv2(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch; hidden patches are left out."""
        shape = (batch, *pair(self.image_size), self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}


class DINOv2(nn.Module):
    """Images in; tokens or logits out (see ``__call__``)."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[ArrayLike, "B H W I"],
        hidden: Bool[ArrayLike, "B N"] | None = None,
        train: bool = False,
    ) -> Array | PooledOutput:
        """Feature extraction: the normalised tokens, and the class token's alone
        (``PooledOutput``); with a pooling of timm's the features ``[B, D]`` or ``[B, T, D]`` that a
        classifier is given. Classification: logits ``[B, C]``, without ``global_pool``
        ``[B, T, C]``.

        Args:
            image: normalised, of any size of at least a patch.
            hidden: True for patches that are replaced by the mask token.
            train: whether dropout and stochastic depth are active; needs
                ``rngs={"dropout": key}``.

        Raises:
            InputError: images without a patch, or of another number of channels; hidden patches
                where there is no mask token.
        """
        cfg = self.cfg
        if hidden is not None and not cfg.mask_token:
            raise InputError("this model has no mask_token to put in the place of hidden patches")
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x_BTD = ImageTokens(
            cfg.width, pair(cfg.image_size), pair(cfg.patch_size), cfg.in_chans, ("class_token",),
            cfg.antialias, mask_token=cfg.mask_token, **types, name="tokens",
        )(jnp.asarray(image), None if hidden is None else jnp.asarray(hidden))  # fmt: skip
        x_BTD = Dropout(cfg.dropout, name="embed_dropout")(x_BTD, train)
        for i in range(cfg.depth):
            drop_path = rising_rate(cfg.drop_path, i, cfg.depth) if cfg.rising else cfg.drop_path
            x_BTD = Layer(cfg, drop_path, **types, name=f"layer{i}")(x_BTD, train)
        norm = LayerNorm(cfg.epsilon, **types, name="norm")
        if cfg.global_pool == "avg":
            features = norm(jnp.mean(x_BTD[:, 1:], axis=1))
        else:
            x_BTD = norm(x_BTD)
            if cfg.global_pool == "both" and self.task == "feature-extraction":
                return PooledOutput(x_BTD, x_BTD[:, 0])
            features = x_BTD if cfg.global_pool == "" else x_BTD[:, 0]
        if cfg.global_pool == "both":
            features = jnp.concatenate([features, jnp.mean(x_BTD[:, 1:], axis=1)], axis=-1)
        features = Dropout(cfg.head_dropout, name="head_dropout")(features, train)
        if self.task == "feature-extraction":
            return features
        return dense(cfg.num_classes, types, "head")(features)


class Layer(nn.Module):
    """Self-attention, then feed-forward, each of the normalised input, scaled and added to it.

    Parameters: ``attention_norm``, ``attention``, ``attention_scale`` ``[D]``, ``mlp_norm``,
    ``mlp``, ``mlp_scale`` ``[D]``.
    """

    cfg: Config
    drop_path: float
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], train: bool) -> Float[Array, "B T D"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def add(y: Float[Array, "B T D"], name: str) -> Float[Array, "B T D"]:
            start = nn.initializers.constant(cfg.layer_scale)
            scale = self.param(f"{name}_scale", start, (cfg.width,), self.param_dtype)
            depth = StochasticDepth(self.drop_path, name=f"{name}_depth")
            return x + depth(y * scale.astype(self.dtype), train)

        y = LayerNorm(cfg.epsilon, **types, name="attention_norm")(x)
        attend = SelfAttention(
            cfg.num_heads, cfg.qkv_bias, cfg.attention_dropout, **types, name="attention"
        )
        x = add(attend(y, None, train), "attention")
        y = LayerNorm(cfg.epsilon, **types, name="mlp_norm")(x)
        hidden = cfg.hidden or 4 * cfg.width
        if cfg.gated:
            return add(
                GatedMLP(gated_features(hidden), "silu", True, INIT, **types, name="mlp")(y), "mlp"
            )
        return add(FeedForward(hidden, cfg.activation, 0.0, **types, name="mlp")(y, train), "mlp")


def gated_features(hidden: int) -> int:
    """Of gated feed-forward layers: two thirds, rounded up to a multiple of 8."""
    return -(-(hidden * 2 // 3) // 8) * 8


SIZES = {
    "dinov2-small": Size(
        Config(width=384, num_heads=6), 22_056_576,
        "arXiv:2304.07193; transformers Dinov2Model", "Apache-2.0", "ImageNet top-1 81.1, linear",
    ),
    "dinov2-base": Size(
        Config(), 86_580_480,
        "arXiv:2304.07193; transformers Dinov2Model", "Apache-2.0", "ImageNet top-1 84.5, linear",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"(query|key|value|gate|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|gate|up)/bias", P("tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
