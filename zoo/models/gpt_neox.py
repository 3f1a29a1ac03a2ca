"""GPT-NeoX-20B (Black et al., 2022, https://arxiv.org/abs/2204.06745) and Pythia (Biderman et al.,
2023, https://arxiv.org/abs/2304.01373), which is the same in many sizes.

B batch, T tokens, L places that are looked at, D width, H heads, K features of a head, F pairs of
them that positions turn, C classes, V vocabulary.
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
from zoo.nn.activation import activation
from zoo.nn.attention import attention, merge_heads, split_heads
from zoo.nn.cache import Cache, empty_cache, extend, look
from zoo.nn.dense import Dense, Embed
from zoo.nn.dropout import Dropout
from zoo.nn.last_token import last_token
from zoo.nn.norm import LayerNorm
from zoo.nn.positions import check_length

TASKS = ("text-generation", "feature-extraction", "text-classification")
INIT = nn.initializers.normal(0.02)


@dataclass(frozen=True)
class Config:
    """A causal decoder whose layers attend and compute side by side. The defaults are the 20B's."""

    vocab_size: int = 50_432
    """Number of token ids."""
    width: int = 6144
    """Features of a token."""
    depth: int = 44
    """Layers."""
    num_heads: int = 64
    """Attention heads; they divide the width."""
    hidden: int = 24_576
    """Features inside the feed-forward layers."""
    activation: str = "gelu"
    """Of the feed-forward layers."""
    epsilon: float = 1e-5
    """Added to the variance in layer norms."""
    max_length: int = 2048
    """Longest sequence."""
    parallel: bool = True
    """Whether attention and feed-forward layers see the same input, not one the other's output."""
    attention_bias: bool = True
    """Whether queries, keys, values and the attention's output have biases."""
    tied: bool = False
    """Whether the embedding is the output layer too."""
    rotary_part: float = 0.25
    """Part of a head's features that positions turn, the first ones; rounded down, then to pairs
    upwards."""
    rope_base: float = 10_000.0
    """Base of the rotary wavelengths."""
    rope_scaling: str = "default"
    """How wavelengths fit longer texts: "linear factor=4" and the like, see zoo.nn.rotary."""
    attention_dropout: float = 0.0
    """Rate on attention weights."""
    dropout: float = 0.0
    """Rate on the embeddings and on what each sublayer adds."""
    num_classes: int = 2
    """Outputs of the classification head."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "GPTNeoX":
        """The module.

        Raises:
            InputError: unknown task, activation or scaling, or numbers that do not fit.
        """
        task = check_task(task, TASKS)
        activation(self.activation)
        if self.num_heads < 1 or self.width % self.num_heads:
            raise InputError(f"{self.num_heads} heads do not divide a width of {self.width}")
        head_dim = self.width // self.num_heads
        turned = int(head_dim * self.rotary_part)
        if not 0 <= self.rotary_part <= 1 or turned + turned % 2 > head_dim:
            raise InputError(
                f"rotary_part is {self.rotary_part}: positions would turn {turned + turned % 2} of "
                f"a head's {head_dim} features"
            )
        name, _ = rotary.parse(self.rope_scaling)
        if name in ("dynamic", "yarn") and (turned < 4 or turned % 2):
            raise InputError(
                f"rope scaling {name!r} needs an even number of turned features, at least 4; "
                f"rotary_part {self.rotary_part} of a head's {head_dim} gives {turned}"
            )
        return GPTNeoX(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of an example batch."""
        return {"input_ids": jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)}


class GPTNeoX(nn.Module):
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
            train: whether dropout is active; needs ``rngs={"dropout": key}`` where its rate is
                above 0.

        Raises:
            InputError: the sequence is longer than ``max_length``.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        input_ids = jnp.asarray(input_ids)
        mask = None if attention_mask is None else jnp.asarray(attention_mask)
        batch, time = input_ids.shape
        check_length(time, self.cfg.max_length)
        positions, seen, counts = look((batch, time), mask, cache)
        turned = int(cfg.width // cfg.num_heads * cfg.rotary_part)
        rates = rotary.frequencies(turned, cfg.rope_base, cfg.rope_scaling, counts.shape[1])
        turn = rotary.angles(positions, rates, rotary.gain(cfg.rope_scaling))

        embed = Embed(cfg.vocab_size, cfg.width, **types, embedding_init=INIT, name="embed")
        x_BTD = Dropout(cfg.dropout, name="embed_dropout")(embed(input_ids), train)
        keys, values = [], []
        for i in range(cfg.depth):
            layer = Layer(cfg, i, **types, name=f"layer{i}")
            x_BTD, key, value = layer(x_BTD, turn, seen, cache, train)
            keys.append(key)
            values.append(value)
        x_BTD = LayerNorm(cfg.epsilon, **types, name="norm")(x_BTD)

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
        head_dim = cfg.width // cfg.num_heads
        return empty_cache(cfg.depth, batch, cfg.num_heads, length, head_dim, self.dtype)


class Layer(nn.Module):
    """Attention and feed-forward layers side by side, each with a norm of its own (section 2.1.2);
    or, in a few models, one after the other."""

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
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        """Output, and the keys and values of all places."""
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        attend = Attention(cfg, self.index, **types, name="attention")
        normed = LayerNorm(cfg.epsilon, **types, name="norm1")(x)
        y, key, value = attend(normed, turn, seen, cache, train)
        attended = x + Dropout(cfg.dropout, name="dropout1")(y, train)
        normed = LayerNorm(cfg.epsilon, **types, name="norm2")(x if cfg.parallel else attended)
        y = FeedForward(cfg, **types, name="mlp")(normed)
        return attended + Dropout(cfg.dropout, name="dropout2")(y, train), key, value


class Attention(nn.Module):
    """Causal self-attention; positions turn the first features of a head (section 2.1.1)."""

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
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        turned = 2 * turn[0].shape[-1]

        def dense(name: str) -> Dense:
            bias = cfg.attention_bias
            return Dense(cfg.width, use_bias=bias, **types, kernel_init=INIT, name=name)

        def place(x: Float[Array, "B H T K"]) -> Float[Array, "B H T K"]:
            first = rotary.rotate(x[..., :turned], *turn)
            return jnp.concatenate([first, x[..., turned:]], axis=-1)

        query = place(split_heads(dense("query")(x), cfg.num_heads))
        key = place(split_heads(dense("key")(x), cfg.num_heads))
        value = split_heads(dense("value")(x), cfg.num_heads)
        if cache is not None:
            key, value = extend(cache, self.index, key, value)
        drop = Dropout(cfg.attention_dropout, name="weights")
        y_BHTK = attention(query, key, value, seen, lambda weights: drop(weights, train))
        return dense("out")(merge_heads(y_BHTK)), key, value


class FeedForward(nn.Module):
    """Two dense layers with the activation between."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Dense(cfg.hidden, **types, kernel_init=INIT, name="up")(x)
        x = activation(cfg.activation)(x)
        return Dense(cfg.width, **types, kernel_init=INIT, name="down")(x)


_SOURCE = "https://arxiv.org/abs/2304.01373; transformers GPTNeoXForCausalLM"
SIZES = {
    "pythia-70m": Size(Config(50_304, 512, 6, 8, 2048), 70_426_624, _SOURCE, "Apache-2.0"),
    "pythia-410m": Size(Config(50_304, 1024, 24, 16, 4096), 405_334_016, _SOURCE, "Apache-2.0"),
}

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(out|down|head)/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum.
Biases, which not every config has, stay whole."""
