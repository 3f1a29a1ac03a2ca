"""Patches of images, and positions of one grid resized to another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.errors import InputError
from zoo.nn.patches import ImageTokens, Patches, grid, resize, resize_matrix

RNG = np.random.default_rng(0)


def test_patches_are_a_convolution():
    image = jnp.asarray(RNG.normal(size=(2, 7, 9, 3)), jnp.float32)
    layer = Patches(5, (2, 4))
    variables = layer.init(jax.random.key(0), image)
    kernel = variables["params"]["kernel"]
    wanted = jax.lax.conv_general_dilated(
        image, kernel, (2, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = layer.apply(variables, image)
    assert found.shape == (2, 3, 2, 5)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_grids():
    assert grid(224, 16) == (14, 14)
    assert grid((33, 64), (16, 32)) == (2, 2)
    with pytest.raises(InputError, match="an image of 15x64 has no patch of 16x16"):
        grid((15, 64), 16)
    with pytest.raises(InputError, match="no patch of 0x0"):
        grid(8, 0)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("new, old", [(1, 4), (3, 7), (7, 7), (14, 5), (16, 1), (2, 40)])
def test_each_new_place_is_a_mean(new, old, antialias):
    matrix = resize_matrix(new, old, antialias)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)  # neither end is special
    if new == old:
        np.testing.assert_allclose(matrix, np.eye(new), atol=1e-12)


@pytest.mark.parametrize(
    "antialias, wanted",
    [
        (False, [[313 / 288, -25 / 288, 0, 0], [1 / 2, 19 / 32, -3 / 32, 0]]),
        (True, [[81 / 76, -5 / 76, 0, 0], [9 / 17, 9 / 17, -1 / 17, 0]]),
    ],
)
def test_resized_as_torch_does_it(antialias, wanted):
    """The first two rows of four that become six, as ``torch.nn.functional.interpolate`` has them
    in float64."""
    np.testing.assert_allclose(resize_matrix(6, 4, antialias)[:2], wanted, atol=1e-12)


def test_a_grid_is_resized_along_both_axes():
    table = jnp.asarray(RNG.normal(size=(3, 4, 5)), jnp.float32)
    down, across = resize_matrix(6, 3, True), resize_matrix(2, 4, True)
    found = resize(table, (6, 2), True)
    np.testing.assert_allclose(found, np.einsum("ab,cd,bde->ace", down, across, table), atol=1e-6)
    half = resize(table.astype(jnp.bfloat16), (6, 2), True)
    assert half.dtype == jnp.bfloat16


def test_a_constant_grid_stays_constant():
    table = jnp.full((3, 4, 2), 0.5)
    for antialias in (False, True):
        np.testing.assert_allclose(resize(table, (9, 2), antialias), 0.5, atol=1e-6)


def test_channels_are_counted():
    tokens = ImageTokens(4, (4, 4), (2, 2), 3, ("class_token",), True)
    with pytest.raises(InputError, match="images have 1 channels, the model 3"):
        jax.eval_shape(tokens.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
