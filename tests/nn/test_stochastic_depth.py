"""Stochastic depth: whole examples, the right share of them, the mean kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.errors import InputError
from zoo.nn.stochastic_depth import StochasticDepth, rising_rate


def drop(rate, x, seed=0, train=True):
    return StochasticDepth(rate).apply({}, x, train, rngs={"dropout": jax.random.key(seed)})


def test_an_example_goes_or_stays_as_a_whole():
    x = jnp.ones((4000, 2, 3))
    found = np.asarray(drop(0.25, x))
    first = found[:, :1, :1]
    np.testing.assert_array_equal(found, np.broadcast_to(first, found.shape))
    assert set(np.unique(found)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((first > 0).mean() - 0.75) < 0.03
    assert (np.asarray(drop(0.25, x, seed=1)) != found).any()


def test_nothing_happens_without_training_or_rate():
    x = jnp.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(drop(0.5, x, train=False), x)
    np.testing.assert_array_equal(StochasticDepth(0.0).apply({}, x, True), x)
    np.testing.assert_array_equal(drop(1.0, x), jnp.zeros_like(x))
    with pytest.raises(InputError, match="from 0 to 1, not 1.5"):
        drop(1.5, x)


def test_rates_rise_evenly():
    assert [rising_rate(0.3, i, 4) for i in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert rising_rate(0.3, 0, 1) == 0
