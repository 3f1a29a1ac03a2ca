"""Greedy generation against the plain loop of full forward passes."""

import draw
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.errors import InputError
from zoo.inference.generation import greedy
from zoo.models import mlp
from zoo.models.transformer import Config

BOS, LENGTH = 1, 8
MODEL = Config(vocab_size=7, width=8, depth=1, num_heads=2, hidden=16, max_length=9).build()
SOURCE = np.random.default_rng(0).integers(3, 7, (16, 5), dtype=np.int32)
MASK = (np.arange(5) < np.arange(16)[:, None] % 5 + 1).astype(np.int32)


@pytest.fixture(scope="module")
def variables():
    """Random, so that rows and places differ: without biases, which would favour the same token in
    every row, and with embeddings below the positions, or a token would be followed by itself."""
    drawn = draw.variables(MODEL, **MODEL.cfg.inputs(), scale=1.0, seed=2)
    factors = {"bias": 0.0, "kernel": 1.0, "scale": 1.0, "embedding": 0.03}
    return jax.tree_util.tree_map_with_path(lambda path, x: x * factors[path[-1].key], drawn)


@pytest.fixture(scope="module")
def free(variables):
    """Token by token, everything computed anew, nothing stops."""
    run, target = jax.jit(MODEL.apply), np.full((16, 1), BOS, np.int32)
    for n in range(LENGTH):
        # Later places do not matter, so one compiled shape serves all lengths.
        padded = np.pad(target, ((0, 0), (0, LENGTH - target.shape[1])))
        token = np.argmax(run(variables, SOURCE, MASK, padded)[:, n], -1).astype(np.int32)
        target = np.concatenate([target, token[:, None]], 1)
    return target[:, 1:]


def generate(variables, eos, pad, rows=slice(None)):
    return greedy(
        MODEL, variables, SOURCE[rows], MASK[rows], bos=BOS, eos=eos, pad=pad, max_length=LENGTH
    )


def test_equals_full_forward_passes(variables, free):
    assert len({tuple(row) for row in free}) > 5 and (free[:, 0] != free[:, -1]).any()
    got = generate(variables, eos=99, pad=0)
    assert got.shape == (16, LENGTH) and got.dtype == jnp.int32
    np.testing.assert_array_equal(got, free)


def test_a_row_is_padded_after_its_end(variables, free):
    holds = {token: (free == token).any(1).sum() for token in range(7)}
    eos = min(holds, key=lambda token: abs(holds[token] - 8))
    assert 0 < holds[eos] < 16
    want = free.copy()
    want[np.cumsum(free == eos, 1) - (free == eos) > 0] = 99
    np.testing.assert_array_equal(generate(variables, eos, pad=99), want)


def test_all_rows_may_end_early(variables, free):
    eos = int(np.bincount(free[:, 0]).argmax())
    rows = np.resize(np.flatnonzero(free[:, 0] == eos), 16)
    want = [[eos] + [99] * (LENGTH - 1)] * 16
    np.testing.assert_array_equal(generate(variables, eos, 99, rows), want)


def test_errors(variables):
    tokens = {"bos": BOS, "eos": 2, "pad": 0}
    with pytest.raises(InputError, match="10 tokens is longer"):
        greedy(MODEL, variables, SOURCE, **tokens, max_length=10)
    with pytest.raises(InputError, match="at least 1"):
        greedy(MODEL, variables, SOURCE, **tokens, max_length=0)
    with pytest.raises(InputError, match="translation"):
        greedy(mlp.Config().build(), {}, SOURCE, **tokens, max_length=3)
