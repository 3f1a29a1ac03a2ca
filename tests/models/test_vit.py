"""What Vision Transformers promise beside what holds for every model."""

import dataclasses

import draw
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models import deit, dinov2, vit

SMALL = dict(image_size=(4, 6), patch_size=2, width=8, depth=2, num_heads=2, hidden=12)
CONFIGS = {
    "vit": vit.Config(**SMALL, num_classes=3),
    "deit": deit.Config(**SMALL, num_classes=3),
    "dinov2": dinov2.Config(**SMALL, num_classes=3),
}
IMAGE = np.random.default_rng(0).normal(size=(3, 4, 6, 3)).astype(np.float32)


def made(name, task="image-classification", **changes):
    config = dataclasses.replace(CONFIGS[name], **changes)
    model = config.build(task)
    return model, draw.variables(model, **config.inputs())


SPECIAL = {"vit": 1, "deit": 2, "dinov2": 1}
TOKENS = {"vit": {"global_pool": ""}, "deit": {"pooler": "tanh"}, "dinov2": {}}
"""What makes the features those of all tokens."""


@pytest.mark.parametrize("name", CONFIGS)
def test_any_size_of_a_patch_or_more(name):
    model, variables = made(name, "feature-extraction", **TOKENS[name])

    def tokens(height, width):
        image = jnp.ones((1, height, width, 3))
        found = jax.eval_shape(model.apply, variables, image)
        return getattr(found, "last_hidden_state", found).shape[1] - SPECIAL[name]

    assert [tokens(4, 6), tokens(6, 4), tokens(2, 2), tokens(9, 7)] == [6, 6, 1, 12]
    with pytest.raises(InputError, match="an image of 8x1 has no patch of 2x2"):
        tokens(8, 1)
    with pytest.raises(InputError, match="images have 4 channels, the model 3"):
        model.apply(variables, np.ones((1, 4, 6, 4), np.float32))


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_beside_the_patches_is_not_looked_at(name):
    model, variables = made(name)
    apply = jax.jit(model.apply)
    wider = np.pad(IMAGE, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=7)
    np.testing.assert_array_equal(apply(variables, wider), apply(variables, IMAGE))


@pytest.mark.parametrize("name", CONFIGS)
def test_positions_tell_patches_apart(name):
    model, variables = made(name)
    apply = jax.jit(model.apply)
    swapped = np.concatenate([IMAGE[:, 2:], IMAGE[:, :2]], axis=1)
    assert np.abs(apply(variables, swapped) - apply(variables, IMAGE)).max() > 1e-3
    tokens = variables["params"]["tokens"]
    none = tokens | {"positions": jnp.zeros_like(tokens["positions"])}
    blind = {"params": variables["params"] | {"tokens": none}}
    np.testing.assert_allclose(apply(blind, swapped), apply(blind, IMAGE), atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_learned_positions_get_gradients_at_other_sizes(name):
    model, variables = made(name)
    image = np.random.default_rng(1).normal(size=(1, 8, 4, 3)).astype(np.float32)

    @jax.jit
    def loss(params):
        return (model.apply({"params": params}, image) ** 2).sum()

    gradient = jax.grad(loss)(variables["params"])["tokens"]["positions"]
    assert gradient.shape[0] == 6 + SPECIAL[name]
    assert (np.abs(gradient).max(axis=1) > 0).all()


@pytest.mark.parametrize("name", ["vit", "deit"])
def test_no_classes_are_features(name):
    model, variables = made(name, **({"distilled": False} if name == "deit" else {}))
    bare = dataclasses.replace(model.cfg, num_classes=0).build()
    assert bare.task == "feature-extraction"
    params = dict(variables["params"])
    head = params.pop("head")
    features = bare.apply({"params": params}, IMAGE)
    wanted = model.apply(variables, IMAGE)
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], wanted, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_cannot_be_is_refused(name):
    for changes, message in (
        ({"num_heads": 3}, "3 heads do not divide a width of 8"),
        ({"activation": "swoosh"}, "unknown activation"),
        ({"image_size": (1, 6)}, "an image of 1x6 has no patch"),
        ({"patch_size": 0}, "no patch of 0x0"),
        ({"num_classes": 0}, "image-classification needs num_classes of 1 or more, not 0"),
    ):
        with pytest.raises(InputError, match=message):
            made(name, **changes)


def test_vit_pools():
    classify, whole = made("vit", global_pool="")
    params = dict(whole["params"])
    head = params.pop("head")
    tokens = made("vit", "feature-extraction", global_pool="")[0].apply({"params": params}, IMAGE)
    every = classify.apply(whole, IMAGE)
    assert every.shape == (3, 7, 3)
    np.testing.assert_allclose(every, tokens @ head["kernel"] + head["bias"], atol=1e-4)
    by_token = made("vit")[0].apply(whole, IMAGE)
    np.testing.assert_allclose(by_token, every[:, 0], atol=1e-5)
    mean = made("vit", global_pool="avg")[0]
    assert np.abs(mean.apply(whole, IMAGE) - every[:, 1:].mean(1)).max() > 1e-3  # normalised after
    with pytest.raises(InputError, match="no global_pool 'mean'; there are 'token', 'avg', ''"):
        made("vit", global_pool="mean")


@pytest.mark.parametrize("name", ["vit", "deit"])
def test_pooler(name):
    model, variables = made(name, "feature-extraction", pooler="tanh", pooler_width=5)
    found = model.apply(variables, IMAGE)
    pooler = variables["params"]["pooler"]
    wanted = np.tanh(found.last_hidden_state[:, 0] @ pooler["kernel"] + pooler["bias"])
    assert found.pooler_output.shape == (3, 5)
    np.testing.assert_allclose(found.pooler_output, wanted, atol=1e-5)


def test_deit_keeps_its_heads_apart_for_a_teacher():
    model, variables = made("deit")
    apart, same = made("deit", averaged=False)
    found = apart.apply(variables, IMAGE)
    assert jax.tree.structure(same) == jax.tree.structure(variables)
    np.testing.assert_allclose(found.logits, model.apply(variables, IMAGE), atol=1e-6)
    mean = (found.cls_logits + found.distillation_logits) / 2
    np.testing.assert_allclose(found.logits, mean, atol=1e-6)
    one, fewer = made("deit", distilled=False)
    params = {key: variables["params"][key] for key in fewer["params"]}
    np.testing.assert_allclose(one.apply({"params": params}, IMAGE), found.cls_logits, atol=1e-6)


def test_dinov2_hides_patches():
    model, variables = made("dinov2", "feature-extraction")
    hidden = np.zeros((3, 6), bool)
    seen = model.apply(variables, IMAGE).last_hidden_state
    np.testing.assert_array_equal(model.apply(variables, IMAGE, hidden).last_hidden_state, seen)
    hidden[1, 2] = True  # the upper right patch
    other = IMAGE.copy()
    other[1, :2, 4:] = 9
    a, b = (model.apply(variables, x, hidden).last_hidden_state for x in (IMAGE, other))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(a[::2], seen[::2], atol=1e-6)
    assert np.abs(a[1] - seen[1]).max() > 1e-3
    with pytest.raises(InputError, match="this model has no mask_token"):
        made("dinov2", mask_token=False)[0].apply(variables, IMAGE, hidden)


@pytest.mark.parametrize("name", CONFIGS)
def test_stochastic_depth_leaves_out_whole_examples(name):
    model, variables = made(name, drop_path=1.0, depth=1)
    apply = jax.jit(lambda v, x: model.apply(v, x, train=True, rngs={"dropout": jax.random.key(0)}))
    found = apply(variables, IMAGE)
    params = dict(variables["params"])
    if name == "dinov2":  # the same rate in every layer; in the others it rises from 0
        layer = params["layer0"]
        scales = {key: jnp.zeros_like(layer[key]) for key in ("attention_scale", "mlp_scale")}
        params["layer0"] = layer | scales
    np.testing.assert_allclose(found, model.apply({"params": params}, IMAGE), atol=1e-5)
