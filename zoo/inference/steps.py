"""Feeding tokens to a causal model with a cache.

A model's cache is a pytree whose arrays have the batch first; its scalars hold for all rows.
B prompts, R rows, T tokens, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from zoo.inference.products import apply_few


def prefill(
    model: nn.Module,
    variables: Mapping[str, Any],
    ids: Int[Array, "B T"],
    mask: Int[Array, "B T"] | None,
    new_tokens: int,
) -> Any:
    """The cache after all tokens of the prompts but the last.

    The last is the first that `feed` takes: so logits are computed at one place only.
    """
    batch, length = ids.shape
    cache = model.init_cache(batch, length + new_tokens - 1)  # type: ignore[attr-defined]
    if length == 1:
        return cache
    before = None if mask is None else mask[:, :-1]
    return apply_few(model, variables, ids[:, :-1], before, cache=cache)[1]


def feed(
    model: nn.Module, variables: Mapping[str, Any], token: Int[Array, "R"], cache: Any
) -> tuple[Float[Array, "R V"], Any]:
    """Logits, in at least float32, of what follows the token, and the new cache."""
    logits, cache = feed_all(model, variables, token[:, None], None, cache)
    return logits[:, -1], cache


def feed_all(
    model: nn.Module,
    variables: Mapping[str, Any],
    tokens: Int[Array, "R T"],
    mask: Int[Array, "R T"] | None,
    cache: Any,
) -> tuple[Float[Array, "R T V"], Any]:
    """Likewise after each of several tokens; the mask is 0 at those that do not count."""
    logits, cache = apply_few(model, variables, tokens, mask, cache=cache)
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), cache


def take_rows(tree: Any, rows: Int[Array, "R"]) -> Any:
    """Those rows of every array; a row may occur more than once."""
    return jax.tree.map(lambda x: x[rows] if x.ndim else x, tree)


def tokens_in(
    ids: Int[Array, "B T"], mask: Int[Array, "B T"] | None, vocab_size: int
) -> Bool[Array, "B V"]:
    """Which tokens occur in each row, padding aside."""
    counts = jnp.ones(ids.shape, bool) if mask is None else mask != 0
    rows = jnp.arange(ids.shape[0])[:, None]
    return jnp.zeros((ids.shape[0], vocab_size), bool).at[rows, ids].max(counts)
