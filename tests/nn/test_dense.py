"""Dense layer and embedding table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.nn.dense import Dense, Embed

KEY = jax.random.key(0)


@pytest.mark.parametrize("lead", [(), (3,), (3, 4), (2, 3, 4)])
def test_dense_is_a_matrix_product_over_the_last_dimension(lead):
    rng = np.random.default_rng(0)
    x, kernel, bias = (rng.normal(size=s).astype(np.float32) for s in ((*lead, 5), (5, 7), 7))
    y = Dense(7).apply({"params": {"kernel": kernel, "bias": bias}}, jnp.asarray(x))
    assert y.shape == (*lead, 7)
    np.testing.assert_allclose(y, x @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_dense_without_bias_has_only_a_kernel():
    variables = jax.eval_shape(Dense(7, use_bias=False).init, KEY, jnp.ones((2, 5)))
    assert list(variables["params"]) == ["kernel"]


def test_dtype_is_that_of_the_computation_and_param_dtype_of_the_parameters():
    layer = Dense(7, dtype=jnp.bfloat16)
    y, variables = jax.eval_shape(layer.init_with_output, KEY, jnp.ones((2, 5)))
    assert y.dtype == jnp.bfloat16
    assert {k: v.shape for k, v in variables["params"].items()} == {"kernel": (5, 7), "bias": (7,)}
    assert {v.dtype for v in variables["params"].values()} == {jnp.dtype("float32")}


def test_embedding_rows_and_tied_scores():
    layer = Embed(11, 6)
    ids = jnp.array([[0, 10, 3]])
    rows, variables = layer.init_with_output(KEY, ids)
    table = variables["params"]["embedding"]
    assert table.shape == (11, 6)
    np.testing.assert_array_equal(rows, table[np.asarray(ids)])
    scores = layer.apply(variables, rows, method="attend")
    np.testing.assert_allclose(scores, np.asarray(rows) @ table.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lead", [(), (0,), (1,), (2, 2), (5,), (33,)])
def test_scores_of_few_rows_are_those_of_many(lead):
    layer = Embed(11, 6)
    variables = layer.init(KEY, jnp.zeros((1,), jnp.int32))
    table = variables["params"]["embedding"]
    x = jax.random.normal(KEY, (*lead, 6))

    def attend(x):
        return layer.apply(variables, x, method="attend")

    scores, back = jax.vjp(attend, x)
    np.testing.assert_allclose(scores, np.asarray(x) @ table.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(back(scores)[0], np.asarray(scores) @ table, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(attend)(x[None])[0], scores, rtol=1e-5, atol=1e-6)


def test_embedding_has_variance_one_over_its_width():
    table = Embed(2000, 64).init(KEY, jnp.zeros((1,), jnp.int32))["params"]["embedding"]
    np.testing.assert_allclose(table.std(), 64**-0.5, rtol=0.02)


def test_an_id_outside_the_table_is_not_taken_for_the_last_row():
    layer = Embed(11, 6)
    variables = layer.init(KEY, jnp.zeros((1,), jnp.int32))
    assert np.isnan(layer.apply(variables, jnp.array([11]))).all()
