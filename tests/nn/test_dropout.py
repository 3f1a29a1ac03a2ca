"""Dropout: its statistics, the independence of its masks, and devices."""

import functools

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from zoo.errors import InputError
from zoo.nn import dropout
from zoo.nn.dropout import Dropout

keep_mask = jax.jit(dropout.keep_mask, static_argnums=(1, 2))
KEY = jax.random.key(0)
SHAPE = (256, 32, 64)
N = 256 * 32 * 64


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def drop(x, key, rate=0.3):
    return Dropout(rate).apply({}, x, True, rngs={"dropout": key})


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_masks_have_the_mean_and_variance_of_independent_draws(rate):
    masks = np.stack([keep_mask(jax.random.key(i), rate, SHAPE) for i in range(4)])
    sigma = np.sqrt(rate * (1 - rate) / masks.size)
    assert abs(masks.mean() - (1 - rate)) < 5 * sigma
    # The number kept in a group of elements varies as a binomial count does, along any dimension.
    for axes in ((1,), (2,), (3,), (2, 3)):
        counts = masks.sum(axis=axes)
        n = np.prod([masks.shape[a] for a in axes])
        error = np.sqrt(3 / counts.size)
        assert abs(counts.var() / (n * rate * (1 - rate)) - 1) < 5 * error


def test_neighbours_rows_and_keys_are_independent():
    mask = np.asarray(keep_mask(KEY, 0.5, SHAPE), np.float32)
    bound = 5 / np.sqrt(N)
    for shift in (1, 2, 31):
        for dimension in range(3):
            assert abs(correlation(mask, np.roll(mask, shift, dimension))) < bound
    others = [jax.random.key(1), jax.random.key(2**31), jax.random.fold_in(KEY, 0)]
    others += [jax.random.fold_in(KEY, 1), jax.random.wrap_key_data(jnp.array([1, 0], jnp.uint32))]
    for key in others:
        other = np.asarray(keep_mask(key, 0.5, SHAPE), np.float32)
        assert abs(correlation(mask, other)) < bound
        # No shifted copy either, as hashing key + index once would give.
        assert abs(correlation(mask.ravel()[1:], other.ravel()[:-1])) < bound


def test_rows_of_a_large_batch_differ():
    rows = np.asarray(keep_mask(KEY, 0.5, (4096, 64)))
    assert len(np.unique(rows, axis=0)) == 4096


def test_layers_of_one_model_and_steps_have_masks_of_their_own():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return Dropout(0.5, name="a")(x, True), Dropout(0.5, name="b")(x, True)

    x = jnp.ones((64, 256))
    a, b = Net().apply({}, x, rngs={"dropout": KEY})
    later, _ = Net().apply({}, x, rngs={"dropout": jax.random.fold_in(KEY, 1)})
    bound = 5 / np.sqrt(x.size)
    assert abs(correlation(a, b)) < bound and abs(correlation(a, later)) < bound


def test_what_stays_is_scaled_and_the_gradient_has_the_same_mask():
    x = jax.random.normal(KEY, (32, 100))
    y = drop(x, KEY, rate=0.25)
    kept = np.asarray(y != 0)
    np.testing.assert_allclose(np.asarray(y)[kept], np.asarray(x)[kept] / 0.75, rtol=1e-6)
    slope = jax.grad(lambda x: drop(x, KEY, rate=0.25).sum())(x)
    np.testing.assert_allclose(slope, kept / 0.75, rtol=1e-6)


def test_the_ends_of_the_range_and_inference():
    x = jax.random.normal(KEY, (4, 5))
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, True), x)
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, False), x)
    np.testing.assert_array_equal(Dropout(1.0).apply({}, x, True), 0)
    np.testing.assert_array_equal(drop(x, KEY, rate=1e-12), x)
    with pytest.raises(InputError, match="from 0 to 1"):
        Dropout(1.5).apply({}, x, True)


def test_a_nan_is_dropped_like_any_other_value():
    y = drop(jnp.full((64, 64), jnp.nan), KEY, rate=0.5)
    assert 0 < np.isnan(y).sum() < y.size


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_typed_and_raw_keys_give_the_same_mask(implementation):
    key = jax.random.key(3, impl=implementation)
    raw = jax.random.key_data(key)
    typed = keep_mask(key, 0.5, (8, 64))
    assert 0.3 < typed.mean() < 0.7
    if implementation == "threefry2x32":
        np.testing.assert_array_equal(typed, keep_mask(jax.random.wrap_key_data(raw), 0.5, (8, 64)))


@pytest.mark.parametrize("devices", [2, 4])
def test_masks_do_not_depend_on_devices(devices):
    x = jax.random.normal(KEY, (16, 6, 7))
    alone = jax.jit(drop)(x, KEY)
    used = jax.devices()[:devices]
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=used)
    rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    sharded = jax.jit(drop, in_shardings=(rows, whole), out_shardings=rows)(x, KEY)
    np.testing.assert_array_equal(sharded, alone)
    mapped = jax.pmap(drop, axis_name="data", in_axes=(0, None), devices=used)
    mapped = mapped(x.reshape(devices, -1, 6, 7), KEY).reshape(x.shape)
    np.testing.assert_array_equal(mapped, alone)
    smapped = jax.shard_map(
        drop,
        mesh=mesh,
        in_specs=(PartitionSpec("data"), PartitionSpec()),
        out_specs=PartitionSpec("data"),
        check_vma=False,
    )
    np.testing.assert_array_equal(jax.jit(smapped)(x, KEY), alone)


def test_no_random_bits_are_drawn_for_the_array():
    program = jax.jit(functools.partial(drop, rate=0.5)).lower(jnp.ones((64, 128)), KEY).as_text()
    assert "64x128xui32" in program and "rng_bit_generator" not in program
