"""Mixtral of experts (Jiang et al., 2024, https://arxiv.org/abs/2401.04088): Mistral, but for the
feed-forward layers, of which each token takes a few out of several.

What the router says of each token is the output of ``layer{i}/mlp/router``, logits ``[B, T, X]``:
``zoo.features(model, variables, inputs, "layer*/mlp/router")``, or in a loss
``model.apply(..., capture_intermediates=True, mutable="intermediates")``. A loss that balances the
experts' load is a function of them; the model adds none.

B batch, T tokens, L places that are looked at, D width, H query heads, G key and value heads, K
features of a head, F = K / 2, X experts, C classes, V vocabulary.
"""

from dataclasses import dataclass
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
from zoo.nn.attention import grouped_attention, merge_heads, split_heads
from zoo.nn.cache import Cache, empty_cache, extend, look
from zoo.nn.dense import Dense, Embed
from zoo.nn.dropout import Dropout
from zoo.nn.experts import Experts, Jitter
from zoo.nn.last_token import last_token
from zoo.nn.norm import RMSNorm
from zoo.nn.positions import check_length

TASKS = ("text-generation", "feature-extraction", "text-classification")
INIT = nn.initializers.normal(0.02)


@dataclass(frozen=True)
class Config:
    """A causal decoder of equal layers. The defaults are Mixtral 8x7B's (table 1)."""

    vocab_size: int = 32_000
    """Number of token ids."""
    width: int = 4096
    """Features of a token."""
    depth: int = 32
    """Layers."""
    num_heads: int = 32
    """Query heads."""
    num_kv_heads: int = 8
    """Key and value heads; they divide the query heads."""
    head_dim: int = 128
    """Features of a head, even."""
    hidden: int = 14_336
    """Features inside an expert."""
    num_experts: int = 8
    """Experts of a layer."""
    experts_per_token: int = 2
    """Experts that compute a token."""
    activation: str = "silu"
    """Of the experts' gate."""
    epsilon: float = 1e-5
    """Added to the mean square in the norms."""
    attention_dropout: float = 0.0
    """Rate on attention weights."""
    router_jitter: float = 0.0
    """In training, what router and experts see is scaled by numbers this far around 1."""
    max_length: int = 32_768
    """Longest sequence."""
    window: int | None = None
    """Tokens that a token looks at, itself included; None: all before it."""
    tied: bool = False
    """Whether the embedding is the output layer too."""
    rope_base: float = 1_000_000.0
    """Base of the rotary wavelengths."""
    rope_scaling: str = "default"
    """How wavelengths fit longer texts: "linear factor=4" and the like, see zoo.nn.rotary."""
    num_classes: int = 2
    """Outputs of the classification head."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "Mixtral":
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
        if not 1 <= self.experts_per_token <= self.num_experts:
            raise InputError(
                f"a token takes 1 to {self.num_experts} of {self.num_experts} experts, not "
                f"{self.experts_per_token}"
            )
        if not 0 <= self.router_jitter < 1:
            raise InputError(f"router_jitter is at least 0 and below 1, not {self.router_jitter}")
        rotary.parse(self.rope_scaling)
        return Mixtral(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of an example batch."""
        return {"input_ids": jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)}


class Mixtral(nn.Module):
    """Token ids in. Out: logits ``[B, T, V]`` of the next token, hidden states ``[B, T, D]``
    (feature-extraction), or class logits ``[B, C]`` of the last token that counts."""

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
            train: whether dropout and jitter are active; needs ``rngs={"dropout": key}`` where
                either is above 0.

        Raises:
            InputError: the sequence is longer than ``max_length``.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        input_ids = jnp.asarray(input_ids)
        mask = None if attention_mask is None else jnp.asarray(attention_mask)
        batch, time = input_ids.shape
        check_length(time, self.cfg.max_length)
        positions, seen, counts = look((batch, time), mask, cache, cfg.window)
        rope = (cfg.head_dim, cfg.rope_base, cfg.rope_scaling)
        rates = rotary.frequencies(*rope, length=counts.shape[1])
        turn = rotary.angles(positions, rates, rotary.gain(cfg.rope_scaling))

        embed = Embed(cfg.vocab_size, cfg.width, **types, embedding_init=INIT, name="embed")
        x_BTD = embed(input_ids)
        keys, values = [], []
        for i in range(cfg.depth):
            layer = Layer(cfg, i, **types, name=f"layer{i}")
            x_BTD, key, value = layer(x_BTD, turn, seen, cache, train)
            keys.append(key)
            values.append(value)
        x_BTD = RMSNorm(cfg.epsilon, **types, name="norm")(x_BTD)

        if self.task == "text-classification":
            head = Dense(cfg.num_classes, use_bias=False, **types, kernel_init=INIT, name="head")
            output = head(last_token(x_BTD, mask))
        elif self.task == "feature-extraction":
            output = x_BTD
        elif cfg.tied:
            output = embed.attend(x_BTD)
        else:
            head = Dense(cfg.vocab_size, use_bias=False, **types, kernel_init=INIT, name="head")
            output = head(x_BTD)
        if cache is None:
            return output
        return output, Cache(cache.index + time, counts, tuple(keys), tuple(values))

    def init_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for ``length`` tokens. Dynamic scaling takes its frequencies from it.

        Raises:
            InputError: ``length`` is above the config's ``max_length``.
        """
        cfg = self.cfg
        check_length(length, self.cfg.max_length)
        return empty_cache(cfg.depth, batch, cfg.num_kv_heads, length, cfg.head_dim, self.dtype)


class Layer(nn.Module):
    """Attention, then experts, each of the normalised input and added to it."""

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
        attend = Attention(cfg, self.index, **types, name="attention")
        normed = RMSNorm(cfg.epsilon, **types, name="norm1")(x)
        y, key, value = attend(normed, turn, seen, cache, train)
        x = x + y
        normed = RMSNorm(cfg.epsilon, **types, name="norm2")(x)
        return x + Mixture(cfg, **types, name="mlp")(normed, train), key, value


class Attention(nn.Module):
    """Grouped queries, rotary positions, and a cache of turned keys."""

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
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def project(name: str, heads: int) -> Float[Array, "B heads T K"]:
            features = heads * cfg.head_dim
            dense = Dense(features, use_bias=False, **types, kernel_init=INIT, name=name)
            return split_heads(dense(x), heads)

        query = rotary.rotate(project("query", cfg.num_heads), *turn)
        key = rotary.rotate(project("key", cfg.num_kv_heads), *turn)
        value = project("value", cfg.num_kv_heads)
        if cache is not None:
            key, value = extend(cache, self.index, key, value)
        drop = Dropout(cfg.attention_dropout, name="weights")
        y_BHTK = grouped_attention(query, key, value, seen, lambda weights: drop(weights, train))
        out = Dense(cfg.width, use_bias=False, **types, kernel_init=INIT, name="out")
        return out(merge_heads(y_BHTK)), key, value


class Mixture(nn.Module):
    """A token's best experts, weighted by the softmax of their logits alone (section 2.1). Every
    token is computed by all of its experts, whatever the others take."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], train: bool) -> Float[Array, "B T D"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Jitter(cfg.router_jitter, name="jitter")(x, train)
        router = Dense(cfg.num_experts, use_bias=False, **types, kernel_init=INIT, name="router")
        logits, chosen = jax.lax.top_k(router(x), cfg.experts_per_token)
        weights = softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        size = (cfg.num_experts, cfg.hidden, cfg.activation)
        return Experts(*size, kernel_init=INIT, **types, name="experts")(x, chosen, weights)


SIZES = {
    "Mixtral-8x7B-v0.1": Size(
        Config(), 46_702_792_704, "https://arxiv.org/abs/2401.04088", "Apache-2.0", "MMLU 70.6"
    ),
}

TENSOR_PARALLEL = (
    (r"(query|key|value)/kernel", P(None, "tensor")),
    (r"attention/out/kernel", P("tensor", None)),
    (r"head/kernel", P("tensor", None)),
    (r"experts/(gate|up)/kernel", P(None, None, "tensor")),
    (r"experts/down/kernel", P(None, "tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum;
every device has its part of each expert, so none waits for another's tokens."""
