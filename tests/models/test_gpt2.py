"""GPT-2: transformers' numbers, causality, padding, cache, classes, errors."""

import dataclasses
import functools

import draw
import flax.linen as nn
import gpt2_layout as layout
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.weights import gpt2

CONFIG = dataclasses.replace(gpt2.read_config(layout.CONFIGS["odd"]), max_length=12)
MODEL = CONFIG.build()
IDS = np.random.default_rng(0).integers(0, 31, (3, 8), dtype=np.int32)
MASK = np.array([[1] * 8, [0] * 3 + [1] * 5, [0] * 7 + [1]], np.int32)


@pytest.fixture(scope="module")
def variables():
    return draw.variables(MODEL, **CONFIG.inputs(), scale=0.4)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-5), ("float64", 1e-10)])
def test_logits_are_those_of_transformers(dtype, tolerance):
    frozen = layout.load()
    cfg, inputs = gpt2.read_config(layout.CONFIGS["odd"]), frozen["logits"]
    weights = {name: x.astype(dtype) for name, x in frozen["weight"].items()}
    mask, want = inputs["attention_mask"], inputs["output"]
    with jax.enable_x64(dtype == "float64"):
        params = layout.read(cfg, "text-generation", weights)
        model = cfg.build(dtype=dtype, param_dtype=dtype)
        got = jax.jit(model.apply)({"params": params}, inputs["input_ids"], mask, inputs["types"])
        assert got.dtype == dtype
        error = np.abs(got - want)[mask == 1].max()
    assert error <= tolerance * want[mask == 1].std()
    back = layout.write(cfg, "text-generation", params)
    assert back.keys() == weights.keys()
    assert all(back[name].tobytes() == weights[name].tobytes() for name in weights)


def test_a_token_depends_on_no_later_one(variables):
    def logits(shift):
        """The embeddings moved place by place; the rest of the model as it is."""

        def watch(call, args, kwargs, context):
            result = call(*args, **kwargs)
            return result + shift if context.module.name == "embed_dropout" else result

        with nn.intercept_methods(watch):
            return MODEL.apply(variables, IDS)[0].sum(-1)

    jacobian = jax.jit(jax.jacobian(logits))(jnp.zeros((3, 8, CONFIG.width)))
    depends = np.abs(jacobian[:, 0]).max(-1) > 0
    np.testing.assert_array_equal(depends, np.tril(np.ones((8, 8), bool)))
    assert not np.any(jacobian[:, 1:])  # nor on another row


def test_padding_on_either_side_changes_nothing(variables):
    run = jax.jit(MODEL.apply)
    result = run(variables, IDS, MASK)
    other = run(variables, np.where(MASK == 1, IDS, 30 - IDS), MASK)
    np.testing.assert_array_equal(result[MASK == 1], other[MASK == 1])
    for row, start in ((1, 3), (2, 7)):
        alone = run(variables, IDS[row : row + 1, start:])
        np.testing.assert_allclose(result[row, start:], alone[0], atol=1e-5)
        right = np.roll(IDS[row : row + 1], -start, 1), np.roll(MASK[row : row + 1], -start, 1)
        np.testing.assert_allclose(run(variables, *right)[0, : 8 - start], alone[0], atol=1e-5)


@pytest.mark.parametrize("parts", [(8,), (1,) * 8, (3, 1, 4), (7, 1)])
def test_the_cache_equals_the_full_forward_pass(variables, parts):
    run = jax.jit(MODEL.apply)
    whole = run(variables, IDS, MASK, 30 - IDS)
    cache, found = MODEL.init_cache(3, 11), []
    for at in np.split(np.arange(8), np.cumsum(parts)[:-1]):
        logits, cache = run(variables, IDS[:, at], MASK[:, at], 30 - IDS[:, at], cache=cache)
        found.append(logits)
    np.testing.assert_allclose(jnp.concatenate(found, 1)[MASK == 1], whole[MASK == 1], atol=1e-5)
    assert int(cache.index) == 8
    np.testing.assert_array_equal(cache.mask, np.pad(MASK, ((0, 0), (0, 3))) == 1)


def test_classes_are_read_off_the_last_token_that_counts():
    model = dataclasses.replace(CONFIG, num_classes=3).build("text-classification")
    variables, run = draw.variables(model, IDS), jax.jit(model.apply)
    mask = MASK.copy()
    mask[0, 5:] = 0  # padded right
    result = run(variables, IDS, mask)
    assert result.shape == (3, 3)
    np.testing.assert_allclose(run(variables, IDS[:1, :5]), result[:1], atol=1e-5)
    np.testing.assert_allclose(run(variables, IDS[1:2, 3:]), result[1:2], atol=1e-5)
    assert np.isfinite(run(variables, IDS, 0 * mask)).all()


def test_dropout_needs_training_and_a_key(variables):
    rates = ("embed_dropout", "attention_dropout", "dropout")
    for name in rates:
        changes = {other: 0.3 * (other == name) for other in rates}
        model = dataclasses.replace(CONFIG, **changes).build()

        @functools.partial(jax.jit, static_argnums=(0, 2))
        def run(model, key, train=True):
            return model.apply(variables, IDS, MASK, train=train, rngs={"dropout": key})

        first = run(model, jax.random.key(1))
        np.testing.assert_array_equal(first, run(model, jax.random.key(1)))
        assert np.abs(first - run(model, jax.random.key(2))).max() > 0
        still = run(model, jax.random.key(1), False)
        np.testing.assert_array_equal(still, run(model, jax.random.key(2), False))
        assert np.abs(first - still).max() > 0


def test_older_names_and_masks_of_a_file_are_known():
    values = {"hidden_size": 20, "num_hidden_layers": 3, "num_attention_heads": 5, "n_ctx": 9}
    cfg = gpt2.read_config(values)
    assert (cfg.width, cfg.depth, cfg.num_heads, cfg.max_length) == (20, 3, 5, 1024)
    assert gpt2.read_config({"id2label": {"0": "a", "1": "b", "2": "c"}}).num_classes == 3
    with pytest.raises(InputError, match="activation_function 'mish'.*gelu_new"):
        gpt2.read_config({"activation_function": "mish"})
    with pytest.raises(InputError, match="'elu' has no name in transformers"):
        gpt2.write_config(dataclasses.replace(cfg, activation="elu"), "text-generation")


def test_errors(variables):
    long = np.zeros((1, 13), np.int32)
    with pytest.raises(InputError, match="13 tokens is longer than the model's 12 positions"):
        MODEL.apply(variables, long)
    with pytest.raises(InputError, match="13 tokens"):
        MODEL.init_cache(1, 13)
    with pytest.raises(InputError, match="5 heads do not divide a width of 12"):
        dataclasses.replace(CONFIG, num_heads=5).build()
    with pytest.raises(InputError, match="unknown activation 'gelo'"):
        dataclasses.replace(CONFIG, activation="gelo").build()
