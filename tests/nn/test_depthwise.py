"""Depthwise convolutions beside XLA's own, and the ways of padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.nn.activation import activation
from zoo.nn.depthwise import depthwise
from zoo.nn.inverted import divisible
from zoo.nn.padding import PADDINGS, check_padding, pad_image


def convolved(strides, padding, x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (strides, strides), ((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1],
    )  # fmt: skip


@pytest.mark.parametrize("strides, padding, size", [(1, 1, 3), (2, 0, 2), (3, 2, 5)])
def test_values_and_gradients_are_those_of_the_convolution(strides, padding, size):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 8, 9, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, 1, 3)), jnp.float32)

    def run(f):
        def loss(x, kernel):
            y = f(strides, padding, x, kernel)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, kernel)

    (_, wanted), gradients = run(convolved)
    (_, found), mine = run(depthwise)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    for a, b in zip(gradients, mine, strict=True):
        np.testing.assert_allclose(b, a, atol=2e-5)


def test_half_precision_sums_in_float32():
    x = jnp.full((1, 5, 5, 2), 1.0, jnp.bfloat16).at[0, 2, 2].set(256.0)
    kernel = jnp.ones((5, 5, 1, 2), jnp.bfloat16)
    found = depthwise(1, 0, x, kernel)
    assert found.dtype == jnp.bfloat16 and float(found[0, 0, 0, 0]) == 280.0
    dx, dkernel = jax.grad(lambda *args: depthwise(1, 0, *args).sum(), (0, 1))(x, kernel)
    assert (dx.dtype, dkernel.dtype) == (jnp.bfloat16, jnp.bfloat16)


@pytest.mark.parametrize(
    "kind, size, strides, rows",
    [("same", 3, 2, 4), ("same", 5, 2, 4), ("same", 3, 1, 7), ("ahead", 3, 2, 3),
     ("ahead", 5, 2, 3), ("ahead", 3, 1, 7), ("symmetric", 3, 2, 4)],
)  # fmt: skip
def test_how_many_rows_a_padding_leaves(kind, size, strides, rows):
    x, left = pad_image(jnp.zeros((1, 7, 8, 1)), size, strides, kind)
    assert (x.shape[1] + 2 * left - size) // strides + 1 == rows
    assert (x.shape[2] + 2 * left - size) // strides + 1 == -(-8 // strides)


def test_paddings_that_cannot_be():
    with pytest.raises(InputError, match=", ".join(PADDINGS)):
        check_padding("valid")
    with pytest.raises(InputError, match="too small for this network: .* 3x3 meets a map of 1x4"):
        pad_image(jnp.zeros((1, 1, 4, 1)), 3, 2, "ahead")


def test_numbers_of_channels_are_rounded_but_never_far_down():
    assert [divisible(n) for n in (3, 11.2, 20, 28, 33.6)] == [8, 16, 24, 32, 32]
    assert divisible(5, 1) == 5 and divisible(5, 4, 12) == 12


def test_activations_made_of_lines():
    x = jnp.asarray([-4.0, -3.0, 0.0, 1.5, 3.0, 6.0, 7.0])
    for name, wanted in {
        "relu6": [0, 0, 0, 1.5, 3, 6, 6], "hard_sigmoid": [0, 0, 0.5, 0.75, 1, 1, 1],
        "hard_swish": [0, 0, 0, 1.125, 3, 6, 7],
    }.items():  # fmt: skip
        np.testing.assert_allclose(activation(name)(x), wanted, atol=1e-6)
    slope = jax.vmap(jax.grad(activation("relu6")))(x)
    np.testing.assert_array_equal(slope, [0, 0, 0, 1, 1, 0, 0])
    assert jnp.isnan(activation("relu6")(jnp.asarray(jnp.nan)))
