"""CLIP: learning transferable visual models from natural language supervision (Radford et al.,
2021, https://arxiv.org/abs/2103.00020), the towers that are Transformers, with the heads of the
reference implementation.

A picture and a text become one vector each, by a tower and a projection of its own, and are
compared by the cosine of the angle between the vectors, times a scale that is learned (figure 3).

B pictures, M texts, H W image, I channels, T tokens, D width of a tower, E width of what both
towers are projected to, C classes.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from zoo.errors import InputError
from zoo.models.registry import Size, check_task
from zoo.nn.activation import activation
from zoo.nn.attention import causal_mask, padding_mask
from zoo.nn.dense import Embed
from zoo.nn.encoder import PooledOutput, check_heads
from zoo.nn.norm import LayerNorm
from zoo.nn.patches import ImageTokens, grid, pair
from zoo.nn.positions import check_length
from zoo.nn.vision import INIT, EncoderLayer, check_classes, dense

TASKS = (
    "zero-shot-image-classification", "image-feature-extraction", "text-feature-extraction",
    "image-encoder", "text-encoder", "image-classification",
)  # fmt: skip
NEEDS = {
    "zero-shot-image-classification": ("image", "input_ids"),
    "text-feature-extraction": ("input_ids",),
    "text-encoder": ("input_ids",),
}
"""What each task looks at; the others look at the image."""


@dataclass(frozen=True)
class Config:
    """Two pre-norm Transformers, of patches and of tokens, with learned positions."""

    image_size: int | tuple[int, int] = 224
    """Height and width whose positions are learned; those of any other size are resized."""
    patch_size: int | tuple[int, int] = 32
    """Height and width of a patch."""
    in_chans: int = 3
    """Channels of the images."""
    vision_width: int = 768
    """Features of a patch."""
    vision_depth: int = 12
    """Layers of the vision tower."""
    vision_num_heads: int = 12
    """Attention heads of the vision tower; they divide its width."""
    vision_hidden: int = 3072
    """Features inside the feed-forward layers of the vision tower."""
    vision_activation: str = "quick_gelu"
    """Of the feed-forward layers of the vision tower."""
    vision_epsilon: float = 1e-5
    """Of every layer norm of the vision tower."""
    vision_attention_dropout: float = 0.0
    """Rate on attention weights of the vision tower."""
    vocab_size: int = 49_408
    """Number of token ids."""
    max_length: int = 77
    """Longest text: rows of its position table."""
    eos_token_id: int | None = None
    """The token whose first occurrence stands for a text; None: that of the largest id."""
    text_width: int = 512
    """Features of a token."""
    text_depth: int = 12
    """Layers of the text tower."""
    text_num_heads: int = 8
    """Attention heads of the text tower; they divide its width."""
    text_hidden: int = 2048
    """Features inside the feed-forward layers of the text tower."""
    text_activation: str = "quick_gelu"
    """Of the feed-forward layers of the text tower."""
    text_epsilon: float = 1e-5
    """Of every layer norm of the text tower."""
    text_attention_dropout: float = 0.0
    """Rate on attention weights of the text tower."""
    projection_width: int = 512
    """Features that both towers are projected to."""
    logit_scale: float = 2.6592
    """What the logarithm of the scale of the cosines starts at."""
    num_classes: int = 1000
    """Outputs of the classification head."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "CLIP":
        """The module.

        Raises:
            InputError: unknown task or activation, heads that do not divide a width, an image
                without a patch, or classification without classes.
        """
        task = check_task(task, TASKS)
        check_classes(task, self.num_classes)
        for name in (self.vision_activation, self.text_activation):
            activation(name)
        check_heads(self.vision_num_heads, self.vision_width)
        check_heads(self.text_num_heads, self.text_width)
        grid(self.image_size, self.patch_size)
        return CLIP(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch: as many texts as pictures."""
        shape = (batch, *pair(self.image_size), self.in_chans)
        ids = jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)
        image = jax.ShapeDtypeStruct(shape, jnp.float32)
        return {"image": image, "input_ids": ids, "attention_mask": ids}


@flax.struct.dataclass
class Similarity:
    """Of pictures and texts."""

    logits_per_image: Any
    """``[B, M]``: of each picture the cosine with each text, scaled."""
    logits_per_text: Any
    """``[M, B]``: the same, turned."""
    text_embeds: Any
    """``[M, E]``, of length 1."""
    image_embeds: Any
    """``[B, E]``, of length 1."""
    logit_scale: Any
    """``[]``: what the cosines are multiplied by, in at least float32."""


class CLIP(nn.Module):
    """Pictures or texts in, or both; what the task asks for out (see ``__call__``)."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[ArrayLike, "B H W I"] | None = None,
        input_ids: Int[ArrayLike, "M T"] | None = None,
        attention_mask: Int[ArrayLike, "M T"] | None = None,
        train: bool = False,
    ) -> Array | PooledOutput | Similarity:
        """``Similarity`` of every picture and text; or the projected features of pictures or of
        texts ``[B, E]``, of any length; or what an encoder gives before the projection
        (``PooledOutput``: of pictures the class token, normalised, of texts the last token); or
        class logits ``[B, C]`` of the mean of the patches. What the task does not need is not
        looked at.

        Args:
            image: normalised, of any size of at least a patch.
            input_ids: tokens of texts, each ended as ``eos_token_id`` says.
            attention_mask: 0 at padding.
            train: whether dropout is active; needs ``rngs={"dropout": key}``.

        Raises:
            InputError: an input that the task needs is not there; images without a patch, or of
                another number of channels; texts longer than ``max_length``.
        """
        cfg, given = self.cfg, {"image": image, "input_ids": input_ids}
        needs = NEEDS.get(self.task, ("image",))
        if missing := [name for name in needs if given[name] is None]:
            raise InputError(f"{self.task} needs {' and '.join(missing)}; give it by that name")
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        seen: Any = None
        read: Any = None
        if "image" in needs:
            classify = self.task == "image-classification"
            seen = VisionTower(cfg, not classify, **types, name="vision")(jnp.asarray(image), train)
        if "input_ids" in needs:
            mask = None if attention_mask is None else jnp.asarray(attention_mask)
            read = TextTower(cfg, **types, name="text")(jnp.asarray(input_ids), mask, train)
        if self.task.endswith("encoder"):
            return seen or read
        if self.task == "image-classification":
            features_BD = jnp.mean(seen.last_hidden_state[:, 1:], axis=1)
            return dense(cfg.num_classes, types, "head")(features_BD)

        def project(pooled: PooledOutput, name: str) -> Any:
            return dense(cfg.projection_width, types, name, False)(pooled.pooler_output)

        if self.task == "image-feature-extraction":
            return project(seen, "image_projection")
        if self.task == "text-feature-extraction":
            return project(read, "text_projection")
        image_BE = unit(project(seen, "image_projection"))
        text_ME = unit(project(read, "text_projection"))
        start = nn.initializers.constant(cfg.logit_scale)
        scale = jnp.exp(_wide(self.param("logit_scale", start, (), self.param_dtype)))
        logits_MB = (_wide(text_ME @ image_BE.T) * scale).astype(self.dtype)
        return Similarity(logits_MB.T, logits_MB, text_ME, image_BE, scale)


class VisionTower(nn.Module):
    """A Vision Transformer with one more norm, of the embedded patches (section 2.4).

    Parameters: ``tokens``, ``pre_norm``, ``layer0``, ..., and ``norm`` where ``pooled``.
    """

    cfg: Config
    pooled: bool
    """Whether the class token is looked at."""
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, image: Float[Array, "B H W I"], train: bool) -> PooledOutput:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x_BTD = ImageTokens(
            cfg.vision_width, pair(cfg.image_size), pair(cfg.patch_size), cfg.in_chans,
            ("class_token",), antialias=False, use_bias=False, **types, name="tokens",
        )(image)  # fmt: skip
        x_BTD = LayerNorm(cfg.vision_epsilon, **types, name="pre_norm")(x_BTD)
        for i in range(cfg.vision_depth):
            layer = EncoderLayer(
                cfg.vision_num_heads, cfg.vision_hidden, cfg.vision_activation,
                cfg.vision_epsilon, qkv_bias=True, attention_dropout=cfg.vision_attention_dropout,
                mlp_dropout=0.0, dropout=0.0, stochastic_depth=0.0, **types, name=f"layer{i}",
            )  # fmt: skip
            x_BTD = layer(x_BTD, train)
        norm = LayerNorm(cfg.vision_epsilon, **types, name="norm")
        return PooledOutput(x_BTD, norm(x_BTD[:, 0]) if self.pooled else None)


class TextTower(nn.Module):
    """A causal Transformer, whose last token stands for the text (section 2.4).

    Parameters: ``embed``, ``positions`` ``[max_length, D]``, ``layer0``, ..., ``norm``.
    """

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self, ids: Int[Array, "M T"], mask: Int[Array, "M T"] | None, train: bool
    ) -> PooledOutput:
        cfg, length = self.cfg, ids.shape[1]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        check_length(length, cfg.max_length)
        embed = Embed(cfg.vocab_size, cfg.text_width, **types, embedding_init=INIT, name="embed")
        shape = (cfg.max_length, cfg.text_width)
        positions = self.param("positions", INIT, shape, self.param_dtype)
        x_MTD = embed(ids) + positions[:length].astype(self.dtype)
        visible = causal_mask(length, length)
        if mask is not None:
            visible = visible & padding_mask(mask)
        for i in range(cfg.text_depth):
            layer = EncoderLayer(
                cfg.text_num_heads, cfg.text_hidden, cfg.text_activation, cfg.text_epsilon,
                qkv_bias=True, attention_dropout=cfg.text_attention_dropout, mlp_dropout=0.0,
                dropout=0.0, stochastic_depth=0.0, **types, name=f"layer{i}",
            )  # fmt: skip
            x_MTD = layer(x_MTD, train, visible)
        x_MTD = LayerNorm(cfg.text_epsilon, **types, name="norm")(x_MTD)
        ends = ids if cfg.eos_token_id is None else ids == cfg.eos_token_id
        last_M = jnp.argmax(ends, axis=1)
        return PooledOutput(x_MTD, x_MTD[jnp.arange(len(ids)), last_M])


def unit(x: Float[Array, "B E"]) -> Float[Array, "B E"]:
    """Vectors of length 1 in the same directions; the length is computed in at least float32."""
    wide = _wide(x)
    return (wide / jnp.sqrt(jnp.sum(wide * wide, axis=-1, keepdims=True))).astype(x.dtype)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


_LARGE = Config(
    patch_size=14, vision_width=1024, vision_depth=24, vision_num_heads=16, vision_hidden=4096,
    text_width=768, text_num_heads=12, text_hidden=3072, projection_width=768,
)  # fmt: skip
_PAPER = "arXiv:2103.00020; transformers CLIPModel"
SIZES = {
    "clip-vit-base-patch32": Size(
        Config(), 151_277_313, _PAPER, "MIT", "ImageNet zero-shot top-1 63.2"
    ),
    "clip-vit-base-patch16": Size(
        Config(patch_size=16), None, _PAPER, "MIT", "ImageNet zero-shot top-1 68.6"
    ),
    "clip-vit-large-patch14": Size(_LARGE, None, _PAPER, "MIT", "ImageNet zero-shot top-1 75.3"),
}

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
