"""Llama (Touvron et al., 2023, https://arxiv.org/abs/2302.13971; Llama 2:
https://arxiv.org/abs/2307.09288; Llama 3: https://arxiv.org/abs/2407.21783) and the decoders that
are Llama but for a number or two: Mistral (https://arxiv.org/abs/2310.06825) looks back through a
window, Qwen2 (https://arxiv.org/abs/2407.10671) has biases on queries, keys and values, Qwen3
(https://arxiv.org/abs/2505.09388) norms on queries and keys, SmolLM2
(https://arxiv.org/abs/2502.02737) is a small Llama.

B batch, T tokens, L places that are looked at, D width, H query heads, G key and value heads, K
features of a head, F = K / 2, C classes, V vocabulary.
"""

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
from zoo.nn.activation import activation
from zoo.nn.attention import grouped_attention, merge_heads, split_heads
from zoo.nn.cache import Cache, empty_cache, extend, look
from zoo.nn.dense import Dense, Embed
from zoo.nn.dropout import Dropout
from zoo.nn.gated import GatedMLP
from zoo.nn.last_token import last_token
from zoo.nn.norm import RMSNorm
from zoo.nn.positions import check_length

TASKS = ("text-generation", "feature-extraction", "text-classification")
INIT = nn.initializers.normal(0.02)


@dataclass(frozen=True)
class Config:
    """A causal decoder of equal layers. The defaults are Llama 2's."""

    vocab_size: int = 32_000
    """Number of token ids."""
    width: int = 4096
    """Features of a token."""
    depth: int = 32
    """Layers."""
    num_heads: int = 32
    """Query heads."""
    num_kv_heads: int = 32
    """Key and value heads; they divide the query heads."""
    head_dim: int = 128
    """Features of a head, even."""
    hidden: int = 11_008
    """Features inside the feed-forward layers."""
    activation: str = "silu"
    """Of the feed-forward layers' gate."""
    epsilon: float = 1e-5
    """Added to the mean square in the norms."""
    dropout: float = 0.0
    """Rate on attention weights."""
    max_length: int = 4096
    """Longest sequence."""
    window: int | None = None
    """Tokens that a token looks at, itself included; None: all before it."""
    full_layers: tuple[int, ...] = ()
    """Layers, from 0, that look at all tokens in spite of the window."""
    qkv_bias: bool = False
    """Whether queries, keys and values have biases."""
    out_bias: bool = False
    """Whether the attention's output has a bias."""
    mlp_bias: bool = False
    """Whether the feed-forward layers have biases."""
    qk_norm: bool = False
    """Whether each head's queries and keys are normalised."""
    tied: bool = False
    """Whether the embedding is the output layer too."""
    rope_base: float = 10_000.0
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
    ) -> "Llama":
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
        if outside := [i for i in self.full_layers if not 0 <= i < self.depth]:
            raise InputError(f"full_layers names {outside}; layers are 0 to {self.depth - 1}")
        rotary.parse(self.rope_scaling)
        return Llama(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of an example batch."""
        ids = jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)
        return {"input_ids": ids}


class Llama(nn.Module):
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
        positions, everything, counts = look((batch, time), mask, cache)
        nearby = look((batch, time), mask, cache, cfg.window)[1]
        rope = (cfg.head_dim, cfg.rope_base, cfg.rope_scaling)
        rates = rotary.frequencies(*rope, length=counts.shape[1])
        turn = rotary.angles(positions, rates, rotary.gain(cfg.rope_scaling))

        embed = Embed(cfg.vocab_size, cfg.width, **types, embedding_init=INIT, name="embed")
        x_BTD = embed(input_ids)
        keys, values = [], []
        for i in range(cfg.depth):
            seen = everything if i in cfg.full_layers else nearby
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
        attend = Attention(cfg, self.index, **types, name="attention")
        normed = RMSNorm(cfg.epsilon, **types, name="norm1")(x)
        y, key, value = attend(normed, turn, seen, cache, train)
        x = x + y
        normed = RMSNorm(cfg.epsilon, **types, name="norm2")(x)
        mlp = GatedMLP(cfg.hidden, cfg.activation, cfg.mlp_bias, INIT, **types, name="mlp")
        return x + mlp(normed), key, value


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
            dense = Dense(features, use_bias=cfg.qkv_bias, **types, kernel_init=INIT, name=name)
            return split_heads(dense(x), heads)

        q_BHTK = project("query", cfg.num_heads)
        k_BGTK = project("key", cfg.num_kv_heads)
        v_BGTK = project("value", cfg.num_kv_heads)
        if cfg.qk_norm:
            q_BHTK = RMSNorm(cfg.epsilon, **types, name="query_norm")(q_BHTK)
            k_BGTK = RMSNorm(cfg.epsilon, **types, name="key_norm")(k_BGTK)
        q_BHTK, k_BGTK = rotary.rotate(q_BHTK, *turn), rotary.rotate(k_BGTK, *turn)
        key, value = k_BGTK, v_BGTK
        if cache is not None:
            key, value = extend(cache, self.index, k_BGTK, v_BGTK)
        drop = Dropout(cfg.dropout, name="weights")
        y_BHTK = grouped_attention(q_BHTK, key, value, seen, lambda weights: drop(weights, train))
        out = Dense(cfg.width, use_bias=cfg.out_bias, **types, kernel_init=INIT, name="out")
        return out(merge_heads(y_BHTK)), key, value


LLAMA3 = Config(128_256, num_kv_heads=8, hidden=14_336, max_length=8192, rope_base=500_000.0)
QWEN2 = Config(
    151_936, 896, 24, 14, 2, 64, 4864, epsilon=1e-6, max_length=32_768, qkv_bias=True, tied=True,
    rope_base=1_000_000.0,
)  # fmt: skip
_ARXIV = "https://arxiv.org/abs/"
SIZES = {
    "Llama-2-7b": Size(Config(), 6_738_415_616, _ARXIV + "2307.09288", "Llama 2", "MMLU 45.3"),
    "Meta-Llama-3-8B": Size(LLAMA3, 8_030_261_248, _ARXIV + "2407.21783", "Llama 3", "MMLU 66.6"),
    "Llama-3.2-1B": Size(
        replace(LLAMA3, width=2048, depth=16, head_dim=64, hidden=8192, max_length=131_072,
                tied=True, rope_scaling="llama3 factor=32 trained=8192 low=1 high=4"),
        1_235_814_400, "transformers LlamaForCausalLM", "Llama 3.2", "MMLU 32.2",
    ),
    "SmolLM2-135M": Size(
        Config(49_152, 576, 30, 9, 3, 64, 1536, max_length=8192, tied=True, rope_base=100_000.0),
        134_515_008, _ARXIV + "2502.02737", "Apache-2.0", "HellaSwag 42.1",
    ),
    "Mistral-7B-v0.1": Size(
        Config(num_kv_heads=8, hidden=14_336, max_length=32_768, window=4096),
        7_241_732_096, _ARXIV + "2310.06825", "Apache-2.0", "MMLU 60.1",
    ),
    "Qwen2.5-0.5B": Size(QWEN2, 494_032_768, _ARXIV + "2412.15115", "Apache-2.0", "MMLU 47.5"),
    "Qwen3-0.6B": Size(
        replace(QWEN2, width=1024, depth=28, num_heads=16, num_kv_heads=8, head_dim=128,
                hidden=3072, max_length=40_960, qkv_bias=False, qk_norm=True),
        596_049_920, _ARXIV + "2505.09388", "Apache-2.0", "MMLU 52.8",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"(query|key|value|gate|up)/kernel", P(None, "tensor")),
    (r"(out|down|head)/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum.
Biases, which not every config has, stay whole."""
