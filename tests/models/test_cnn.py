"""The layer language of plain convolutional networks, and images that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.errors import InputError
from zoo.models.cnn import Config, Layer, parse

KEY = jax.random.key(0)


def test_layers_are_read_with_their_defaults():
    assert parse("conv 64 3") == Layer("conv", 64.0, window=3)
    assert parse("conv 8 5 stride=2 padding=1 bias=0") == Layer("conv", 8.0, 5, 2, 1, 0)
    assert parse("max_pool 3") == Layer("max_pool", window=3, stride=3)
    assert parse("dropout 0.5") == Layer("dropout", 0.5)


@pytest.mark.parametrize(
    "layer, message",
    [
        ("", "cannot read the layer ''"),
        ("convolution 3 3", "cannot read the layer"),
        ("conv 3", "cannot read the layer"),
        ("conv 3 3 3", "cannot read the layer"),
        ("conv 3 3 pad=1", "cannot read the layer"),
        ("dense 3 stride=1", "cannot read the layer"),
        ("dense three", "cannot read the layer"),
        ("dense 2.5", "2.5 is out of range"),
        ("dense inf", "inf is out of range"),
        ("conv 0 3", "0 is out of range"),
        ("conv 3 3 stride=0", "at least 1"),
        ("max_pool 2 padding=2", "at most half the window"),
        ("dropout 1.5", "1.5 is out of range"),
    ],
)
def test_a_layer_that_cannot_be_read_is_one_error(layer, message):
    with pytest.raises(InputError, match=message):
        Config(layers=(layer,)).build()


def test_an_image_layer_after_a_dense_one_is_an_error():
    with pytest.raises(InputError, match="'max_pool 2' needs an image"):
        Config(layers=("dense 3", "relu", "max_pool 2")).build()


@pytest.mark.parametrize("name, smallest", [("alexnet", 63), ("lenet5", 12)])
def test_too_small_images_are_one_error_with_the_smallest_size(name, smallest):
    with pytest.raises(InputError, match=f"the smallest are {smallest}x{smallest}"):
        zoo.create_model(name, image_size=smallest - 1)
    model = zoo.create_model(name, image_size=smallest)
    jax.eval_shape(lambda inputs: model.init(KEY, **inputs), model.cfg.inputs())
    image = jnp.zeros((1, smallest, smallest - 1, model.cfg.channels))
    with pytest.raises(InputError, match=f"images of {smallest}x{smallest - 1} are too small"):
        jax.eval_shape(lambda image: model.init(KEY, image), image)


def test_wrong_number_of_channels_is_one_error():
    with pytest.raises(InputError, match="images have 3 channels, the model 1"):
        jax.eval_shape(lambda: zoo.create_model("lenet5").init(KEY, jnp.zeros((1, 28, 28, 3))))


@pytest.mark.parametrize("height, width", [(63, 63), (224, 300), (130, 97)])
def test_networks_with_adaptive_pooling_take_images_of_any_size(height, width):
    model = zoo.create_model("alexnet")
    variables = jax.eval_shape(lambda inputs: model.init(KEY, **inputs), model.cfg.inputs())
    image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    assert jax.eval_shape(model.apply, variables, image).shape == (2, 1000)


def test_batch_norm_statistics_move_in_training_only():
    config = Config(("conv 4 3 bias=0", "batch_norm", "relu"), num_classes=2, image_size=5)
    model = config.build()
    variables = zoo.init(model, KEY)
    image = jax.random.normal(KEY, (8, 5, 5, 1))
    _, inference = jax.jit(lambda v: model.apply(v, image, mutable=["batch_stats"]))(variables)
    jax.tree.map(np.testing.assert_array_equal, inference["batch_stats"], variables["batch_stats"])
    train = jax.jit(lambda v: model.apply(v, image, train=True, mutable=["batch_stats"]))
    _, training = train(variables)
    assert not np.array_equal(training["batch_stats"]["norm1"]["mean"], np.zeros(4))
