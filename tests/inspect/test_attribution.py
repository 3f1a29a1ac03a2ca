"""Attribution by its axioms, on networks small enough to know the answer."""

import dataclasses

import draw
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.inspect import (
    attention_rollout,
    grad_cam,
    input_gradient,
    integrated_gradients,
    smooth_grad,
)
from zoo.inspect.attribution import scored
from zoo.models import bert, cnn, gpt2, llama, mlp, rnn, transformer

LAYERS = ("conv 6 3 padding=1", "batch_norm", "relu", "max_pool 2", "conv 8 3", "tanh", "dense 8",
          "relu")  # fmt: skip
TEXTS = {"vocab_size": 9, "width": 8, "depth": 2, "num_heads": 2, "hidden": 12, "max_length": 16}


def _made(config, task=None, seed=0, scale=0.5, **inputs):
    model = config.build(task)
    return model, draw.variables(model, **inputs, scale=scale, seed=seed), inputs


@pytest.fixture(scope="module")
def convolutions():
    config = cnn.Config(LAYERS, num_classes=4, image_size=9, channels=2)
    image = np.random.default_rng(1).normal(size=(2, 9, 7, 2)).astype(np.float32)
    model, variables, _ = _made(config, image=image)
    # Variances drawn as normal numbers would be negative.
    variables["batch_stats"] = jax.tree.map(jnp.abs, variables["batch_stats"])
    return model, variables, image


@pytest.fixture(scope="module")
def texts():
    ids = np.random.default_rng(2).integers(0, 9, (2, 5), np.int32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    config = bert.Config(**TEXTS, token_types=2, num_classes=3)
    return _made(config, "text-classification", input_ids=ids, attention_mask=mask)


def _difference(model, variables, inputs, target=None, at=None):
    """Score of each example less that of its baseline of zeros."""
    x, score = scored(model, variables, inputs, target, at)
    return score(x, variables, inputs) - score(jnp.zeros_like(x), variables, inputs)


@pytest.mark.slow
def test_the_input_gradient_is_that_of_the_chosen_score(convolutions):
    model, variables, image = convolutions
    logits = model.apply(variables, image)
    likely = jnp.argmax(logits, 1)
    for target in (2, np.array([3, 0])):
        expected = jax.grad(
            lambda x, t=target: model.apply(variables, x)[jnp.arange(2), jnp.asarray(t)].sum()
        )(jnp.asarray(image))
        for inputs in (image, (image,), {"image": image}):
            found = input_gradient(model, variables, inputs, target)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    best = input_gradient(model, variables, image)
    np.testing.assert_array_equal(best, input_gradient(model, variables, image, likely))
    own = input_gradient(model, variables, image, lambda logits: logits[:, 2])
    np.testing.assert_array_equal(own, input_gradient(model, variables, image, 2))


def test_an_inner_module_is_an_input_too(convolutions):
    model, variables, image = convolutions
    found = input_gradient(model, variables, image, 1, at="dense1")
    behind = variables["params"]["head"]["kernel"][:, 1]
    open_ = model.apply(variables, image, capture_intermediates=True, mutable=["intermediates"])[1]
    before = open_["intermediates"]["dense1"]["__call__"][0]
    np.testing.assert_allclose(found, (before > 0) * behind, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("at", [None, "conv2"])
def test_integrated_gradients_are_complete(convolutions, at):
    found = integrated_gradients(*convolutions, target=3, at=at, steps=512)
    difference = _difference(*convolutions, 3, at)
    gap = found.reshape(2, -1).sum(1) - difference
    assert np.abs(gap / difference).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "task"),
    [
        (bert.Config(**TEXTS | {"depth": 1}, num_classes=3), "text-classification"),
        (llama.Config(**TEXTS | {"depth": 1}, num_kv_heads=1, head_dim=4), None),
        (transformer.Config(**TEXTS | {"depth": 1}, num_classes=3), "text-classification"),
    ],
    ids=["bert", "llama", "transformer"],
)
def test_integrated_gradients_of_texts_are_complete_and_leave_padding_out(config, task):
    ids = np.random.default_rng(2).integers(0, 9, (2, 5), np.int32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    model, variables, inputs = _made(config, task, input_ids=ids, attention_mask=mask)
    found = integrated_gradients(model, variables, inputs, steps=256)
    assert found.shape == (2, 5, 8)
    difference = _difference(model, variables, inputs)
    assert np.abs((found.sum((1, 2)) - difference) / difference).max() < 1e-3
    assert not np.asarray(found[1, 3:]).any() and np.asarray(found[1, :3]).any((1,)).all()


@pytest.mark.slow
def test_recurrent_models_hold_their_tokens_in_time_order():
    ids = np.random.default_rng(2).integers(0, 7, (2, 5), np.int32)  # [B, T]
    config = rnn.Config(cell="gru", vocab_size=7, embedding=4, hidden=(6,), num_classes=3, length=5)
    model, variables, inputs = _made(config, "text-classification", inputs=ids)
    found = integrated_gradients(model, variables, inputs)
    assert found.shape == (5, 2, 4)
    difference = _difference(model, variables, inputs)
    np.testing.assert_allclose(found.sum((0, 2)), difference, rtol=1e-3)


class Saturated(nn.Module):
    """``1 - relu(1 - a)``, and ``b`` counts for nothing: the paper's example."""

    @nn.compact
    def __call__(self, features, train=False):
        return 1 - nn.relu(1 - features[:, :1]) + 0 * features[:, 1:]


def test_integrated_gradients_are_sensitive_where_a_gradient_is_not():
    given = Saturated(), {"params": {}}, np.array([[2.0, 5.0], [0.5, -3.0]], np.float32)
    assert not np.asarray(input_gradient(*given)[0]).any()
    found = integrated_gradients(*given)
    np.testing.assert_allclose(found[:, 0], [1.0, 0.5], rtol=1e-3)
    np.testing.assert_array_equal(found[:, 1], 0)  # what counts for nothing gets nothing


def test_attributions_do_not_depend_on_how_a_function_is_computed():
    config = mlp.Config(input_shape=(5,), widths=(6, 4), num_classes=3)
    x = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
    model, variables, _ = _made(config, features=x)
    # Every hidden unit of the second layer twice, each counting half, and in another order.
    params = jax.tree.map(np.asarray, variables["params"])
    order = np.random.default_rng(4).permutation(8) % 4
    twice = {
        "dense1": params["dense1"],
        "dense2": {k: v[..., order] for k, v in params["dense2"].items()},
        "head": {"kernel": params["head"]["kernel"][order] / 2, "bias": params["head"]["bias"]},
    }
    wide = dataclasses.replace(config, widths=(6, 8)).build()
    np.testing.assert_allclose(
        wide.apply({"params": twice}, x), model.apply(variables, x), rtol=1e-5
    )
    for method in (input_gradient, integrated_gradients):
        one, other = method(model, variables, x, 1), method(wide, {"params": twice}, x, 1)
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_smooth_gradients_are_the_mean_over_noise(convolutions):
    key = jax.random.key(5)
    plain = smooth_grad(*convolutions, key, target=1, noise=0.0, samples=3)
    np.testing.assert_allclose(plain, input_gradient(*convolutions, 1), rtol=1e-4, atol=1e-6)
    # Of relu at 0 the smoothed gradient is one half, of a line it is the line's own.
    line = np.array([[1.0, 0.0], [1.0, 2.0]], np.float32)
    found = smooth_grad(Saturated(), {"params": {}}, line, key, samples=512)
    np.testing.assert_allclose(found[:, 0], [0.5, 0.5], atol=0.07)
    again = smooth_grad(*convolutions, key, target=1, samples=17)
    np.testing.assert_array_equal(again, smooth_grad(*convolutions, key, target=1, samples=17))
    assert np.abs(np.asarray(again - plain)).max() > 0


class Spots(nn.Module):
    """Class 0 counts bright pixels, class 1 dark ones, by one convolution each."""

    @nn.compact
    def __call__(self, image, train=False):
        maps = nn.Conv(2, (1, 1), name="maps")(image)
        return nn.relu(maps).mean((1, 2))


def test_grad_cam_finds_the_pixels_of_each_class():
    image = np.zeros((1, 6, 4, 1), np.float32)
    image[0, 1, 2], image[0, 4, 0] = 3.0, -2.0
    params = {"maps": {"kernel": np.array([[[[1.0, -1.0]]]], np.float32), "bias": np.zeros(2)}}
    for target, place, value in ((0, (1, 2), 3 / 24 / 24), (1, (4, 0), 2 / 24 / 24)):
        found = np.asarray(grad_cam(Spots(), {"params": params}, image, target))
        assert found.shape == (1, 6, 4) and (found >= 0).all()
        assert np.unravel_index(found[0].argmax(), (6, 4)) == place
        np.testing.assert_allclose(found.sum(), value, rtol=1e-5)


def test_grad_cam_takes_the_last_maps_or_those_named(convolutions):
    found = grad_cam(*convolutions, 1)
    assert found.shape == (2, 9, 7)
    np.testing.assert_array_equal(found, grad_cam(*convolutions, 1, at="conv2"))
    assert np.abs(np.asarray(grad_cam(*convolutions, 1, at="norm1") - found)).max() > 0
    with pytest.raises(InputError, match="dense1 gives"):
        grad_cam(*convolutions, 1, at="dense1")


def test_attention_rollout_by_hand(texts):
    model, variables, inputs = texts
    found = attention_rollout(model, variables, inputs)
    kept = model.apply(variables, **inputs, capture_intermediates=True, mutable=["intermediates"])
    layers = [
        np.asarray(kept[1]["intermediates"][f"layer{i}"]["attention"]["weights"]["__call__"][0])
        for i in range(2)
    ]
    steps = [0.5 * layer.mean(1) + 0.5 * np.eye(5) for layer in layers]
    np.testing.assert_allclose(found, steps[1] @ steps[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    assert not np.asarray(found[1, :3, 3:]).any()  # padding reaches no token that counts


@pytest.mark.parametrize(
    "config",
    [gpt2.Config(9, 8, 2, 2, max_length=16),
     llama.Config(**TEXTS, num_kv_heads=1, head_dim=4)],
    ids=["gpt2", "llama"],
)  # fmt: skip
def test_rollout_of_causal_models_never_looks_ahead(config):
    ids = np.arange(6, dtype=np.int32)[None]
    found = np.asarray(attention_rollout(*_made(config, input_ids=ids)))
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    assert not np.triu(found[0], 1).any() and found[0, 5].all()


def test_what_cannot_be_done_is_said(convolutions, texts):
    model, variables, image = convolutions
    for arguments, message in [
        ({"target": 4}, "no class 4; classes are 0 to 3"),
        ({"at": "conv9"}, "no module matches 'conv9' .nearest: conv"),
        ({"at": "conv*"}, "name one module"),
    ]:
        with pytest.raises(InputError, match=message):
            input_gradient(model, variables, image, **arguments)
    with pytest.raises(InputError, match="at least 16 steps"):
        integrated_gradients(model, variables, image, steps=0)
    with pytest.raises(InputError, match="the baseline is"):
        integrated_gradients(model, variables, image, baseline=np.zeros(3))
    with pytest.raises(InputError, match="samples is at least 1"):
        smooth_grad(model, variables, image, jax.random.key(0), samples=0)
    with pytest.raises(InputError, match="no attention weights"):
        attention_rollout(model, variables, image)
    flat = np.zeros((1, 4), np.float32)
    small, drawn, _ = _made(mlp.Config(input_shape=(4,), widths=(3,)), features=flat)
    with pytest.raises(InputError, match="feature maps"):
        grad_cam(small, drawn, flat.reshape(1, 2, 2, 1))
    with pytest.raises(InputError, match="Grad-CAM takes images"):
        grad_cam(small, drawn, flat)
    pooled = bert.Config(**TEXTS).build("feature-extraction")
    with pytest.raises(InputError, match="PooledOutput; as target give a function"):
        input_gradient(pooled, texts[1], texts[2])
    found = input_gradient(pooled, texts[1], texts[2], lambda out: out.pooler_output[:, 0])
    assert found.shape == (2, 5, 8)


@pytest.mark.slow
def test_they_are_pure_functions_and_can_be_compiled(convolutions):
    model, variables, image = convolutions
    for function in (input_gradient, integrated_gradients, grad_cam):
        compiled = jax.jit(lambda v, x, f=function: f(model, v, x, 1))(variables, image)
        np.testing.assert_allclose(
            compiled, function(model, variables, image, 1), rtol=1e-3, atol=1e-5
        )
