"""Swin: windows and their shifts, maps and their sizes, what is refused, other folders."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models import swin
from zoo.nn import windows
from zoo.weights import swin as table
from zoo.weights import timm
from zoo.weights.positions import RelativePositions

KEY = jax.random.key(0)
TINY = swin.Config(24, 4, 3, 8, (2, 2), (2, 4), 4, num_classes=3)
THEIRS = dataclasses.replace(TINY, as_transformers=True, window_size=3)


def image(height=24, width=24, channels=3):
    return np.zeros((2, height, width, channels), np.float32)


def shapes(cfg, task, *size):
    model = cfg.build(task)
    found = jax.eval_shape(lambda: model.init_with_output(KEY, image(*size))[0])
    return [x.shape for x in found] if isinstance(found, tuple) else found.shape


def test_windows_are_no_larger_than_the_maps_they_are_made_for():
    oblong = dataclasses.replace(TINY, image_size=(24, 33))
    assert oblong.maps == ((6, 8), (3, 4))
    assert oblong.windows == ((4, 4), (3, 4))
    assert [oblong.shift(stage, oblong.maps[stage]) for stage in (0, 1)] == [(2, 2), (0, 0)]
    assert dataclasses.replace(oblong, image_size=(16, 80)).shift(0, (4, 20)) == (0, 2)
    assert dataclasses.replace(TINY, window_size=((2, 3), (9, 1))).windows == ((2, 3), (3, 1))
    assert THEIRS.windows == ((3, 3), (3, 3))
    assert [THEIRS.shift(0, size) for size in ((3, 9), (4, 9))] == [(0, 0), (1, 1)]


def test_maps_and_features_of_any_size():
    assert shapes(TINY, "feature-pyramid", 33, 50) == [(2, 8, 12, 8), (2, 4, 6, 16)]
    padded = [(2, 9, 13, 8), (2, 5, 7, 16)]
    assert shapes(THEIRS, "feature-pyramid", 33, 50) == padded
    bare = dataclasses.replace(TINY, num_classes=0)
    assert bare.build().task == "feature-extraction"
    assert shapes(bare, None, 4, 30) == (2, 16)
    last = dataclasses.replace(bare, global_pool="")
    assert shapes(last, None, 4, 30) == (2, 1, 4, 16)


def test_splitting_and_joining():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    cut = windows.split(x, (2, 3))
    assert cut.shape == (8, 6, 3)
    np.testing.assert_array_equal(cut[5], x[1, :2, 3:].reshape(6, 3))
    np.testing.assert_array_equal(windows.join(cut, (2, 3), (4, 6)), x)
    np.testing.assert_array_equal(windows.merge_patches(x)[0, 1, 2], x[0, 2:, 4:].transpose(
        1, 0, 2).reshape(-1))  # fmt: skip
    assert windows.merge_patches(x[:, :3, :5]).shape == (2, 2, 3, 12)


def test_tokens_from_the_other_side_are_strangers():
    """A rolled map of the places themselves: neighbours in a window were neighbours before."""
    size, window, shift = (6, 8), (3, 4), (1, 2)
    places = jnp.stack(jnp.meshgrid(*map(jnp.arange, size), indexing="ij"), -1)[None]
    rolled = jnp.roll(places, (-1, -2), (1, 2)).astype(float)
    cut = np.asarray(windows.split(rolled, window))
    far = np.abs(cut[:, :, None] - cut[:, None]) >= np.array(window)
    np.testing.assert_array_equal(windows.strangers(size, window, shift), far.any(-1))


def test_a_window_sees_nothing_of_another():
    """Until a block shifts the map."""
    cfg = swin.Config(16, 4, 1, 4, (1,), (2,), 2, num_classes=0, global_pool="")
    model = cfg.build()

    @jax.jit
    def seen(key, x):
        variables = model.init(key, x)
        return jax.grad(lambda x: model.apply(variables, x)[0, 0, 0, 0])(x)

    found = np.abs(seen(KEY, jax.random.normal(KEY, (1, 16, 16, 1))))[0, ..., 0] > 0
    assert found[:8, :8].any() and not found[8:].any() and not found[:, 8:].any()


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"depths": (1,)}, "differ in length"),
        ({"width": 0}, "at least 1"),
        ({"num_heads": (2, 3)}, "3 heads do not divide the width 16 of stage 2"),
        ({"window_size": 0}, "windows must be at least 1x1, not 0"),
        ({"window_size": ((2, 2),)}, "1 windows are not one for each of 2 stages"),
        ({"mlp_ratio": 0.1}, "mlp_ratio must leave a feature"),
        ({"global_pool": "median"}, "'median'"),
        ({"activation": "mish"}, "mish"),
        ({"global_pool": ""}, "needs global_pool"),
        ({"image_size": 3}, "an image of 3x3 has no patch of 4x4"),
        ({"image_size": 10**6}, "makes 250000x250000 tokens, and the masks of their shifted"),
    ],
)
def test_what_cannot_be_built(changes, told):
    with pytest.raises(InputError, match=told):
        dataclasses.replace(TINY, **changes).build()
    with pytest.raises(InputError, match="needs num_classes"):
        dataclasses.replace(TINY, num_classes=0).build("image-classification")


def test_images_that_do_not_fit():
    with pytest.raises(InputError, match="4 channels, the model 3"):
        jax.eval_shape(TINY.build().init, KEY, image(channels=4))
    with pytest.raises(InputError, match="an image of 40x3 has no patch of 4x4"):
        jax.eval_shape(TINY.build().init, KEY, image(40, 3))
    with pytest.raises(InputError, match="the map of stage 2 is 2x5, smaller than its windows"):
        jax.eval_shape(THEIRS.build().init, KEY, image(16, 40))


def test_configs_of_transformers():
    base = {"model_type": "swin", "architectures": ["SwinForImageClassification"]}
    silent = table.read_config(base)
    tiny = swin.SIZES["swin_tiny_patch4_window7_224"].config
    assert silent == dataclasses.replace(tiny, as_transformers=True, num_classes=2)
    oblong = dataclasses.replace(THEIRS, image_size=(20, 30), activation="silu", qkv_bias=False)
    for cfg in (silent, THEIRS, oblong):
        written = json.loads(json.dumps(table.write_config(cfg, "image-classification")))
        assert table.read_config(written) == dataclasses.replace(cfg, num_classes=2)
    for changes, told in (
        ({"depths": 3}, "depths 3 is no list"),
        ({"window_size": [7, 7]}, r"window_size is \[7, 7\]; it must be of type int"),
        ({"use_absolute_embeddings": True}, "use_absolute_embeddings True is not implemented"),
        ({"image_size": 0}, "image_size is 0"),
        ({"hidden_act": "mish"}, "'mish' is not implemented"),
    ):
        with pytest.raises(InputError, match=told):
            table.read_config(base | changes)
    for cfg in (TINY, dataclasses.replace(THEIRS, window_size=(2, 3))):
        with pytest.raises(InputError, match="transformers has Swin only as_transformers"):
            table.write_config(cfg, "feature-extraction")


def test_arguments_of_timm():
    family = timm.families()["swin"]

    def read(**arguments):
        values = {"architecture": "swin_tiny_patch4_window7_224", "model_args": arguments}
        return timm.read_config(family, values | {"pretrained_cfg": {}})

    assert read() == swin.SIZES["swin_tiny_patch4_window7_224"].config
    assert read(window_size=[2, 2]).window_size == 2
    assert read(window_size=[2, 3]).window_size == (2, 3)
    assert read(window_size=[2, [3, 4], 5, 6]).window_size == ((2, 2), (3, 4), (5, 5), (6, 6))
    assert read(dynamic_img_size=True, img_size=[30, 40]).image_size == (30, 40)
    for arguments, told in (
        ({"always_partition": True}, "always_partition True is not implemented, only False"),
        ({"proj_drop_rate": 0.1}, "proj_drop_rate 0.1"),
        ({"head_dim": 16}, "head_dim 16"),
        ({"mlp_ratio": [4, 4, 4, 4]}, "mlp_ratio is of type float"),
        ({"window_size": "large"}, "argument window_size is 'large'; it must be"),
        ({"norm_layer": "rmsnorm"}, "norm_layer 'rmsnorm'"),
    ):
        with pytest.raises(InputError, match=told):
            read(**arguments)
    with pytest.raises(InputError, match="timm has no swin with as_transformers True"):
        timm.write_config(family, THEIRS)


def test_positions_fit_other_windows():
    table = np.random.default_rng(0).normal(size=(5 * 7, 2)).astype(np.float32)
    same = RelativePositions("t", "p", window=(3, 4))
    np.testing.assert_array_equal(same.read([table])[0], table)
    other = RelativePositions("t", "p", window=(5, 2), saved=(3, 4))
    (found,) = other.read([table])
    assert other.shapes([table.shape]) == [found.shape] == [(9 * 3, 2)]
    np.testing.assert_allclose(found.reshape(9, 3, 2)[4, 1], table.reshape(5, 7, 2)[2, 3])
    damaged = RelativePositions("t", "p", window=(5, 2), saved=(3, 3))
    assert damaged.shapes([table.shape]) == [table.shape]  # which does not fit, and is told
