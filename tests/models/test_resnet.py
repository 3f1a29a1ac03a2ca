"""ResNet: maps and their sizes, the three ways of batch norm, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
from zoo.errors import InputError
from zoo.models import resnet
from zoo.nn.conv_norm import fold

KEY = jax.random.key(0)
TINY = resnet.Config("basic", (1, 1), (6, 8), stem_width=5, num_classes=3, image_size=16)


def made(cfg, task=None):
    model = cfg.build(task)
    return model, zoo.init(model, KEY)


def shaken(variables):
    """Statistics and norms away from 0 and 1."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        noise = rng.uniform(0.5, 2.0, leaf.shape).astype(leaf.dtype)
        return leaf if path[-1].key == "kernel" else noise

    return jax.tree_util.tree_map_with_path(draw, variables)


def image(height=16, width=16, channels=3):
    rng = np.random.default_rng(1)
    return rng.normal(size=(2, height, width, channels)).astype(np.float32)


def test_a_pyramid_has_a_map_of_every_stage():
    model = TINY.build("feature-pyramid")
    shapes = jax.eval_shape(lambda: model.init_with_output(KEY, image(33, 50))[0])
    assert [x.shape for x in shapes] == [(2, 17, 25, 5), (2, 9, 13, 6), (2, 5, 7, 8)]
    other = dataclasses.replace(TINY, stride_in_first_stage=True).build("feature-pyramid")
    shapes = jax.eval_shape(lambda: other.init_with_output(KEY, image(33, 50))[0])
    assert [x.shape[1:3] for x in shapes] == [(17, 25), (5, 7), (3, 4)]


def test_stochastic_depth_rises_to_its_rate():
    """The first block stays; what the last one adds is left out."""
    model, variables = made(dataclasses.replace(TINY, drop_path=1.0, frozen_norm=True))
    found = model.apply(variables, image(), train=True, rngs={"dropout": KEY})
    params = dict(variables["params"])
    block = params["stage2_block0"]
    silent = jax.tree.map(jnp.zeros_like, block["conv2"])
    params["stage2_block0"] = block | {"conv2": silent}
    np.testing.assert_allclose(found, model.apply(variables | {"params": params}, image()), 1e-5)
    assert np.abs(found - model.apply(variables, image())).max() > 1e-3


def test_a_model_without_classes_gives_features():
    model = zoo.create_model("resnet18", num_classes=0)
    assert model.task == "feature-extraction"
    shape = jax.eval_shape(lambda: model.init_with_output(KEY, image(32, 64))[0]).shape
    assert shape == (2, 512)
    maps = zoo.create_model("resnet18", num_classes=0, global_pool="")
    shape = jax.eval_shape(lambda: maps.init_with_output(KEY, image(32, 64))[0]).shape
    assert shape == (2, 1, 2, 512)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"block": "dense"}, "block"),
        ({"depths": (1,)}, "differ in length"),
        ({"widths": (6, 0)}, "at least 1"),
        ({"groups": 2}, "for bottlenecks"),
        ({"block": "bottleneck", "widths": (8, 3)}, "without channels"),
        ({"global_pool": "median"}, "'median'"),
        ({"activation": "mish"}, "mish"),
        ({"global_pool": ""}, "needs num_classes and global_pool"),
    ],
)
def test_what_cannot_be_built(changes, told):
    with pytest.raises(InputError, match=told):
        dataclasses.replace(TINY, **changes).build()
    with pytest.raises(InputError, match="needs num_classes"):
        dataclasses.replace(TINY, num_classes=0).build("image-classification")


def test_images_of_other_channels_are_refused():
    with pytest.raises(InputError, match="4 channels, the model 3"):
        jax.eval_shape(TINY.build().init, KEY, image(channels=4))


def test_frozen_norms_stay_and_are_used():
    model, variables = made(dataclasses.replace(TINY, frozen_norm=True))
    variables = shaken(variables)
    run = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))
    outputs, updates = run(variables, image())
    wanted = jax.jit(model.apply)(variables, image())
    np.testing.assert_allclose(outputs, wanted, rtol=1e-5, atol=1e-5)
    assert jax.tree.all(
        jax.tree.map(np.array_equal, updates, {"batch_stats": variables["batch_stats"]})
    )
    trained = TINY.build()
    _, updates = jax.jit(lambda v, x: trained.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, image()
    )
    moved = jax.tree.map(np.array_equal, updates["batch_stats"], variables["batch_stats"])
    assert not any(jax.tree.leaves(moved))


def test_folded_norms_give_the_same_outputs():
    cfg = resnet.Config(depths=(1, 1), widths=(16, 24), groups=2, group_width=32, num_classes=3,
                        image_size=16)  # fmt: skip
    model, variables = made(cfg)
    variables = shaken(variables)
    folded = fold(variables)
    other = dataclasses.replace(cfg, folded=True).build()
    shapes = jax.eval_shape(lambda: other.init(KEY, image()))
    assert jax.tree.map(jnp.shape, folded) == jax.tree.map(jnp.shape, shapes)
    wanted = jax.jit(model.apply)(variables, image())
    found = jax.jit(other.apply)(folded, image())
    assert np.abs(found - wanted).max() <= 2e-5 * np.std(wanted)


def test_features_are_found_by_name():
    model, variables = made(TINY)
    found = zoo.features(model, variables, image(), "stage*")
    assert found["stage1_block0"].shape == (2, 4, 4, 6)
    assert found["stage2_block0/conv2/norm"].shape == (2, 2, 2, 8)
