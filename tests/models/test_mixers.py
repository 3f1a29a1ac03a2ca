"""What MLP-Mixer, gMLP and ResMLP promise beside what holds for every model."""

import dataclasses

import draw
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models import gmlp, mlp_mixer, resmlp

SMALL = dict(image_size=(4, 6), patch_size=2, width=6, depth=1, num_classes=3)
CONFIGS = {
    "mlp_mixer": mlp_mixer.Config(**SMALL),
    "gmlp": gmlp.Config(**SMALL),
    "resmlp": resmlp.Config(**SMALL),
}
IMAGE = np.random.default_rng(0).normal(size=(3, 4, 6, 3)).astype(np.float32)


def made(name, task=None, **changes):
    config = dataclasses.replace(CONFIGS[name], **changes)
    model = config.build(task)
    return model, draw.variables(model, **config.inputs())


def shapes(name, task=None, **changes):
    model = dataclasses.replace(CONFIGS[name], **changes).build(task)
    key, inputs = jax.random.key(0), model.cfg.inputs(3)
    found = jax.eval_shape(
        lambda: model.init_with_output(key, **jax.tree.map(jnp.zeros_like, inputs))
    )
    return jax.tree.map(jnp.shape, found[0])


@pytest.mark.parametrize("name", CONFIGS)
def test_heads(name):
    assert shapes(name) == (3, 3)
    assert shapes(name, global_pool="") == (3, 6, 3)
    assert shapes(name, num_classes=0) == (3, 6)
    assert shapes(name, "feature-extraction", global_pool="") == (3, 6, 6)
    assert shapes(name, "feature-pyramid") == ((3, 2, 3, 6),)
    assert shapes(name, "feature-pyramid", depth=5, num_classes=0) == ((3, 2, 3, 6),) * 3


@pytest.mark.parametrize("name", CONFIGS)
def test_a_channel_mixes_places_and_a_place_mixes_channels(name):
    """One patch changes the features of all; without the weights over places only its own."""
    model, variables = made(name, "feature-extraction", global_pool="")
    apply = jax.jit(model.apply)
    other = IMAGE.copy()
    other[:, :2, :2, 0] += 1

    def moved(variables):
        change = np.abs(apply(variables, other) - apply(variables, IMAGE)).max((0, 2))
        return change > 1e-5

    assert moved(variables).all()
    mixing = {"mlp_mixer": "token_mlp", "gmlp": "gate", "resmlp": "token_linear"}[name]
    layer = variables["params"]["layer0"]
    still = layer | {mixing: jax.tree.map(jnp.zeros_like, layer[mixing])}
    if name == "gmlp":
        still[mixing]["places"]["bias"] = layer[mixing]["places"]["bias"]
    apart = {"params": variables["params"] | {"layer0": still}}
    assert moved(apart).tolist() == [True] + [False] * 5


@pytest.mark.parametrize("name", CONFIGS)
def test_images_of_another_grid_are_refused(name):
    model, variables = made(name)
    for size in ((6, 4), (2, 2), (8, 12), (1, 6)):
        with pytest.raises(InputError, match="takes 4x6 alone|has no patch of 2x2"):
            jax.eval_shape(model.apply, variables, np.ones((1, *size, 3), np.float32))
    with pytest.raises(InputError, match="images have 1 channels, the model 3"):
        model.apply(variables, IMAGE[..., :1])


@pytest.mark.parametrize("name", CONFIGS)
def test_what_cannot_be_is_refused(name):
    hidden = (0, -1) if name == "mlp_mixer" else -1
    for changes, message in (
        ({"global_pool": "token"}, "no global_pool 'token'; there are 'avg' and ''"),
        ({"image_size": (1, 6)}, "an image of 1x6 has no patch"),
        ({"num_classes": -1}, "image-classification needs num_classes of 1 or more, not -1"),
        ({"depth": 0}, "at least 1"),
        ({"hidden": hidden}, "at least 1|an even number"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(CONFIGS[name], **changes).build()
    with pytest.raises(InputError, match="hidden is 7, but half of it are gates"):
        dataclasses.replace(CONFIGS["gmlp"], hidden=7).build()


def test_gmlp_starts_as_a_feed_forward_network():
    model = dataclasses.replace(CONFIGS["gmlp"], global_pool="").build("feature-extraction")
    variables = jax.jit(model.init)(jax.random.key(0), IMAGE)
    other = IMAGE.copy()
    other[:, :2, :2] += 1
    apply = jax.jit(model.apply)
    change = np.abs(apply(variables, other) - apply(variables, IMAGE)).max((0, 2))
    assert change[0] > 1e-2 and change[1:].max() < 1e-4
