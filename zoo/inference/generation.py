"""Greedy decoding of an encoder-decoder, for the task of translation. What continues prompts is
`zoo.generate`; both are one compiled program."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from zoo.errors import InputError


def greedy(
    model: nn.Module,
    variables: Mapping[str, Any],
    input_ids: Int[ArrayLike, "B S"],
    attention_mask: Int[ArrayLike, "B S"] | None = None,
    *,
    bos: int,
    eos: int,
    pad: int,
    max_length: int,
) -> Int[Array, "B {max_length}"]:
    """The likeliest next token, again and again, for an encoder-decoder.

    The program is compiled once per model and shapes; it ends as soon as every row has its ``eos``.

    Args:
        model: a module with ``init_cache`` that is called as ``zoo.models.transformer`` is.
        variables: the model's.
        input_ids: source.
        attention_mask: 0 at the source's padding; None: there is none.
        bos: id of the token that begins a target.
        eos: id of the token that ends one.
        pad: id that fills what follows ``eos``.
        max_length: tokens to generate at most, ``eos`` included.

    Returns:
        The generated ids, without ``bos``, up to and with ``eos``, then ``pad``.

    Raises:
        InputError: the model does not translate, or ``max_length`` is below 1 or above its
            positions.
    """
    if getattr(model, "task", None) != "translation":
        raise InputError(f"greedy generation needs a model for translation, not {model!r:.80}")
    if max_length < 1:
        raise InputError(f"max_length is at least 1, not {max_length}")
    return _greedy(model, max_length, variables, input_ids, attention_mask, bos, eos, pad)


@partial(jax.jit, static_argnums=(0, 1))
def _greedy(
    model: nn.Module,
    max_length: int,
    variables: Mapping[str, Any],
    input_ids: Array,
    attention_mask: Array | None,
    bos: Array,
    eos: Array,
    pad: Array,
) -> Array:
    batch = input_ids.shape[0]

    def choose(logits: Array, done: Array) -> tuple[Array, Array]:
        token = jnp.argmax(logits[:, -1], axis=-1).astype(jnp.int32)
        token = jnp.where(done, pad, token)
        return token, done | (token == eos)

    def step(carry: tuple) -> tuple:
        n, token, done, tokens, cache = carry
        logits, cache = model.apply(variables, None, decoder_input_ids=token[:, None], cache=cache)
        token, done = choose(logits, done)
        return n + 1, token, done, lax.dynamic_update_index_in_dim(tokens, token, n, 1), cache

    def unfinished(carry: tuple) -> Array:
        n, _, done, _, _ = carry
        return (n < max_length) & ~jnp.all(done)

    # The first token outside the loop: this call encodes the source into the cache.
    start = jnp.full((batch, 1), bos, jnp.int32)
    cache = model.init_cache(batch, max_length)
    logits, cache = model.apply(
        variables, input_ids, attention_mask, decoder_input_ids=start, cache=cache
    )
    token, done = choose(logits, jnp.zeros(batch, bool))
    tokens = jnp.full((batch, max_length), pad, jnp.int32).at[:, 0].set(token)
    return lax.while_loop(unfinished, step, (1, token, done, tokens, cache))[3]
