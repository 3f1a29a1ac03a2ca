"""Activations against their definitions in float64, softmax with masks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.errors import InputError
from zoo.nn.activation import ACTIVATIONS, activation, gelu, quick_gelu, sigmoid, softmax

X = np.linspace(-30, 30, 601)


def test_sigmoid_and_gelu_follow_their_definitions():
    ours = sigmoid(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(ours, 1 / (1 + np.exp(-X)), rtol=1e-6, atol=1.5e-7)
    exact = [x * 0.5 * math.erfc(-x / math.sqrt(2)) for x in X]
    np.testing.assert_allclose(gelu(jnp.asarray(X, jnp.float32)), exact, rtol=1e-5, atol=2e-6)
    quick = X / (1 + np.exp(-1.702 * X))
    np.testing.assert_allclose(quick_gelu(jnp.asarray(X, jnp.float32)), quick, atol=5e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_finite_gradients_everywhere(name):
    f = activation(name)
    value, slope = jax.vmap(jax.value_and_grad(f))(jnp.asarray(X, jnp.float32))
    assert np.isfinite(value).all() and np.isfinite(slope).all() and (np.asarray(slope) != 0).any()


def test_unknown_activation_names_the_nearest():
    with pytest.raises(InputError, match="unknown activation 'rellu'; nearest: .*relu"):
        activation("rellu")


def test_softmax_sums_to_one_and_ignores_a_shift():
    x = 50 * jax.random.normal(jax.random.key(0), (4, 7))
    y = softmax(x)
    np.testing.assert_allclose(y.sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(y, jax.nn.softmax(x), atol=1e-6)
    np.testing.assert_allclose(softmax(x + 1000), y, atol=1e-3)
    np.testing.assert_allclose(softmax(x, axis=0), jax.nn.softmax(x, axis=0), atol=1e-6)


def test_masked_softmax_leaves_elements_out_and_stays_finite_when_nothing_is_left():
    x = jax.random.normal(jax.random.key(0), (3, 5)).at[0, 1].set(1e9)
    where = jnp.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    y = softmax(x, where=where)
    assert (np.asarray(y)[~np.asarray(where)] == 0).all()
    np.testing.assert_allclose(y.sum(axis=-1), [1, 0, 1], atol=1e-6)
    slope = jax.grad(lambda x: (softmax(x, where=where) ** 2).sum())(x)
    assert np.isfinite(slope).all() and (slope[1] == 0).all()


def test_softmax_of_bfloat16_is_computed_in_float32():
    x = jax.random.normal(jax.random.key(0), (4, 1000)).astype(jnp.bfloat16)
    y = softmax(x)
    assert y.dtype == jnp.bfloat16
    exact = jax.nn.softmax(x.astype(jnp.float32))
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
