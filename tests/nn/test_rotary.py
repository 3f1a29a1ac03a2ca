"""Rotary positions: the relative-position property, the formulas of the scalings, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.errors import InputError
from zoo.nn.rotary import angles, frequencies, gain, parse, rotate

RNG = np.random.default_rng(0)


def turned(x, positions, scaling="default"):
    rates = frequencies(x.shape[-1], 100.0, scaling, 64)
    return rotate(x, *angles(jnp.asarray(positions), rates))


def test_products_depend_on_the_distance_alone():
    q, k = (jnp.asarray(RNG.normal(size=(1, 2, 1, 8)), jnp.float32) for _ in range(2))

    def product(query_at, key_at):
        return (turned(q, [[query_at]]) * turned(k, [[key_at]])).sum(-1)

    for at in (0, 5, 60):
        np.testing.assert_allclose(product(at + 3, at), product(3, 0), atol=1e-5)
    assert np.abs(product(4, 0) - product(3, 0)).max() > 1e-2


def test_turns_pairs_as_complex_numbers():
    x = RNG.normal(size=(1, 1, 3, 6)).astype(np.float32)
    places = np.array([[0, 2, 7]])
    turns = np.exp(1j * places[0][:, None] * 100.0 ** (-np.arange(0, 6, 2) / 6))
    want = (x[..., :3] + 1j * x[..., 3:]) * turns
    result = turned(jnp.asarray(x), places)
    np.testing.assert_allclose(result, np.concatenate([want.real, want.imag], -1), atol=1e-5)
    np.testing.assert_array_equal(result[:, :, 0], x[:, :, 0])


def test_keeps_the_dtype_and_rounds_once():
    x = jnp.asarray(RNG.normal(size=(1, 1, 3, 6)), jnp.bfloat16)
    result = turned(x, [[0, 2, 7]])
    exact = turned(x.astype(jnp.float32), [[0, 2, 7]])
    assert result.dtype == jnp.bfloat16
    np.testing.assert_array_equal(result, exact.astype(jnp.bfloat16))
    with jax.enable_x64(True):
        assert turned(jnp.asarray(x, jnp.float64), [[0, 2, 7]]).dtype == jnp.float64


def test_scalings_follow_their_formulas():
    plain = frequencies(16, 1e4, "default", 1)
    np.testing.assert_allclose(plain, 1e4 ** (-np.arange(0, 16, 2) / 16), rtol=1e-6)
    assert plain.dtype == np.float32
    np.testing.assert_allclose(frequencies(16, 1e4, "linear factor=4", 1), plain / 4)

    for scaling in ("llama3 factor=8 trained=64 low=1 high=4",
                    "yarn factor=8 trained=64 low=1 high=4 gain=1.2"):  # fmt: skip
        rates = frequencies(16, 1e4, scaling, 1)
        turns = 64 * plain / (2 * np.pi)
        np.testing.assert_allclose(rates[turns >= 4], plain[turns >= 4], rtol=1e-6)
        share = rates / plain
        assert (np.diff(share) < 1e-6).all() and np.isclose(share[-1], 1 / 8)
        between = (turns < 4) & (turns > 1)
        assert between.any() and (share[between] > 1 / 8).all() and (share[between] < 1).all()
    blend = (64 * plain / (2 * np.pi) - 1) / 3
    np.testing.assert_allclose(
        frequencies(16, 1e4, "llama3 factor=8 trained=64 low=1 high=4", 1),
        plain * np.clip(blend, 0, 1) + plain / 8 * (1 - np.clip(blend, 0, 1)),
        rtol=1e-5,
    )
    assert gain("yarn factor=8 trained=64 low=1 high=4 gain=1.2") == 1.2 and gain("default") == 1


def test_dynamic_stretches_the_longest_wave_with_the_length():
    scaling = "dynamic factor=4 trained=32"
    plain = frequencies(16, 1e4, "default", 1)
    np.testing.assert_array_equal(frequencies(16, 1e4, scaling, 32), plain)
    longer = frequencies(16, 1e4, scaling, 64)
    np.testing.assert_allclose(longer[-1], plain[-1] / (4 * 2 - 3), rtol=1e-5)
    assert longer[0] == plain[0]


@pytest.mark.parametrize(
    "scaling, message",
    [
        ("", "unknown rope scaling ''; there are: default, linear"),
        ("longrope factor=2", "unknown rope scaling 'longrope'"),
        ("linear", "write 'linear factor=<number>'"),
        ("linear factor=two", "write 'linear factor=<number>'"),
        ("linear factor=0", "numbers above 0"),
        ("linear factor=2 factor=3", "write 'linear factor=<number>'"),
        ("default factor=2", "write 'default'"),
        ("llama3 factor=2 trained=8 low=3 high=3", "low below high"),
        ("dynamic factor=2", "trained=<number>"),
    ],
)
def test_errors(scaling, message):
    with pytest.raises(InputError, match=message):
        parse(scaling)
