"""The Transformer: PyTorch's numbers, causality, padding, cache, errors."""

import dataclasses
import functools

import draw
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_layout as layout
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError

CONFIG = dataclasses.replace(layout.TRANSFORMER, depth=1)
MODEL = CONFIG.build()
RNG = np.random.default_rng(0)
SOURCE = RNG.integers(0, 11, (3, 5), dtype=np.int32)
TARGET = RNG.integers(0, 11, (3, 6), dtype=np.int32)
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [1, 1, 1, 1, 1]], np.int32)


@pytest.fixture(scope="module")
def variables():
    return draw.variables(MODEL, **CONFIG.inputs(), scale=0.4)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-10)])
def test_outputs_and_gradients_are_pytorchs(dtype, tolerance):
    layout.compare_transformer(layout.load("transformer")["base"], dtype, tolerance)


def test_a_token_depends_on_no_later_one(variables):
    inputs = (SOURCE, MASK, TARGET)

    def logits(shift):
        """The decoder's embeddings moved place by place; the rest of the model as it is."""

        def watch(call, args, kwargs, context):
            result = call(*args, **kwargs)
            return result + shift if context.module.name == "decoder_dropout" else result

        with nn.intercept_methods(watch):
            return MODEL.apply(variables, *inputs)[0].sum(-1)

    jacobian = jax.jit(jax.jacobian(logits))(jnp.zeros((3, 6, CONFIG.width)))
    depends = np.abs(jacobian[:, 0]).max(-1) > 0
    np.testing.assert_array_equal(depends, np.tril(np.ones((6, 6), bool)))
    assert not np.any(jacobian[:, 1:])


def test_padding_changes_nothing(variables):
    run = jax.jit(MODEL.apply)
    counts = np.ones((3, 6), np.int32)
    counts[0, 4:] = counts[1, 2] = 0
    result = run(variables, SOURCE, MASK, TARGET, counts)
    source = np.where(MASK == 1, SOURCE, 10 - SOURCE)
    target = np.where(counts == 1, TARGET, 10 - TARGET)
    other = run(variables, source, MASK, target, counts)
    np.testing.assert_array_equal(result[counts == 1], other[counts == 1])
    longer = np.pad(SOURCE, ((0, 0), (0, 2))), np.pad(MASK, ((0, 0), (0, 2)))
    np.testing.assert_allclose(run(variables, *longer, TARGET, counts), result, atol=1e-5)


def test_the_cache_equals_the_full_forward_pass(variables):
    counts = np.ones((3, 6), np.int32)
    counts[1, 1] = 0
    run = jax.jit(MODEL.apply)
    whole = run(variables, SOURCE, MASK, TARGET, counts)
    cache, parts = MODEL.init_cache(3, 8), []
    for n, part in enumerate((slice(0, 2), slice(2, 3), slice(3, 6))):
        source = (SOURCE, MASK) if n == 0 else (None, None)
        logits, cache = run(variables, *source, TARGET[:, part], counts[:, part], cache=cache)
        parts.append(logits)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), whole, atol=1e-5)
    assert int(cache.index) == 6


def test_rows_without_any_token_stay_finite(variables):
    mask = np.zeros((3, 5), np.int32)

    def loss(params):
        return MODEL.apply(
            {"params": params}, SOURCE, mask, TARGET, np.zeros((3, 6), np.int32)
        ).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_classification_by_the_mean_of_the_tokens_that_count():
    model = dataclasses.replace(CONFIG, num_classes=3).build("text-classification")
    variables, run = draw.variables(model, SOURCE), jax.jit(model.apply)
    assert not any(name.startswith("decoder") for name in variables["params"])
    result = run(variables, SOURCE, MASK)
    assert result.shape == (3, 3)
    np.testing.assert_allclose(run(variables, SOURCE[:1, :3]), result[:1], atol=1e-5)
    np.testing.assert_array_equal(run(variables, np.where(MASK == 1, SOURCE, 0), MASK), result)
    bias = variables["params"]["head"]["bias"]
    np.testing.assert_array_equal(run(variables, SOURCE, 0 * MASK), np.tile(bias, (3, 1)))


def test_dropout_needs_training_and_a_key(variables):
    model = dataclasses.replace(CONFIG, dropout=0.3).build()

    @functools.partial(jax.jit, static_argnums=1)
    def run(key, train=True):
        return model.apply(variables, SOURCE, MASK, TARGET, train=train, rngs={"dropout": key})

    first = run(jax.random.key(1))
    np.testing.assert_array_equal(first, run(jax.random.key(1)))
    assert np.abs(first - run(jax.random.key(2))).max() > 0
    still = run(jax.random.key(1), False)
    np.testing.assert_array_equal(still, run(jax.random.key(2), False))
    assert np.abs(first - still).max() > 0


def test_errors(variables):
    long = np.zeros((1, 10), np.int32)
    with pytest.raises(InputError, match="10 tokens is longer than the model's 9 positions"):
        MODEL.apply(variables, long, decoder_input_ids=TARGET[:1])
    with pytest.raises(InputError, match="10 tokens"):
        MODEL.apply(variables, SOURCE[:1], decoder_input_ids=long)
    with pytest.raises(InputError, match="10 tokens"):
        MODEL.init_cache(1, 10)
    with pytest.raises(InputError, match="needs decoder_input_ids"):
        MODEL.apply(variables, SOURCE)
    with pytest.raises(InputError, match="needs input_ids"):
        MODEL.apply(variables, None, decoder_input_ids=TARGET)
    with pytest.raises(InputError, match="3 heads do not divide a width of 8"):
        dataclasses.replace(CONFIG, num_heads=3).build()
