"""Named intermediates."""

import jax
import numpy as np
import pytest

import zoo
from zoo.errors import InputError

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def lenet():
    model = zoo.create_model("lenet5")
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda inputs: model.init(KEY, **inputs), model.cfg.inputs())
    variables = jax.tree.map(lambda x: 0.1 * rng.normal(size=x.shape).astype(x.dtype), shapes)
    return model, variables, rng.normal(size=(2, 28, 28, 1)).astype(np.float32)


def test_globs_choose_modules_and_the_values_are_the_real_ones(lenet):
    model, variables, image = lenet
    found = zoo.features(model, variables, image, ["conv*", "head"])
    assert {name: value.shape for name, value in found.items()} == {
        "conv1": (2, 28, 28, 6),
        "conv2": (2, 10, 10, 16),
        "head": (2, 10),
    }
    np.testing.assert_allclose(found["head"], model.apply(variables, image), rtol=1e-5, atol=1e-6)
    named = zoo.features(model, variables, {"image": image}, "head")
    np.testing.assert_allclose(named["head"], found["head"], rtol=1e-5, atol=1e-6)


def test_a_pattern_that_matches_nothing_lists_what_there_is(lenet):
    with pytest.raises(InputError, match="'block1'.*there are: conv1, conv2, dense1, dense2, head"):
        zoo.features(*lenet, ["conv1", "block1"])
