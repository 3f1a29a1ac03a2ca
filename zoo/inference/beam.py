"""Beam search, step by step as transformers' (https://github.com/huggingface/transformers,
`GenerationMixin._beam_search`), so that it finds the same sequences.

B prompts, K beams, N new tokens, V vocabulary, M candidates for the next step.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from zoo.inference.logits import process
from zoo.inference.options import Options
from zoo.inference.steps import feed, prefill, take_rows, tokens_in

NEVER = -1e9
"""A score below all real ones; finite, so that sums with it stay numbers."""


@flax.struct.dataclass
class Beams:
    """Sequences of new tokens with their scores, best first."""

    tokens: Int[Array, "B K N"]
    log_probs: Float[Array, "B K N"]
    """Of each token; 0 where there is none."""
    scores: Float[Array, "B K"]
    """Sum of log-probabilities; once finished, over its length to the power of the penalty."""


@flax.struct.dataclass
class State:
    """Of the loop."""

    length: Int[Array, ""]
    running: Beams
    finished: Beams
    complete: Bool[Array, "B K"]
    """Whether a place of ``finished`` holds a sequence that ended."""
    improvable: Bool[Array, "B 1"]
    """Whether a running beam may still become better than the worst finished one."""
    stuck: Bool[Array, ""]
    """Whether every candidate of the last step ended."""
    last: Int[Array, "B*K"]
    """The token to feed."""
    seen: Bool[Array, "B*K V"] | None
    cache: Any


def beam_search(
    model: nn.Module,
    options: Options,
    variables: Mapping[str, Any],
    ids: Int[Array, "B T"],
    mask: Int[Array, "B T"] | None,
    key: Array | None,
) -> Beams:
    """The finished sequences of each prompt, best first.

    Args:
        model: with the cache contract of `zoo.generate`.
        options: with at least two beams; sampling draws candidates without replacement.
        variables: the model's.
        ids: prompts, padded on the left.
        mask: 0 at the padding.
        key: of sampling.
    """
    batch, beams = ids.shape[0], options.num_beams
    vocab = model.cfg.vocab_size  # type: ignore[attr-defined]
    rows = jnp.repeat(jnp.arange(batch), beams)
    cache = take_rows(prefill(model, variables, ids, mask, options.max_new_tokens), rows)
    seen = None
    if options.repetition_penalty != 1.0:
        seen = tokens_in(ids, mask, vocab)[rows]
    shapes = jax.eval_shape(lambda: feed(model, variables, ids[rows, -1], cache)[0])
    none = Beams(
        jnp.full((batch, beams, options.max_new_tokens), options.pad, jnp.int32),
        jnp.zeros((batch, beams, options.max_new_tokens), shapes.dtype),
        jnp.full((batch, beams), NEVER, shapes.dtype),
    )
    state = State(
        length=jnp.zeros((), jnp.int32),
        # All beams start alike, so only the first may be continued.
        running=none.replace(scores=none.scores.at[:, 0].set(0.0)),  # type: ignore[attr-defined]
        finished=none,
        complete=jnp.zeros((batch, beams), bool),
        improvable=jnp.ones((batch, 1), bool),
        stuck=jnp.zeros((), bool),
        last=ids[rows, -1],
        seen=seen,
        cache=cache,
    )

    def goes_on(state: State) -> Array:
        full = jnp.all(state.complete) & (options.early_stopping is True)
        return jnp.any(state.improvable) & ~full & ~state.stuck

    def step(state: State) -> State:
        return _step(model, options, variables, key, state)

    return lax.while_loop(goes_on, step, state).finished


def _step(
    model: nn.Module, options: Options, variables: Mapping[str, Any], key: Any, state: State
) -> State:
    """Every beam by one token."""
    batch, beams = state.running.scores.shape
    logits, cache = feed(model, variables, state.last, state.cache)
    log_probs = process(jax.nn.log_softmax(logits), state.length, state.seen, options)
    each = log_probs.reshape(batch, -1)
    total = (log_probs.reshape(batch, beams, -1) + state.running.scores[..., None]).reshape(
        batch, -1
    )
    # Enough candidates that, if all that can end do, there is one for every beam to go on with.
    count = min(max(2, 1 + len(options.eos)) * beams, total.shape[1])
    if options.do_sample:
        # The best of scores with Gumbel noise are draws without replacement, in their order
        # (Kool et al., 2019, https://arxiv.org/abs/1903.06059).
        noise = jax.random.gumbel(jax.random.fold_in(key, state.length), total.shape, total.dtype)
        chosen = lax.top_k(total + noise, count)[1]
    else:
        chosen = lax.top_k(total, count)[1]
    parent, token = jnp.divmod(chosen.astype(jnp.int32), logits.shape[-1])
    candidates = _pick(state.running, parent)
    candidates = Beams(
        candidates.tokens.at[:, :, state.length].set(token),
        candidates.log_probs.at[:, :, state.length].set(_pick(each, chosen)),
        _pick(total, chosen),
    )
    length = state.length + 1
    ends = jnp.full(token.shape, length >= options.max_new_tokens)
    for eos in options.eos:
        ends |= token == eos

    onward = lax.top_k(candidates.scores + ends * NEVER, beams)[1]
    running = _pick(candidates, onward)
    running = running.replace(scores=running.scores + _pick(ends, onward) * NEVER)
    finished, complete = _finish(state, candidates, ends, length, options)

    hopeful = options.early_stopping == "never" and options.length_penalty > 0
    longest = options.max_new_tokens if hopeful else length
    possible = running.scores[:, :1] / _power(longest, options.length_penalty)
    worst = jnp.where(complete, jnp.min(finished.scores, axis=1, keepdims=True), NEVER)
    improvable = state.improvable & jnp.any(possible > worst, axis=1, keepdims=True)

    rows = (jnp.arange(batch)[:, None] * beams + _pick(parent, onward)).reshape(-1)
    last = _pick(token, onward).reshape(-1)
    seen = state.seen
    if seen is not None:
        seen = seen[rows].at[jnp.arange(last.size), last].set(True)
    cache = take_rows(cache, rows)
    return State(
        length, running, finished, complete, improvable, jnp.all(ends), last, seen, cache
    )  # fmt: skip


def _finish(
    state: State, candidates: Beams, ends: Array, length: Array, options: Options
) -> tuple[Beams, Array]:
    """The best of the finished sequences and of the candidates that end now. Only a candidate
    among the first K counts; the others are there to go on with."""
    beams = options.num_beams
    ends = ends & (jnp.arange(ends.shape[1]) < beams)
    scores = candidates.scores / _power(length, options.length_penalty)
    if options.early_stopping is True:
        scores += jnp.all(state.complete, axis=1, keepdims=True) * NEVER
    scores += ~state.improvable * NEVER
    scores += ~ends * NEVER
    candidates = candidates.replace(scores=scores)  # type: ignore[attr-defined]
    merged = jax.tree.map(
        lambda *x: jnp.concatenate(x, axis=1),
        (state.finished, state.complete),
        (candidates, ends),
    )
    return _pick(merged, lax.top_k(merged[0].scores, beams)[1])


def _power(length: Any, penalty: float) -> Array:
    return jnp.asarray(length, jnp.float32) ** penalty


def _pick(tree: Any, places: Int[Array, "B M"]) -> Any:
    """Those places of the second dimension, for each prompt."""
    return jax.tree.map(lambda x: jax.vmap(lambda row, at: row[at])(x, places), tree)
