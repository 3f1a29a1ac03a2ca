"""MobileNetV2, MobileNetV3, EfficientNet: maps and their sizes, folded norms, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
from zoo.errors import InputError
from zoo.models import efficientnet, mobilenet_v2, mobilenet_v3
from zoo.nn.conv_norm import fold
from zoo.weights import efficientnet as efficientnet_weights
from zoo.weights import mobilenet_v2 as mobilenet_v2_weights

KEY = jax.random.key(0)
V2 = mobilenet_v2.Config((1, 2), (6, 8), (1, 2), stem_width=5, features=9, num_classes=3,
                         image_size=16)  # fmt: skip
V3 = mobilenet_v3.Config((1, 2), (3, 5, 3), (6, 9, 10), (6, 8, 8), (True, False, True),
                         (False, True, True), (2, 2, 1), stem_width=6, last_width=9, features=10,
                         num_classes=3, image_size=16)  # fmt: skip
EFFICIENT = efficientnet.Config((1, 2), (6, 8), (3, 5), (1, 2), (1, 2), stem_width=5, features=9,
                                num_classes=3, image_size=16)  # fmt: skip


def image(height=16, width=16, channels=3):
    rng = np.random.default_rng(1)
    return rng.normal(size=(2, height, width, channels)).astype(np.float32)


@pytest.mark.parametrize(
    "cfg, sizes",
    [(V2, [(17, 25, 5), (17, 25, 6), (9, 13, 8)][1:]), (V3, [(17, 25, 6), (9, 13, 6), (5, 7, 9)]),
     (EFFICIENT, [(17, 25, 6), (9, 13, 8)])],
)  # fmt: skip
def test_a_pyramid_has_the_last_map_of_each_size(cfg, sizes):
    model = cfg.build("feature-pyramid")
    shapes = jax.eval_shape(lambda: model.init_with_output(KEY, image(33, 50))[0])
    assert [x.shape[1:] for x in shapes] == sizes


@pytest.mark.parametrize("cfg, width", [(V2, 9), (V3, 10), (EFFICIENT, 9)])
def test_images_as_small_as_one_pixel(cfg, width):
    model = dataclasses.replace(cfg, num_classes=0, global_pool="").build()
    assert model.task == "feature-extraction"
    found = jax.eval_shape(lambda: model.init_with_output(KEY, image(1, 2))[0])
    assert found.shape == (2, 1, 1, width)


def test_images_that_leave_no_map():
    model = dataclasses.replace(EFFICIENT, padding="ahead").build()
    with pytest.raises(InputError, match="too small for this network"):
        jax.eval_shape(model.init, KEY, image(1, 2))


@pytest.mark.parametrize(
    "cfg, changes, told",
    [
        (V2, {"widths": (6,)}, "differ in length"),
        (V2, {"strides": (1, 0)}, "at least 1"),
        (V2, {"expansion": 0.0}, "expansion is a number above 0"),
        (V2, {"padding": "valid"}, "padding is one of symmetric, same, ahead, not 'valid'"),
        (V2, {"global_pool": "median"}, "'median'"),
        (V2, {"num_classes": -1}, "num_classes is 0 or more"),
        (V2, {"global_pool": ""}, "needs num_classes and global_pool"),
        (V3, {"hidden": (6, 9)}, "has not one value for each block"),
        (V3, {"widths": (6, 0, 8)}, "at least 1"),
        (V3, {"activation": "mish"}, "mish"),
        (EFFICIENT, {"squeeze": 0.0}, "squeeze is a number above 0"),
        (EFFICIENT, {"kernel_sizes": (3, 3, 3)}, "differ in length"),
    ],
)
def test_what_cannot_be_built(cfg, changes, told):
    with pytest.raises(InputError, match=told):
        dataclasses.replace(cfg, **changes).build()


@pytest.mark.parametrize("cfg", [V2, V3, EFFICIENT])
def test_images_of_other_channels_are_refused(cfg):
    with pytest.raises(InputError, match="4 channels, the model 3"):
        jax.eval_shape(cfg.build().init, KEY, image(channels=4))


@pytest.mark.slow
def test_folded_and_frozen_norms():
    cfg = dataclasses.replace(EFFICIENT, epsilon=1e-3, padding="same")
    model = cfg.build()
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: model.init(KEY, image()))
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.9, leaf.shape).astype("f4"), shapes)
    wanted = jax.jit(model.apply)(variables, image())
    folded = fold(variables, cfg.epsilon)
    other = dataclasses.replace(cfg, folded=True).build()
    shapes = jax.eval_shape(lambda: other.init(KEY, image()))
    assert jax.tree.map(jnp.shape, folded) == jax.tree.map(jnp.shape, shapes)
    found = jax.jit(other.apply)(folded, image())
    assert np.abs(found - wanted).max() <= 2e-5 * np.abs(wanted).max()

    frozen = dataclasses.replace(cfg, frozen_norm=True).build()
    train = jax.jit(lambda v, x: frozen.apply(v, x, train=True, mutable=["batch_stats"]))
    found, updates = train(variables, image())
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    same = jax.tree.map(np.array_equal, updates["batch_stats"], variables["batch_stats"])
    assert jax.tree.all(same)


V2_VALUES = {"depth_multiplier": 0.1, "depth_divisible_by": 2, "min_depth": 4}
B0_VALUES = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}


@pytest.mark.parametrize(
    "table, values, told",
    [
        (mobilenet_v2_weights, {"output_stride": 16}, "output_stride 16"),
        (mobilenet_v2_weights, {"first_layer_is_expansion": False}, "first_layer_is_expansion"),
        (mobilenet_v2_weights, {"depth_multiplier": 0.0}, "cannot follow from"),
        (mobilenet_v2_weights, {"depth_divisible_by": 0}, "cannot follow from"),
        (
            mobilenet_v2_weights,
            {"expand_ratio": 0.25, "min_depth": 24},
            "blocks have other numbers of channels",
        ),
        (mobilenet_v2_weights, {"hidden_act": "mish"}, "mish"),
        (mobilenet_v2_weights, {"tf_padding": "yes"}, "tf_padding"),
        (efficientnet_weights, B0_VALUES | {"hidden_dim": 640}, "gives 1280"),
        (efficientnet_weights, B0_VALUES | {"in_channels": [16] * 7}, "in_channels must be"),
        (efficientnet_weights, B0_VALUES | {"strides": [1, 2]}, "differ in length"),
        (efficientnet_weights, B0_VALUES | {"expand_ratios": [1.5] * 7}, "no list of numbers"),
        (efficientnet_weights, B0_VALUES | {"pooling_type": "median"}, "pooling_type 'median'"),
        (efficientnet_weights, B0_VALUES | {"depth_divisor": 0}, "depth_divisor"),
    ],
)
def test_values_of_transformers_that_are_refused(table, values, told):
    with pytest.raises(InputError, match=told):
        table.read_config(values)


@pytest.mark.parametrize(
    "table, values",
    [
        (mobilenet_v2_weights, {}),
        (mobilenet_v2_weights, {"depth_multiplier": 1.4, "tf_padding": False}),
        (mobilenet_v2_weights, {"depth_multiplier": 0.35, "image_size": [96, 128]}),
        (mobilenet_v2_weights, V2_VALUES | {"expand_ratio": 2.5, "finegrained_output": False}),
        (efficientnet_weights, {}),
        (efficientnet_weights, B0_VALUES | {"depthwise_padding": [16], "pooling_type": "max"}),
        (efficientnet_weights, {"width_coefficient": 0.1, "depth_divisor": 2, "hidden_dim": 128}),
        (efficientnet_weights, {"width_coefficient": 1.2, "hidden_dim": 1536, "strides": [2] * 7}),
    ],
)
def test_configs_of_transformers_come_back(table, values):
    cfg = table.read_config(values)
    assert table.read_config(table.write_config(cfg, "feature-extraction")) == cfg


@pytest.mark.parametrize(
    "table, cfg, told",
    [
        (mobilenet_v2_weights, V2, "no mobilenet_v2 with depths"),
        (mobilenet_v2_weights, mobilenet_v2.Config(stem_width=7), "no depth_multiplier gives it"),
        (efficientnet_weights, EFFICIENT, "padding 'symmetric'"),
        (efficientnet_weights, efficientnet.Config(padding="ahead", stem_width=7), "gives them"),
    ],
)
def test_what_transformers_has_not_is_not_written(table, cfg, told):
    with pytest.raises(InputError, match=told):
        table.write_config(cfg, "feature-extraction")


def test_widths_of_the_published_sizes():
    assert zoo.create_model("efficientnet_b1").cfg.depths == (2, 3, 3, 4, 4, 5, 2)
    assert efficientnet.scaled(1.4, 1.8, 380).widths == (24, 32, 56, 112, 160, 272, 448)
    assert mobilenet_v2.scaled(0.35).widths == (8, 8, 16, 24, 32, 56, 112)
