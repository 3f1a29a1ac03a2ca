"""ConvNeXt: maps and their sizes, scales, what is refused, folders of other fields."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
from zoo.errors import InputError
from zoo.models import convnext
from zoo.weights import convnext as table
from zoo.weights import timm

KEY = jax.random.key(0)
TINY = convnext.Config((1, 1), (6, 8), num_classes=3, image_size=16)


def image(height=16, width=16, channels=3):
    return np.zeros((2, height, width, channels), np.float32)


def shapes(cfg, task, *size):
    model = cfg.build(task)
    found = jax.eval_shape(lambda: model.init_with_output(KEY, image(*size))[0])
    return [x.shape for x in found] if isinstance(found, tuple) else found.shape


def test_maps_and_features():
    assert shapes(TINY, "feature-pyramid", 33, 50) == [(2, 8, 12, 6), (2, 4, 6, 8)]
    bare = dataclasses.replace(TINY, num_classes=0)
    assert bare.build().task == "feature-extraction"
    assert shapes(bare, None, 8, 30) == (2, 8)
    assert shapes(dataclasses.replace(bare, global_pool=""), None, 8, 30) == (2, 1, 3, 8)


def test_scales_start_small_and_may_be_left_out():
    small = convnext.Config((1,), (2,), 1, 1, image_size=1, num_classes=0).build()
    params = zoo.init(small, KEY)["params"]["stage1_block0"]
    np.testing.assert_array_equal(params["scale"], np.full(2, 1e-6, np.float32))
    without = dataclasses.replace(TINY, layer_scale=0.0).build()
    shapes = jax.eval_shape(without.init, KEY, image())
    assert "scale" not in shapes["params"]["stage1_block0"]


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"depths": (1,)}, "differ in length"),
        ({"widths": (6, 0)}, "at least 1"),
        ({"kernel_size": 4}, "must be odd, not 4"),
        ({"layer_scale": -1.0}, "layer_scale and"),
        ({"global_pool": "catavgmax"}, "'catavgmax'"),
        ({"activation": "mish"}, "mish"),
        ({"global_pool": ""}, "needs num_classes and global_pool"),
        ({"image_size": 7}, "images of 7x7 are too small; the smallest are 8x8"),
    ],
)
def test_what_cannot_be_built(changes, told):
    with pytest.raises(InputError, match=told):
        dataclasses.replace(TINY, **changes).build()


def test_images_that_do_not_fit():
    with pytest.raises(InputError, match="4 channels, the model 3"):
        jax.eval_shape(TINY.build().init, KEY, image(channels=4))
    with pytest.raises(InputError, match="images of 40x7 are too small; the smallest are 8x8"):
        jax.eval_shape(TINY.build().init, KEY, image(40, 7))


def test_configs_of_transformers():
    base = {"model_type": "convnext", "architectures": ["ConvNextForImageClassification"]}
    silent = table.read_config(base)
    tiny = convnext.SIZES["convnext_tiny"].config
    assert silent == dataclasses.replace(tiny, final_epsilon=1e-12, num_classes=2)
    for cfg in (silent, TINY, dataclasses.replace(TINY, layer_scale=0.0, activation="silu")):
        written = json.loads(json.dumps(table.write_config(cfg, "image-classification")))
        assert table.read_config(written) == dataclasses.replace(cfg, num_classes=2)
    for changes, told in (
        ({"depths": 3}, "depths 3 is no list"),
        ({"num_stages": 3}, "num_stages is 3, and depths has 4"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps must be above 0"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"hidden_act": "mish"}, "'mish' is not implemented"),
    ):
        with pytest.raises(InputError, match=told):
            table.read_config(base | changes)
    with pytest.raises(InputError, match="transformers has no convnext with kernel_size 3"):
        table.write_config(dataclasses.replace(TINY, kernel_size=3), "feature-extraction")


def test_arguments_of_timm():
    family = timm.families()["convnext"]

    def read(**arguments):
        values = {"architecture": "convnext_tiny", "model_args": arguments, "pretrained_cfg": {}}
        return timm.read_config(family, values)

    assert read() == read(ls_init_value=1e-6, norm_eps=None) == convnext.Config()
    second = read(ls_init_value=None, use_grn=True)
    assert second == family.ARCHITECTURES["convnextv2_tiny"] and second.layer_scale == 0.0
    written = timm.write_config(family, dataclasses.replace(convnext.Config(), layer_scale=0.0))
    assert written["model_args"]["ls_init_value"] is None
    for arguments, told in (
        ({"ls_init_value": 0.0}, "timm's ls_init_value 0 is not implemented, only null"),
        ({"patch_size": 2}, "patch_size 2 is not here, only with 1, 3, 4"),
        ({"depths": [1, 1]}, "has four stages"),
        ({"kernel_sizes": [7, 7, 5, 5]}, "kernel_size is of type int"),
        ({"conv_mlp": True}, "conv_mlp True is not implemented, only False"),
        ({"head_hidden_size": 5}, "head_hidden_size 5"),
        ({"norm_layer": "rmsnorm"}, "norm_layer 'rmsnorm'"),
        ({"output_stride": 16}, "output_stride 16"),
    ):
        with pytest.raises(InputError, match=told):
            read(**arguments)


def test_a_channel_without_response_has_a_gradient():
    x = jnp.ones((1, 2, 2, 3)).at[..., 0].set(0.0)
    norm = convnext.ResponseNorm()
    params = {"params": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}}
    found, back = jax.vjp(lambda x: norm.apply(params, x), x)
    np.testing.assert_allclose(found[0, 0, 0], [0.0, 2.5, 2.5], rtol=1e-6)
    assert np.isfinite(back(jnp.ones_like(found))[0]).all()


def test_timm_opens_no_pyramid_without_its_norm(tmp_path):
    model = TINY.build("feature-pyramid")
    variables = {"params": {}}
    with pytest.raises(
        InputError, match="timm has no convnext without .*, and not for feature-pyramid"
    ):
        zoo.save_pretrained(tmp_path, model, variables, format="timm")
