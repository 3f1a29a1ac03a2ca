"""DenseNet: maps and their sizes, what folding leaves, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
from zoo.errors import InputError
from zoo.models import densenet
from zoo.nn.conv_norm import fold
from zoo.parallel.mesh import MeshShape, make_mesh, state_shardings

KEY = jax.random.key(0)
TINY = densenet.Config(growth=3, depths=(1, 1), bottleneck=2, num_classes=3, image_size=16)


def image(height=16, width=16, channels=3):
    return np.random.default_rng(1).normal(size=(2, height, width, channels)).astype(np.float32)


def test_a_pyramid_has_a_map_of_every_block():
    cfg = dataclasses.replace(TINY, depths=(1, 2, 1))
    model = cfg.build("feature-pyramid")
    maps, variables = jax.eval_shape(lambda: model.init_with_output(KEY, image(33, 50)))
    assert [x.shape for x in maps] == [
        (2, 17, 25, 6), (2, 9, 13, 9), (2, 4, 6, 10), (2, 2, 3, 8),
    ]  # fmt: skip
    assert "head" not in variables["params"]


def test_devices_share_the_layers():
    variables = jax.eval_shape(TINY.build().init, KEY, image())
    mesh = make_mesh(MeshShape(tensor=2), jax.devices()[:2])
    shardings = state_shardings(variables, mesh, densenet.TENSOR_PARALLEL)["params"]
    assert shardings["block1_layer0"]["conv2"]["kernel"].spec[2] == "tensor"


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"depths": ()}, "at least 1"),
        ({"growth": 0}, "at least 1"),
        ({"global_pool": "median"}, "'median'"),
        ({"activation": "mish"}, "mish"),
        ({"num_classes": 0, "global_pool": ""}, None),
        ({"global_pool": ""}, "needs num_classes and global_pool"),
        ({"depths": (1, 1, 1, 1), "image_size": 28}, "28x28 are too small .* are 29x29"),
    ],
)
def test_what_cannot_be_built(changes, told):
    cfg = dataclasses.replace(TINY, **changes)
    if told is None:
        assert cfg.build().task == "feature-extraction"
        return
    with pytest.raises(InputError, match=told):
        cfg.build()


def test_images_that_do_not_fit():
    model = TINY.build()
    with pytest.raises(InputError, match="4 channels, the model 3"):
        jax.eval_shape(model.init, KEY, image(channels=4))
    with pytest.raises(InputError, match="images of 16x4 are too small"):
        jax.eval_shape(model.init, KEY, image(16, 4))
    jax.eval_shape(model.init, KEY, image(5, 5))


@pytest.mark.slow
def test_norms_behind_convolutions_are_folded_and_the_others_stay():
    model = TINY.build()
    variables = zoo.init(model, KEY)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: x + rng.uniform(0.1, 0.5, x.shape).astype(x.dtype), variables
    )
    other, folded = dataclasses.replace(TINY, folded=True).build(), fold(variables)
    shapes = jax.eval_shape(lambda: other.init(KEY, image()))
    assert jax.tree.map(jnp.shape, folded) == jax.tree.map(jnp.shape, shapes)
    assert set(folded["batch_stats"]) == {
        "block1_layer0", "block2_layer0", "transition1", "final_norm"
    }  # fmt: skip
    assert set(folded["batch_stats"]["block1_layer0"]) == {"norm1"}
    wanted = jax.jit(model.apply)(variables, image())
    found = jax.jit(other.apply)(folded, image())
    assert np.abs(found - wanted).max() <= 2e-5 * np.std(wanted)


def test_frozen_norms_stay():
    model = dataclasses.replace(TINY, frozen_norm=True).build()
    variables = jax.eval_shape(model.init, KEY, image())
    variables = jax.tree.map(lambda x: jnp.full(x.shape, 0.5), variables)
    run = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[1])
    updates = run(variables, image())["batch_stats"]
    assert jax.tree.all(jax.tree.map(np.array_equal, updates, variables["batch_stats"]))
