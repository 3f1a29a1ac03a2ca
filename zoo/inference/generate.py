"""Text from a causal language model: the whole loop as one compiled program.

B prompts, R rows (prompts times sequences of each), T tokens of a prompt, N new tokens,
V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from zoo.errors import InputError
from zoo.inference.beam import beam_search
from zoo.inference.logits import best, log_prob, process
from zoo.inference.memory import use_huge_pages
from zoo.inference.options import Options
from zoo.inference.products import with_transposed
from zoo.inference.speculative import check_draft, speculate
from zoo.inference.steps import feed, prefill, take_rows, tokens_in


@flax.struct.dataclass
class Generated:
    """What `generate` gives where log-probabilities are asked for."""

    sequences: Int[Array, "R T+N"]
    """Prompts and the new tokens."""
    log_probs: Float[Array, "R N"]
    """Of each new token, given the scores it was chosen by, so after penalties and filters; 0 at
    the padding behind an end."""
    scores: Float[Array, "R"]
    """The sum of a row's log-probabilities; of a beam over its length to the power of the
    penalty."""


def generate(
    model: nn.Module,
    variables: Mapping[str, Any],
    input_ids: Int[ArrayLike, "B T"],
    attention_mask: Int[ArrayLike, "B T"] | None = None,
    *,
    max_new_tokens: int,
    min_new_tokens: int = 0,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    num_return_sequences: int = 1,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    key: Array | None = None,
    return_log_probs: bool = False,
    callback: Callable[[np.ndarray], None] | None = None,
    draft: tuple[nn.Module, Mapping[str, Any]] | None = None,
    draft_tokens: int = 4,
) -> Int[Array, "R T+N"] | Generated:
    """Continues prompts: greedily, by sampling or by beam search, with transformers' meaning of
    every option.

    The program is compiled once per model, options and shapes. Rows do not influence each other.

    Args:
        model: a module for text-generation with ``init_cache``.
        variables: the model's.
        input_ids: prompts; shorter ones are padded on the left.
        attention_mask: 0 at that padding; None: there is none.
        max_new_tokens: how far to go, an end included.
        min_new_tokens: no end before so many tokens.
        do_sample: draw tokens instead of taking the likeliest.
        temperature: scores are divided by it before sampling.
        top_k: sample from so many of the likeliest; 0: from all.
        top_p: sample from the fewest likeliest tokens that together have this probability.
        min_p: sample from tokens at least so likely compared with the likeliest.
        repetition_penalty: above 1 makes tokens of the prompt and of the text so far unlikelier.
        num_beams: sequences a beam search holds; 1: no beam search.
        length_penalty: power of the length that a beam's log-probability is divided by.
        early_stopping: of a beam search; True: when there are as many ends as beams; False: when
            it is unlikely that a better one follows; "never": when none can.
        num_return_sequences: draws of each prompt, or best beams; they follow one another.
        eos_token_id: one or several tokens that end a sequence; None: nothing does.
        pad_token_id: fills what follows an end; None: the first end.
        key: random key of sampling; the same key gives the same tokens.
        return_log_probs: whether the result is a `Generated`.
        callback: is given the new tokens ``[R]`` of every step as they come. The steps are then
            dispatched one by one; no beam search.
        draft: a smaller model of the same vocabulary and its variables, for speculative decoding:
            what it drafts costs the model one pass, and the tokens are distributed as without it.
            No beam search, no callback.
        draft_tokens: how many it drafts at a time.

    Returns:
        Prompts and new tokens ``[R, T + max_new_tokens]``; R is B times ``num_return_sequences``.

    Raises:
        InputError: the model generates no text, an option is out of its range, a prompt is padded
            on the right or has an unknown token, or the sequence is longer than the model allows.
    """
    ends = () if eos_token_id is None else np.atleast_1d(np.asarray(eos_token_id, int)).tolist()
    options = Options(
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens,
        do_sample=do_sample,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        num_beams=num_beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        num_return_sequences=num_return_sequences,
        eos=tuple(ends),
        pad=(ends[0] if ends else 0) if pad_token_id is None else pad_token_id,
        return_log_probs=return_log_probs,
        draft_tokens=0 if draft is None else draft_tokens,
    )
    if getattr(model, "task", None) != "text-generation" or not hasattr(model, "init_cache"):
        raise InputError(f"generate needs a model for text-generation, not {model!r:.80}")
    vocab = model.cfg.vocab_size  # type: ignore[attr-defined]
    options.check(vocab)
    _check_prompts(input_ids, attention_mask, vocab)
    if do_sample and key is None:
        raise InputError("generate: sampling needs a key, such as key=jax.random.key(0)")
    if callback is not None and num_beams > 1:
        raise InputError("generate: a beam search knows its tokens at the end; leave callback out")
    if draft is not None:
        if not isinstance(draft, tuple) or len(draft) != 2:
            raise InputError(f"generate: draft is a pair (model, variables), not {draft!r:.80}")
        if callback is not None:
            raise InputError(
                "generate: drafted tokens do not come one by one; leave callback or draft out"
            )
        check_draft(model, draft[0], options)
    ids = jnp.asarray(input_ids, jnp.int32)
    mask = None if attention_mask is None else jnp.asarray(attention_mask)
    key = key if do_sample else None
    rows = ids.shape[0] * max(num_beams, num_return_sequences)
    variables = with_transposed(model, variables, rows if draft is None else draft_tokens + 1)
    use_huge_pages(variables)
    if callback is None:
        smaller, its_variables = (None, None) if draft is None else draft
        result = _whole(model, smaller, options, variables, its_variables, ids, mask, key)
    else:
        result = _stream(model, options, variables, ids, mask, key, callback)
    return result if return_log_probs else result.sequences


@flax.struct.dataclass
class State:
    """Of the loop."""

    length: Int[Array, ""]
    """New tokens so far."""
    last: Int[Array, "R"]
    """The token to feed."""
    done: Bool[Array, "R"]
    tokens: Int[Array, "R N"]
    log_probs: Float[Array, "R N"] | None
    seen: Bool[Array, "R V"] | None
    cache: Any


@partial(jax.jit, static_argnums=(0, 1, 2))
def _whole(
    model: nn.Module,
    draft: nn.Module | None,
    options: Options,
    variables: Mapping[str, Any],
    draft_variables: Mapping[str, Any] | None,
    ids: Array,
    mask: Array | None,
    key: Array | None,
) -> Generated:
    if options.num_beams > 1:
        beams = beam_search(model, options, variables, ids, mask, key)
        first = jax.tree.map(lambda x: x[:, : options.num_return_sequences], beams)
        tokens, log_probs, scores = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (first.tokens, first.log_probs, first.scores)
        )
        return Generated(_join(ids, tokens, options), log_probs, scores)
    if draft is not None and draft_variables is not None:
        models, both = (model, draft), (variables, draft_variables)
        return _result(*speculate(models, options, both, ids, mask, key), ids, options)

    def goes_on(state: State) -> Array:
        return (state.length < options.max_new_tokens) & ~jnp.all(state.done)

    def step(state: State) -> State:
        return _step(model, options, variables, state, key)

    state = _start(model, options, variables, ids, mask)
    state = lax.while_loop(goes_on, step, state)
    return _result(state.tokens, state.log_probs, ids, options)


def _stream(
    model: nn.Module,
    options: Options,
    variables: Mapping[str, Any],
    ids: Array,
    mask: Array | None,
    key: Array | None,
    callback: Callable[[np.ndarray], None],
) -> Generated:
    """The same steps, each a dispatch of its own."""
    state = _start_alone(model, options, variables, ids, mask)
    for _ in range(options.max_new_tokens):
        state = _step_alone(model, options, variables, state, key)
        callback(np.array(state.last))
        if options.eos and np.all(state.done):
            break
    return _result(state.tokens, state.log_probs, ids, options)


def _start(
    model: nn.Module,
    options: Options,
    variables: Mapping[str, Any],
    ids: Array,
    mask: Array | None,
) -> State:
    """The prompts read, once for all draws of each."""
    cache = prefill(model, variables, ids, mask, options.max_new_tokens)
    seen = None
    if options.repetition_penalty != 1.0:
        seen = tokens_in(ids, mask, model.cfg.vocab_size)  # type: ignore[attr-defined]
    last = ids[:, -1]
    if options.num_return_sequences > 1:
        rows = jnp.repeat(jnp.arange(ids.shape[0]), options.num_return_sequences)
        last, seen, cache = take_rows((last, seen, cache), rows)
    shape = (last.shape[0], options.max_new_tokens)
    log_probs = None
    if options.return_log_probs:
        scores = jax.eval_shape(lambda: feed(model, variables, last, cache)[0])
        log_probs = jnp.zeros(shape, scores.dtype)
    tokens = jnp.full(shape, options.pad, jnp.int32)
    done = jnp.zeros(shape[0], bool)
    return State(jnp.zeros((), jnp.int32), last, done, tokens, log_probs, seen, cache)


def _step(
    model: nn.Module,
    options: Options,
    variables: Mapping[str, Any],
    state: State,
    key: Array | None,
) -> State:
    """One token for every row; a row that is done gets padding."""
    scores, cache = feed(model, variables, state.last, state.cache)
    scores = process(scores, state.length, state.seen, options)
    if key is not None:
        token = jax.random.categorical(jax.random.fold_in(key, state.length), scores)
    else:
        token = best(scores)
    token = jnp.where(state.done, options.pad, token.astype(jnp.int32))
    log_probs, seen, done = state.log_probs, state.seen, state.done
    if log_probs is not None:
        gained = jnp.where(done, 0.0, log_prob(scores, token))
        log_probs = lax.dynamic_update_index_in_dim(log_probs, gained, state.length, 1)
    if seen is not None:
        seen = seen.at[jnp.arange(token.size), token].set(True)
    for eos in options.eos:
        done = done | (token == eos)
    tokens = lax.dynamic_update_index_in_dim(state.tokens, token, state.length, 1)
    return State(state.length + 1, token, done, tokens, log_probs, seen, cache)


_start_alone = jax.jit(_start, static_argnums=(0, 1))
_step_alone = jax.jit(_step, static_argnums=(0, 1), donate_argnums=3)


def _result(tokens: Array, log_probs: Array | None, ids: Array, options: Options) -> Generated:
    if log_probs is None:  # not asked for, and dropped by `generate`
        log_probs = jnp.zeros(tokens.shape)
    return Generated(_join(ids, tokens, options), log_probs, jnp.sum(log_probs, axis=1))


def _join(ids: Array, tokens: Array, options: Options) -> Array:
    prompts = jnp.repeat(ids, options.num_return_sequences, axis=0)
    return jnp.concatenate([prompts, tokens], axis=1)


def _check_prompts(ids: ArrayLike, mask: ArrayLike | None, vocab_size: int) -> None:
    ids = np.asarray(ids)
    if ids.ndim != 2 or ids.shape[1] < 1 or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f"generate: input_ids are token ids [B, T] with at least one token, not {ids.dtype} "
            f"{list(ids.shape)}"
        )
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise InputError(
            f"generate: input_ids are from 0 to {vocab_size - 1}, not {ids.min()} to {ids.max()}"
        )
    if mask is None:
        return
    mask = np.asarray(mask)
    if mask.shape != ids.shape:
        raise InputError(
            f"generate: attention_mask {list(mask.shape)} is not of input_ids' shape "
            f"{list(ids.shape)}"
        )
    if not np.all(mask[:, -1]):
        rows = np.flatnonzero(mask[:, -1] == 0)[:5].tolist()
        raise InputError(
            f"generate: the last token of rows {rows} is padding; pad prompts on the left"
        )
