"""Attention against its formula; masks; the position table."""

import jax
import jax.numpy as jnp
import numpy as np
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.nn.attention import (
    attention,
    causal_mask,
    grouped_attention,
    merge_heads,
    padding_mask,
    split_heads,
)
from zoo.nn.positions import sinusoidal


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def test_equals_the_formula_query_by_query():
    q, k, v = arrays((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5))
    mask = np.random.default_rng(1).random((2, 1, 4, 6)) < 0.7
    mask[..., 0] = True
    result = attention(q, k, v, jnp.asarray(mask))
    for b, h, t in np.ndindex(2, 3, 4):
        seen = mask[b, 0, t]
        weights = np.exp(np.asarray(k[b, h, seen] @ q[b, h, t]) / np.sqrt(5.0))
        want = weights @ np.asarray(v[b, h, seen]) / weights.sum()
        np.testing.assert_allclose(result[b, h, t], want, atol=1e-5)


def test_grouped_queries_equal_repeated_heads():
    for groups in (1, 2, 6):
        q, k, v = arrays((2, 6, 4, 5), (2, groups, 7, 5), (2, groups, 7, 5))
        repeated = [jnp.repeat(x, 6 // groups, axis=1) for x in (k, v)]
        ragged = jnp.asarray(np.random.default_rng(1).random((2, 1, 4, 7)) < 0.7)
        for mask in (None, ragged, ragged[:1], ragged[:, :, :1]):
            want = attention(q, *repeated, mask)
            np.testing.assert_allclose(grouped_attention(q, k, v, mask), want, atol=1e-6)


def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients():
    q, k, v = arrays((1, 1, 2, 3), (1, 1, 2, 3), (1, 1, 2, 3))
    mask = jnp.array([[[[True, False], [False, False]]]])
    result, pull = jax.vjp(lambda *x: attention(*x, mask), q, k, v)
    np.testing.assert_allclose(result[0, 0, 0], v[0, 0, 0], rtol=1e-6)
    assert not np.any(result[0, 0, 1])
    assert all(np.isfinite(g).all() for g in pull(jnp.ones_like(result)))


def test_masks():
    np.testing.assert_array_equal(causal_mask(2, 4, first=1)[0, 0], [[1, 1, 0, 0], [1, 1, 1, 0]])
    mask = padding_mask(jnp.array([[1, 0, 1]]))
    assert mask.shape == (1, 1, 1, 3)
    np.testing.assert_array_equal(mask.ravel(), [True, False, True])


def test_dropout_is_applied_to_the_weights():
    q, k, v = arrays((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4))
    shapes = []
    doubled = attention(q, k, v, dropout=lambda w: (shapes.append(w.shape), 2 * w)[1])
    np.testing.assert_allclose(doubled, 2 * attention(q, k, v), rtol=1e-6)
    assert shapes == [(1, 2, 3, 5)]


def test_heads_are_slices_of_the_last_dimension():
    (x,) = arrays((2, 3, 8))
    heads = split_heads(x, 4)
    np.testing.assert_array_equal(heads[:, 1], x[..., 2:4])
    np.testing.assert_array_equal(merge_heads(heads), x)


def test_sinusoidal_positions():
    table = sinusoidal(50, 6)
    for p, i in np.ndindex(50, 3):
        angle = p / 10_000 ** (2 * i / 6)
        np.testing.assert_allclose(table[p, 2 * i], np.sin(angle), atol=1e-6)
        np.testing.assert_allclose(table[p, 2 * i + 1], np.cos(angle), atol=1e-6)
