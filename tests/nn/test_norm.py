"""Layer, root-mean-square and batch normalisation: formulas, gradients, and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.nn.norm import BatchNorm, LayerNorm, RMSNorm

KEY = jax.random.key(0)


def test_layer_norm_follows_its_formula():
    x = 3 + 2 * jax.random.normal(KEY, (4, 5, 16))
    y, variables = LayerNorm().init_with_output(KEY, x)
    assert {k: v.shape for k, v in variables["params"].items()} == {"scale": (16,), "bias": (16,)}
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=-1), 1, atol=1e-5)


def test_layer_norm_of_bfloat16_takes_its_statistics_in_float32():
    x = (100 + jax.random.normal(KEY, (4, 256))).astype(jnp.bfloat16)
    y = LayerNorm().init_with_output(KEY, x)[0]
    exact = LayerNorm().init_with_output(KEY, x.astype(jnp.float32))[0]
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))


def test_rms_norm_follows_its_formula():
    x = 3 + 2 * jax.random.normal(KEY, (4, 5, 16))
    scale = jnp.arange(16.0)
    assert jax.tree.map(jnp.shape, RMSNorm().init(KEY, x)["params"]) == {"scale": (16,)}
    y = RMSNorm(0.5).apply({"params": {"scale": scale}}, x)
    want = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 0.5) * scale
    np.testing.assert_allclose(y, want, rtol=1e-5)


def test_rms_norm_of_bfloat16_rounds_once_and_float64_stays():
    x = (100 + jax.random.normal(KEY, (4, 256))).astype(jnp.bfloat16)
    y = RMSNorm().init_with_output(KEY, x)[0]
    exact = RMSNorm().init_with_output(KEY, x.astype(jnp.float32))[0]
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
    with jax.enable_x64(True):
        x = np.random.default_rng(0).normal(size=(3, 8))
        y = RMSNorm(1e-9).apply({"params": {"scale": jnp.ones(8)}}, jnp.asarray(x))
        want = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-9)
        np.testing.assert_allclose(y, want, rtol=1e-13)


def plain(x, scale, bias, epsilon=1e-5):
    """Batch norm as its definition reads, for JAX to derive."""
    over = tuple(range(x.ndim - 1))
    mean, var = jnp.mean(x, over), jnp.var(x, over)
    return (x - mean) / jnp.sqrt(var + epsilon) * scale + bias


@pytest.mark.parametrize("shape", [(8, 3), (8, 5, 3), (4, 5, 6, 3)])
def test_batch_norm_and_its_gradient_follow_the_definition(shape):
    x, weights = 3 + 2 * jax.random.normal(KEY, shape), jax.random.normal(jax.random.key(1), shape)
    params = {"scale": jnp.array([1.0, 2.0, -0.5]), "bias": jnp.array([0.0, 1.0, 3.0])}
    variables = BatchNorm().init(KEY, x, train=True)

    def ours(params, x):
        y, _ = BatchNorm().apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        return (y * weights).sum(), y

    def theirs(params, x):
        y = plain(x, params["scale"], params["bias"])
        return (y * weights).sum(), y

    gradient = functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    ours, theirs = (jax.jit(gradient(f))(params, x) for f in (ours, theirs))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), ours, theirs)


def test_running_statistics_take_the_unbiased_variance_and_serve_inference():
    x = 3 + 2 * jax.random.normal(KEY, (8, 5, 3))
    layer = BatchNorm(momentum=0.75)
    variables = layer.init(KEY, x, train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)
    np.testing.assert_array_equal(variables["batch_stats"]["var"], 1)
    _, updates = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    flat = np.asarray(x).reshape(-1, 3)
    stats = updates["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.25 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.75 + 0.25 * flat.var(0, ddof=1), rtol=1e-5)
    y = layer.apply({**variables, **updates}, x, train=False)
    expected = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_keeps_its_digits_far_from_zero():
    x = 3000 + jax.random.normal(KEY, (4096, 2))
    y = BatchNorm().init_with_output(KEY, x, train=True)[0]
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-3)


def test_a_batch_of_one_value_is_finite():
    x = jnp.ones((1, 3))
    y, updates = BatchNorm().init_with_output(KEY, x, train=True)
    assert np.isfinite(y).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


@pytest.mark.parametrize("devices", [2, 4])
def test_jit_and_pmap_agree_bit_for_bit_forward_and_backward(devices):
    x = 1 + jax.random.normal(KEY, (16, 4, 4, 5))
    weights = jax.random.normal(jax.random.key(1), x.shape)
    layer = BatchNorm()
    variables = layer.init(KEY, x, train=True)
    params, stats = variables["params"], variables["batch_stats"]

    def step(params, x, weights, mapped):
        def loss(params, x):
            y, updates = layer.apply(
                {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
            )
            return (jnp.tanh(y) * weights).sum(), updates["batch_stats"]

        (dparams, dx), updates = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)
        return (jax.lax.psum(dparams, "data") if mapped else dparams), dx, updates

    used = jax.devices()[:devices]
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=used)
    rows, all_of_it = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    jitted = jax.jit(
        functools.partial(step, mapped=False),
        in_shardings=(all_of_it, rows, rows),
        out_shardings=(all_of_it, rows, all_of_it),
    )(params, x, weights)

    split = (devices, 16 // devices, 4, 4, 5)
    mapped = jax.pmap(
        functools.partial(step, mapped=True),
        axis_name="data",
        in_axes=(None, 0, 0),
        out_axes=(None, 0, None),
        devices=used,
    )(params, x.reshape(split), weights.reshape(split))
    mapped = (mapped[0], mapped[1].reshape(x.shape), mapped[2])
    jax.tree.map(np.testing.assert_array_equal, jitted, mapped)

    alone = jax.jit(functools.partial(step, mapped=False))(params, x, weights)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, mapped, alone)
