"""Convolution and pooling against plain loops and XLA's own window operations."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.nn import conv, pool
from zoo.nn.conv import Conv, convolve
from zoo.nn.patches import pair

KEY = jax.random.key(0)
max_pool = jax.jit(pool.max_pool, static_argnums=(1, 2, 3))
avg_pool = jax.jit(pool.avg_pool, static_argnums=(1, 2, 3))
adaptive_avg_pool = jax.jit(pool.adaptive_avg_pool, static_argnums=1)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def windows(x, window, strides, padding, fill):
    """Every window's values ``[B, h, w, window * window, C]``, by loops."""
    x = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)), constant_values=fill)
    rows = range(0, x.shape[1] - window + 1, strides)
    columns = range(0, x.shape[2] - window + 1, strides)
    flat = (x.shape[0], -1, x.shape[3])
    return np.stack(
        [
            np.stack([x[:, i : i + window, j : j + window].reshape(flat) for j in columns], axis=1)
            for i in rows
        ],
        axis=1,
    )


@pytest.mark.parametrize("kernel, strides, padding", [(3, 1, 0), (5, 2, 2), (1, 1, 0), (1, 2, 0)])
def test_convolution_is_a_sum_over_windows(kernel, strides, padding):
    x = normal(2, 9, 8, 3)
    layer = Conv(4, kernel, strides, padding)
    shapes = jax.eval_shape(layer.init, KEY, x)["params"]
    assert shapes["kernel"].shape == (kernel, kernel, 3, 4) and shapes["bias"].shape == (4,)
    weights, bias = normal(*shapes["kernel"].shape), normal(4)
    y = jax.jit(layer.apply)({"params": {"kernel": weights, "bias": bias}}, x)
    flat = weights.reshape(-1, 3, 4)
    expected = np.einsum("bhwkc,kco->bhwo", windows(x, kernel, strides, padding, 0), flat) + bias
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_a_1x1_convolution_compiles_to_a_matrix_product():
    x, layer = jnp.ones((2, 4, 4, 3)), Conv(5, 1)
    variables = jax.eval_shape(layer.init, KEY, x)
    program = str(jax.make_jaxpr(layer.apply)(variables, x))
    assert "dot_general" in program and "conv_general" not in program


def plain(strides, padding, x, kernel):
    form = ("NHWC", "HWIO", "NHWC")
    pads = [(zeros, zeros) for zeros in pair(padding)]
    return jax.lax.conv_general_dilated(x, kernel, (strides,) * 2, pads, dimension_numbers=form)


@pytest.mark.parametrize("limit", [0, conv.MAX_COPIES_BYTES])
@pytest.mark.parametrize(
    "size, strides, padding",
    [(3, 1, 0), (3, 1, 1), (5, 2, 2), (1, 2, 0), ((2, 5), 3, (1, 2)), (3, 2, 0)],
)
def test_the_derivatives_of_a_convolution_are_those_of_xlas(
    size, strides, padding, limit, monkeypatch
):
    monkeypatch.setattr(conv, "MAX_COPIES_BYTES", limit)
    x, kernel = jnp.asarray(normal(2, 9, 8, 3)), jnp.asarray(normal(*pair(size), 3, 32))
    weights = normal(*jax.eval_shape(lambda: plain(strides, padding, x, kernel)).shape)

    def derivatives(function):
        def loss(x, kernel):
            return (jnp.sin(function(strides, padding, x, kernel)) * weights).sum()

        def one(x):
            return jax.grad(loss, argnums=1)(x[None], kernel)

        gradient = jax.grad(loss, argnums=(0, 1))
        curvature = jax.jvp(gradient, (x, kernel), (jnp.cos(x), jnp.cos(kernel)))
        return curvature, jax.vmap(one)(x), jax.jvp(lambda x: loss(x, kernel), (x,), (x,))

    for ours, theirs in zip(
        jax.tree.leaves(jax.jit(lambda: derivatives(convolve))()),
        jax.tree.leaves(jax.jit(lambda: derivatives(plain))()),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("platform, convolutions", [("cpu", 2), ("tpu", 3), ("cuda", 3)])
def test_only_the_cpu_takes_a_kernels_gradient_by_matrix_products(platform, convolutions):
    def gradients(x, kernel):
        value, pull = jax.vjp(lambda x, kernel: convolve(1, 0, x, kernel), x, kernel)
        return value, pull(value)

    x, kernel = jnp.ones((2, 9, 8, 3)), jnp.ones((3, 3, 3, 32))
    exported = jax.export.export(jax.jit(gradients), platforms=[platform])(x, kernel)
    assert exported.mlir_module().count("stablehlo.convolution") == convolutions


POOLS = [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 1), (3, 1, 1), (2, 3, 0)]


@pytest.mark.parametrize("window, strides, padding", POOLS)
def test_pooling_equals_loops(window, strides, padding):
    x = normal(2, 9, 8, 3)
    expected = windows(x, window, strides, padding, -np.inf).max(axis=3)
    np.testing.assert_array_equal(max_pool(x, window, strides, padding), expected)
    expected = windows(x, window, strides, padding, 0).mean(axis=3)
    np.testing.assert_allclose(avg_pool(x, window, strides, padding), expected, atol=1e-6)
    assert expected.shape[1] == pool.output_size(9, window, strides, padding)


@pytest.mark.parametrize("window, strides, padding", POOLS)
def test_max_pool_sends_its_gradient_to_the_first_of_equal_values(window, strides, padding):
    x = np.round(normal(2, 9, 8, 3))  # most windows hold their largest twice

    def reference(x):
        return linen.max_pool(x, (window,) * 2, (strides,) * 2, ((padding,) * 2,) * 2)

    weights = normal(*jax.eval_shape(reference, x).shape)
    ours = jax.jit(jax.grad(lambda x: (max_pool(x, window, strides, padding) * weights).sum()))(x)
    theirs = jax.jit(jax.grad(lambda x: (reference(x) * weights).sum()))(x)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_nan_survives_pooling():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2, 0].set(jnp.nan)
    assert np.isnan(max_pool(x, 2)[0, 0, 1, 0])
    assert np.isnan(max_pool(x, 3, 1)).all()


@pytest.mark.parametrize("height, width, size", [(6, 6, 6), (12, 18, 6), (13, 9, 6), (3, 7, 7)])
def test_adaptive_pooling_takes_means_of_cells(height, width, size):
    x = normal(2, height, width, 3)
    y = adaptive_avg_pool(x, size)
    assert y.shape == (2, size, size, 3)
    for i in range(size):
        for j in range(size):
            rows = slice(i * height // size, -(-(i + 1) * height // size))
            columns = slice(j * width // size, -(-(j + 1) * width // size))
            cell = np.asarray(x)[:, rows, columns].mean(axis=(1, 2))
            np.testing.assert_allclose(y[:, i, j], cell, atol=1e-6)
