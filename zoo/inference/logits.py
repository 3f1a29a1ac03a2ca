"""What is done to the scores of the next token before one is chosen, in transformers' order.

R rows, V vocabulary. A token that may not be chosen has the score minus infinity.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from zoo.inference.options import Options


def process(
    scores: Float[Array, "R V"],
    length: Int[Array, ""] | int,
    seen: Bool[Array, "R V"] | None,
    options: Options,
) -> Float[Array, "R V"]:
    """All that the options ask for.

    Args:
        scores: logits, or log-probabilities in a beam search.
        length: new tokens so far.
        seen: tokens of prompt and text so far; only the repetition penalty needs them.
        options: of the generation; filters apply only to sampling.
    """
    if seen is not None:
        scores = penalise(scores, seen, options.repetition_penalty)
    if options.eos and options.min_new_tokens:
        barred = jnp.asarray(options.eos)
        scores = jnp.where(
            length < options.min_new_tokens, scores.at[:, barred].set(-jnp.inf), scores
        )
    if not options.do_sample:
        return scores
    if options.temperature != 1.0:
        scores = scores / options.temperature
    if options.top_k or options.top_p < 1.0:
        scores = keep_top(scores, options.top_k, options.top_p, options.min_candidates)
    if options.min_p:
        scores = keep_near(scores, options.min_p, options.min_candidates)
    return scores


def penalise(
    scores: Float[Array, "R V"], seen: Bool[Array, "R V"], penalty: float
) -> Float[Array, "R V"]:
    """Tokens already seen become unlikelier by a factor on their score (Keskar et al., 2019,
    https://arxiv.org/abs/1909.05858, section 4.1; a negative score is multiplied)."""
    return jnp.where(seen, jnp.where(scores < 0, scores * penalty, scores / penalty), scores)


def keep_top(
    scores: Float[Array, "R V"], top_k: int, top_p: float, least: int
) -> Float[Array, "R V"]:
    """The ``top_k`` best (0: all), of them the fewest that together have the probability ``top_p``
    (nucleus sampling, Holtzman et al., 2019, https://arxiv.org/abs/1904.09751), at least
    ``least``. Scores equal to the last that stays do so too."""
    vocab = scores.shape[-1]
    count = min(max(top_k, least), vocab) if top_k else vocab
    # Sorted values say where the cut is, so no index is needed; few values are found faster.
    top = lax.top_k(scores, count)[0] if top_k else -jnp.sort(-scores, axis=-1)
    last = top[:, -1:]
    if top_p < 1.0:
        # The probability of a token and of all that are less likely.
        rest = jnp.cumsum(jax.nn.softmax(top, axis=-1)[:, ::-1], axis=-1)[:, ::-1]
        stays = (rest > 1.0 - top_p) | (jnp.arange(count) < least)
        last = jnp.min(jnp.where(stays, top, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(scores < last, -jnp.inf, scores)


def keep_near(scores: Float[Array, "R V"], min_p: float, least: int) -> Float[Array, "R V"]:
    """Tokens at least ``min_p`` times as likely as the likeliest (Nguyen et al., 2024,
    https://arxiv.org/abs/2407.01082), and the ``least`` best."""
    top = lax.top_k(scores, min(least, scores.shape[-1]))[0]
    last = jnp.minimum(top[:, :1] + math.log(min_p), top[:, -1:])
    return jnp.where(scores < last, -jnp.inf, scores)


def best(scores: Float[Array, "R V"]) -> Int[Array, "R"]:
    """The first of the best tokens. Two plain reductions: XLA's CPU loops over one of pairs, which
    ``argmax`` is, take several times as long."""
    top = jnp.max(scores, axis=-1, keepdims=True)
    places = jnp.arange(scores.shape[-1], dtype=jnp.int32)
    return jnp.min(jnp.where(scores == top, places, scores.shape[-1] - 1), axis=-1)


def log_prob(scores: Float[Array, "R V"], tokens: Int[Array, "R"]) -> Float[Array, "R"]:
    """Logarithm of the probability that the scores give to each row's token."""
    chosen = jnp.take_along_axis(scores, tokens[:, None], axis=1)[:, 0]
    return chosen - jax.nn.logsumexp(scores, axis=-1)
