"""Gemma (Gemma Team, 2024, https://arxiv.org/abs/2403.08295), Gemma 2
(https://arxiv.org/abs/2408.00118) and the text model of Gemma 3 (https://arxiv.org/abs/2503.19786).

B batch, T tokens, L places that are looked at, D width, H query heads, G key and value heads, K
features of a head, F = K / 2, C classes, V vocabulary.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.errors import InputError
from zoo.models.registry import Size, check_task
from zoo.nn import rotary
from zoo.nn.activation import activation, softmax
from zoo.nn.attention import merge_heads, split_heads
from zoo.nn.cache import Cache, empty_cache, extend, look
from zoo.nn.dense import Dense, Embed
from zoo.nn.dropout import Dropout
from zoo.nn.gated import GatedMLP
from zoo.nn.last_token import last_token
from zoo.nn.positions import check_length

TASKS = ("text-generation", "feature-extraction", "text-classification")
INIT = nn.initializers.normal(0.02)


@dataclass(frozen=True)
class Config:
    """A causal decoder. The defaults are those of Gemma's 2B."""

    vocab_size: int = 256_000
    """Number of token ids."""
    width: int = 2048
    """Features of a token."""
    depth: int = 18
    """Layers."""
    num_heads: int = 8
    """Query heads."""
    num_kv_heads: int = 1
    """Key and value heads; they divide the query heads."""
    head_dim: int = 256
    """Features of a head, even."""
    hidden: int = 16_384
    """Features inside the feed-forward layers."""
    activation: str = "gelu_tanh"
    """Of the feed-forward layers' gate."""
    epsilon: float = 1e-6
    """Added to the mean square in the norms."""
    dropout: float = 0.0
    """Rate on attention weights."""
    max_length: int = 8192
    """Longest sequence."""
    attention_bias: bool = False
    """Whether queries, keys, values and the attention's output have biases."""
    query_scale: float = 256.0
    """Products of queries and keys are divided by its square root."""
    post_norm: bool = False
    """Whether each sublayer's output is normalised too (Gemma 2 and 3)."""
    qk_norm: bool = False
    """Whether each head's queries and keys are normalised (Gemma 3)."""
    window: int | None = None
    """Tokens that a token looks at in a local layer, itself included; None: no layer is local."""
    global_layers: tuple[int, ...] = ()
    """Layers, from 0, that look at all tokens in spite of the window."""
    score_cap: float | None = None
    """Bound of attention scores, through tanh (Gemma 2)."""
    logit_cap: float | None = None
    """Bound of next-token logits, through tanh (Gemma 2)."""
    rope_base: float = 10_000.0
    """Base of the rotary wavelengths."""
    rope_scaling: str = "default"
    """How wavelengths fit longer texts: "linear factor=8" and the like, see zoo.nn.rotary."""
    local_rope_base: float | None = None
    """Base of local layers, not scaled (Gemma 3); None: as the other layers'."""
    num_classes: int = 2
    """Outputs of the classification head."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "Gemma":
        """The module.

        Raises:
            InputError: unknown task, activation or scaling, or numbers that do not fit.
        """
        task = check_task(task, TASKS)
        activation(self.activation)
        if min(self.num_heads, self.num_kv_heads) < 1 or self.num_heads % self.num_kv_heads:
            raise InputError(
                f"{self.num_kv_heads} key and value heads do not divide {self.num_heads} heads"
            )
        if self.head_dim < 2 or self.head_dim % 2:
            raise InputError(f"rotary positions need an even head_dim, not {self.head_dim}")
        if self.window is not None and self.window < 1:
            raise InputError(f"a window holds at least 1 token, not {self.window}")
        if outside := [i for i in self.global_layers if not 0 <= i < self.depth]:
            raise InputError(f"global_layers names {outside}; layers are 0 to {self.depth - 1}")
        rotary.parse(self.rope_scaling)
        return Gemma(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of an example batch."""
        ids = jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)
        return {"input_ids": ids}


class Gemma(nn.Module):
    """Token ids in. Out: logits ``[B, T, V]`` of the next token, hidden states ``[B, T, D]``
    (feature-extraction), or class logits ``[B, C]`` of the last token that counts. The embedding,
    times ``sqrt(D)``, is the output layer too."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        input_ids: Int[ArrayLike, "B T"],
        attention_mask: Int[ArrayLike, "B T"] | None = None,
        cache: Cache | None = None,
        train: bool = False,
    ) -> Array | tuple[Array, Cache]:
        """The task's output; with a cache ``(output, cache)``.

        Args:
            input_ids: tokens; with a cache those that follow the ones seen.
            attention_mask: 0 at padding, on whichever side.
            cache: from ``init_cache``, or of the call before, with room for the tokens.
            train: whether dropout, where there is some, is active; needs ``rngs={"dropout": key}``.

        Raises:
            InputError: the sequence is longer than ``max_length``.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        input_ids = jnp.asarray(input_ids)
        mask = None if attention_mask is None else jnp.asarray(attention_mask)
        batch, time = input_ids.shape
        check_length(time, self.cfg.max_length)
        positions, everything, counts = look((batch, time), mask, cache)
        nearby = look((batch, time), mask, cache, cfg.window)[1]

        def turn(base: float, scaling: str) -> tuple[Array, Array]:
            rates = rotary.frequencies(cfg.head_dim, base, scaling, counts.shape[1])
            return rotary.angles(positions, rates, rotary.gain(scaling))

        far = turn(cfg.rope_base, cfg.rope_scaling), everything
        near = (turn(cfg.local_rope_base, "default") if cfg.local_rope_base else far[0]), nearby
        embed = Embed(cfg.vocab_size, cfg.width, **types, embedding_init=INIT, name="embed")
        # The factor is rounded to the compute dtype, as where the checkpoints were trained.
        x_BTD = embed(input_ids) * jnp.asarray(math.sqrt(cfg.width), self.dtype)
        keys, values = [], []
        for i in range(cfg.depth):
            turns, seen = far if cfg.window is None or i in cfg.global_layers else near
            layer = Layer(cfg, i, **types, name=f"layer{i}")
            x_BTD, key, value = layer(x_BTD, turns, seen, cache, train)
            keys.append(key)
            values.append(value)
        x_BTD = CentredRMSNorm(cfg.epsilon, **types, name="norm")(x_BTD)

        if self.task == "text-classification":
            head = Dense(cfg.num_classes, use_bias=False, **types, kernel_init=INIT, name="head")
            output = head(last_token(x_BTD, mask))
        elif self.task == "feature-extraction":
            output = x_BTD
        else:
            output = _cap(embed.attend(x_BTD), cfg.logit_cap)
        if cache is None:
            return output
        return output, Cache(cache.index + time, counts, tuple(keys), tuple(values))

    def init_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for ``length`` tokens.

        Raises:
            InputError: ``length`` is above the config's ``max_length``.
        """
        cfg = self.cfg
        check_length(length, self.cfg.max_length)
        return empty_cache(cfg.depth, batch, cfg.num_kv_heads, length, cfg.head_dim, self.dtype)


class Layer(nn.Module):
    """Attention, then feed-forward, each of the normalised input and added to it."""

    cfg: Config
    index: int
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        turn: tuple[Float[Array, "B T F"], Float[Array, "B T F"]],
        seen: Bool[Array, "B 1 T L"],
        cache: Cache | None,
        train: bool,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B G L K"], Float[Array, "B G L K"]]:
        """Output, and the keys and values of all places."""
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def norm(name: str) -> CentredRMSNorm:
            return CentredRMSNorm(cfg.epsilon, **types, name=name)

        attend = Attention(cfg, self.index, **types, name="attention")
        y, key, value = attend(norm("norm1")(x), turn, seen, cache, train)
        x = x + (norm("post_norm1")(y) if cfg.post_norm else y)
        mlp = GatedMLP(cfg.hidden, cfg.activation, False, INIT, **types, name="mlp")
        y = mlp(norm("norm2")(x))
        return x + (norm("post_norm2")(y) if cfg.post_norm else y), key, value


class Attention(nn.Module):
    """Grouped queries, rotary positions, bounded scores, and a cache of turned keys."""

    cfg: Config
    index: int
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        turn: tuple[Float[Array, "B T F"], Float[Array, "B T F"]],
        seen: Bool[Array, "B 1 T L"],
        cache: Cache | None,
        train: bool,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B G L K"], Float[Array, "B G L K"]]:
        cfg, (batch, time) = self.cfg, x.shape[:2]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def dense(name: str, features: int) -> Dense:
            bias = cfg.attention_bias
            return Dense(features, use_bias=bias, **types, kernel_init=INIT, name=name)

        def project(name: str, heads: int) -> Float[Array, "B heads T K"]:
            return split_heads(dense(name, heads * cfg.head_dim)(x), heads)

        q_BHTK = project("query", cfg.num_heads)
        k_BGTK = project("key", cfg.num_kv_heads)
        v_BGTK = project("value", cfg.num_kv_heads)
        if cfg.qk_norm:
            q_BHTK = CentredRMSNorm(cfg.epsilon, **types, name="query_norm")(q_BHTK)
            k_BGTK = CentredRMSNorm(cfg.epsilon, **types, name="key_norm")(k_BGTK)
        q_BHTK, key, value = rotary.rotate(q_BHTK, *turn), rotary.rotate(k_BGTK, *turn), v_BGTK
        if cache is not None:
            key, value = extend(cache, self.index, key, value)
        q_BGRTK = q_BHTK.reshape(batch, cfg.num_kv_heads, -1, time, cfg.head_dim)
        scores = jnp.einsum("bgrtk,bglk->bgrtl", q_BGRTK * cfg.query_scale**-0.5, key)
        w = softmax(_cap(scores, cfg.score_cap), where=seen[:, :, None])
        w_BHTL = Dropout(cfg.dropout, name="weights")(w.reshape(*q_BHTK.shape[:3], -1), train)
        y_BGRTK = jnp.einsum("bgrtl,bglk->bgrtk", w_BHTL.reshape(scores.shape), value)
        return dense("out", cfg.width)(merge_heads(y_BGRTK.reshape(q_BHTK.shape))), key, value


class CentredRMSNorm(nn.Module):
    """Root mean square 1, then times ``1 + scale``: weight decay pulls towards the identity."""

    epsilon: float
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead D"]:
        scale = self.param("scale", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        y = wide * jax.lax.rsqrt(square + self.epsilon)
        return (y * (1 + scale.astype(wide.dtype))).astype(self.dtype)


def _cap(x: Float[Array, "*s"], bound: float | None) -> Float[Array, "*s"]:
    return x if bound is None else bound * jnp.tanh(x / bound)


GEMMA2 = Config(
    width=2304, depth=26, num_kv_heads=4, hidden=9216, post_norm=True, window=4096,
    global_layers=tuple(range(1, 26, 2)), score_cap=50.0, logit_cap=30.0,
)  # fmt: skip
SIZES = {
    "gemma-2b": Size(Config(), 2_506_172_416, "arXiv:2403.08295", "Gemma", "MMLU 42.3"),
    "gemma-2-2b": Size(GEMMA2, 2_614_341_888, "arXiv:2408.00118", "Gemma", "MMLU 52.2"),
    "gemma-3-1b-pt": Size(
        replace(GEMMA2, vocab_size=262_144, width=1152, num_heads=4, num_kv_heads=1, hidden=6912,
                max_length=32_768, qk_norm=True, window=512, global_layers=(5, 11, 17, 23),
                score_cap=None, logit_cap=None, rope_base=1_000_000.0, local_rope_base=10_000.0),
        999_885_952, "arXiv:2503.19786", "Gemma",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"(query|key|value|gate|up)/kernel", P(None, "tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, one sum for a sublayer."""
