"""Speculative decoding (Leviathan et al., 2022, https://arxiv.org/abs/2211.17192): a small model
drafts several tokens, the large one reads them in one pass and keeps those that it might have
drawn itself, so that the tokens are distributed as if it had drawn them one by one.

Every row goes its own way: it keeps as many drafted tokens as are good, and its caches forget the
others. R rows, T tokens of a prompt, N new tokens, G drafted tokens, V vocabulary.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from zoo.errors import InputError
from zoo.inference.logits import best, log_prob, process
from zoo.inference.options import Options
from zoo.inference.steps import feed_all, prefill, take_rows, tokens_in
from zoo.nn.cache import Cache, lengthen


@flax.struct.dataclass
class Row:
    """Of one row; the loop holds all of them, with a first dimension R."""

    length: Int[Array, ""]
    """New tokens so far; all of them once the row has ended."""
    last: Int[Array, ""]
    """The token to feed."""
    tokens: Int[Array, "N"]
    log_probs: Float[Array, "N"] | None
    seen: Array | None
    """Tokens of prompt and text so far, ``[V]``; only the repetition penalty needs them."""
    key: Array | None
    target: list[Array]
    """Arrays of the model's cache, which holds every token but the last."""
    draft: list[Array]
    """Of the draft model's, likewise."""


def check_draft(model: nn.Module, draft: nn.Module, options: Options) -> None:
    """Raises InputError where the draft cannot serve the model, or the options cannot use one."""
    wrong = []
    if options.draft_tokens < 1:
        wrong.append(f"draft_tokens is at least 1, not {options.draft_tokens}")
    if options.num_beams > 1:
        wrong.append("a beam search takes no draft; set num_beams=1 or leave draft out")
    if getattr(draft, "task", None) != "text-generation" or not hasattr(draft, "init_cache"):
        wrong.append(f"the draft is to be a model for text-generation, not {draft!r:.80}")
    else:
        sizes = [m.cfg.vocab_size for m in (model, draft)]  # type: ignore[attr-defined]
        if sizes[0] != sizes[1]:
            wrong.append(
                f"the draft has a vocabulary of {sizes[1]} tokens, the model one of {sizes[0]}; "
                "both need the same tokenizer"
            )
        for name, each in (("model", model), ("draft", draft)):
            if not isinstance(each.init_cache(1, 1), Cache):  # type: ignore[operator]
                wrong.append(f"the {name}'s cache cannot forget tokens, as a Transformer's can")
        if getattr(model.cfg, "rope_scaling", "").startswith("dynamic"):  # type: ignore[attr-defined]
            wrong.append(
                "the model's dynamic rotary wavelengths depend on the length of its cache, which "
                "drafted tokens change; leave draft out"
            )
    if wrong:
        raise InputError("generate: " + "; ".join(wrong))


def speculate(
    models: tuple[nn.Module, nn.Module],
    options: Options,
    variables: tuple[Mapping[str, Any], Mapping[str, Any]],
    ids: Int[Array, "B T"],
    mask: Int[Array, "B T"] | None,
    key: Array | None,
) -> tuple[Int[Array, "R N"], Float[Array, "R N"] | None]:
    """New tokens, and where asked for their log-probabilities.

    Args:
        models: the model, and the one that drafts for it.
        options: without beams, with at least one drafted token.
        variables: of both.
        ids: prompts, padded on the left.
        mask: 0 at the padding.
        key: of sampling; None is greedy.
    """
    rows = jnp.repeat(jnp.arange(ids.shape[0]), options.num_return_sequences)
    count, new = rows.size, options.max_new_tokens
    caches, structures = [], []
    for model, values in zip(models, variables, strict=True):
        cache = prefill(model, values, ids, mask, new)
        # Behind the last token there is room for drafted ones, which come to nothing there.
        cache = lengthen(take_rows(cache, rows), options.draft_tokens)
        arrays, structure = jax.tree.flatten(cache)
        # Each row's is a cache of one row, with an index of its own.
        caches.append([x[:, None] if x.ndim else jnp.broadcast_to(x, (count,)) for x in arrays])
        structures.append(structure)
    seen = None
    if options.repetition_penalty != 1.0:
        seen = tokens_in(ids, mask, models[0].cfg.vocab_size)[rows]  # type: ignore[attr-defined]
    keys = None
    if key is not None:
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(count))
    wide = jnp.promote_types(models[0].dtype, jnp.float32)  # type: ignore[attr-defined]
    first = Row(
        length=jnp.zeros(count, jnp.int32),
        last=ids[rows, -1],
        tokens=jnp.full((count, new), options.pad, jnp.int32),
        log_probs=jnp.zeros((count, new), wide) if options.return_log_probs else None,
        seen=seen,
        key=keys,
        target=caches[0],
        draft=caches[1],
    )

    def round_of(row: Row) -> Row:
        caches = map(jax.tree.unflatten, structures, (row.target, row.draft))
        return _round(models, options, variables, tuple(caches), row)

    # A row that has ended changes nothing of its own, so that no cache is copied to keep it.
    last = lax.while_loop(lambda row: jnp.any(row.length < new), jax.vmap(round_of), first)
    return last.tokens, last.log_probs


def _round(
    models: tuple[nn.Module, nn.Module],
    options: Options,
    variables: tuple[Mapping[str, Any], Mapping[str, Any]],
    caches: tuple[Cache, ...],
    row: Row,
) -> Row:
    """Drafts, reads, keeps: from one to G + 1 tokens."""
    new, drafts = options.max_new_tokens, options.draft_tokens
    places = row.length + jnp.arange(drafts + 1)
    # What follows the last token that may be is padding: it takes no position.
    counts = (places < new).astype(jnp.int32)
    key = None if row.key is None else jax.random.fold_in(row.key, row.length)

    def draw(carry: tuple, at: Array) -> tuple:
        token, seen, cache = carry
        logits, cache = feed_all(
            models[1], variables[1], token[None, None], counts[at][None, None], cache
        )
        scores = _process(options, logits[0, 0], row.length + at, seen)
        if key is None:
            drawn = best(scores[None])[0]
        else:
            drawn = jax.random.categorical(jax.random.fold_in(key, at), scores).astype(jnp.int32)
        after = None if seen is None else seen.at[drawn].set(True)
        return (drawn, after, cache), (drawn, scores, seen)

    # The last draw is of no use, but the cache must have read the token before it.
    (_, _, draft_cache), (drawn, draft_scores, seen) = lax.scan(
        draw, (row.last, row.seen, caches[1]), jnp.arange(drafts + 1)
    )
    fed = jnp.concatenate([row.last[None], drawn[:-1]])
    logits, cache = feed_all(models[0], variables[0], fed[None], counts[None], caches[0])
    scores = jax.vmap(partial(_process, options))(logits[0], places, seen)
    kept, token = _accept(scores, draft_scores, drawn, key)

    emitted = jnp.where(jnp.arange(drafts + 1) < kept, drawn, token)
    ends = jnp.isin(emitted, jnp.asarray(options.eos, jnp.int32))
    until_end = jnp.where(jnp.any(ends), jnp.argmax(ends) + 1, new + 1)
    gained = jnp.minimum(jnp.minimum(kept + 1, until_end), new - row.length)
    ended = until_end <= gained

    at = jnp.arange(new) - row.length
    is_new = (at >= 0) & (at < gained)
    at = jnp.clip(at, 0, drafts)
    log_probs = row.log_probs
    if log_probs is not None:
        log_probs = jnp.where(is_new, log_prob(scores, emitted)[at], log_probs)
    seen = row.seen
    if seen is not None:
        seen = seen.at[jnp.where(jnp.arange(drafts + 1) < gained, emitted, seen.size)].set(
            True, mode="drop"
        )
    index = caches[0].index + gained
    caches = tuple(dataclasses.replace(read, index=index) for read in (cache, draft_cache))
    return Row(
        length=jnp.where(ended, new, row.length + gained),
        last=jnp.where(gained > 0, emitted[jnp.maximum(gained - 1, 0)], row.last),
        tokens=jnp.where(is_new, emitted[at], row.tokens),
        log_probs=log_probs,
        seen=seen,
        key=row.key,
        target=jax.tree.leaves(caches[0]),
        draft=jax.tree.leaves(caches[1]),
    )


def _accept(
    scores: Float[Array, "G+1 V"],
    draft_scores: Float[Array, "G+1 V"],
    drawn: Int[Array, "G+1"],
    key: Array | None,
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """How many drafted tokens stay, and the token that follows them (algorithm 1)."""
    drafts = drawn.size - 1
    if key is None:
        right = best(scores)
        kept = jnp.sum(jnp.cumprod(drawn[:-1] == right[:-1]))
        return kept, right[kept]
    p, q = jax.nn.softmax(scores, axis=-1), jax.nn.softmax(draft_scores, axis=-1)
    q = q.at[-1].set(0.0)  # behind the last drafted token, whatever the model draws is right
    p_drawn, q_drawn = (jnp.take_along_axis(x, drawn[:, None], axis=1)[:-1, 0] for x in (p, q))
    chance = jax.random.uniform(jax.random.fold_in(key, drafts + 1), (drafts,))
    kept = jnp.sum(jnp.cumprod(chance * q_drawn < p_drawn))
    rest = jnp.maximum(p[kept] - q[kept], 0.0)
    # A token is refused only where the draft has too much of it, so elsewhere it has too little;
    # rounding alone may leave nothing.
    rest = jnp.where(jnp.any(rest > 0), rest, p[kept])
    token = jax.random.categorical(jax.random.fold_in(key, drafts + 2), jnp.log(rest))
    return kept, token.astype(jnp.int32)


def _process(
    options: Options, logits: Float[Array, "V"], length: Array, seen: Array | None
) -> Float[Array, "V"]:
    return process(logits[None], length, None if seen is None else seen[None], options)[0]
