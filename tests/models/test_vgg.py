"""VGG: maps and their sizes, images of any size, norms folded."""

import dataclasses

import jax
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
from zoo.errors import InputError
from zoo.models import vgg
from zoo.nn.conv_norm import fold

KEY = jax.random.key(0)
TINY = vgg.Config((1, 2), (5, 6), norm=True, hidden=7, features=8, num_classes=3, image_size=12)


def image(height=12, width=12):
    return np.random.default_rng(1).normal(size=(2, height, width, 3)).astype(np.float32)


def test_a_pyramid_has_a_map_of_every_block():
    model = TINY.build("feature-pyramid")
    maps, variables = jax.eval_shape(lambda: model.init_with_output(KEY, image(33, 50)))
    assert [x.shape for x in maps] == [(2, 33, 50, 5), (2, 16, 25, 6), (2, 8, 12, 6)]
    assert "hidden1" not in variables["params"]


def test_larger_images_give_several_places():
    model = dataclasses.replace(TINY, num_classes=0, global_pool="").build()
    sizes = ((12, 12), (4, 28), (40, 32))
    shapes = [
        jax.eval_shape(lambda x: model.init_with_output(KEY, x)[0], image(*size)).shape
        for size in sizes
    ]
    assert shapes == [(2, 1, 1, 8), (2, 1, 1, 8), (2, 4, 2, 8)]


def test_too_small_images():
    with pytest.raises(InputError, match="the smallest are 32x32"):
        zoo.create_model("vgg16", image_size=31)
    with pytest.raises(InputError, match="images of 12x3 are too small"):
        jax.eval_shape(TINY.build().init, KEY, image(12, 3))


@pytest.mark.slow
def test_folded_norms_give_the_same_outputs():
    model = TINY.build()
    variables = zoo.init(model, KEY)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: x + rng.uniform(0.1, 0.5, x.shape).astype(x.dtype), variables
    )
    other = dataclasses.replace(TINY, folded=True).build()
    wanted = jax.jit(model.apply)(variables, image())
    found = jax.jit(other.apply)(fold(variables), image())
    assert np.abs(found - wanted).max() <= 2e-5 * np.std(wanted)
