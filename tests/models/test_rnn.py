"""Recurrent networks: PyTorch's numbers, tasks, padding, state in and out, errors."""

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
from zoo.models.rnn import Config

KEY = jax.random.key(0)
TOKENS = Config("gru", vocab_size=9, embedding=4, hidden=(5, 6), length=7, num_classes=3)
CASES = pytest.mark.parametrize("case", layout.RNN_CASES)


@CASES
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-10)])
def test_outputs_states_and_gradients_are_pytorchs(case, dtype, tolerance):
    layout.compare_rnn(case, layout.load("rnn")[case], dtype, tolerance)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 9, (3, 7), dtype=np.int32)
    mask = np.ones((3, 7), np.int32)
    mask[0, 5:] = mask[1, :3] = mask[2, 2:4] = 0
    return ids, mask


@functools.cache
def made(config, task):
    """Model, variables, compiled forward pass."""
    model = config.build(task)
    variables = draw.variables(model, **config.inputs())
    return model, variables, jax.jit(model.apply)


@pytest.mark.parametrize("cell, both", [("rnn", True), ("lstm", True), ("gru", False)])
def test_padding_changes_nothing(cell, both):
    config = dataclasses.replace(TOKENS, cell=cell, bidirectional=both)
    ids, mask = batch()
    _, variables, run = made(config, "token-classification")
    result = run(variables, ids, mask)
    other = run(variables, np.where(mask == 1, ids, 8 - ids), mask)
    np.testing.assert_array_equal(result, other)
    # The same tokens with the padding elsewhere: first of all, last of all.
    for place in (-1, 1):
        order = np.argsort(place * -mask, axis=1, kind="stable")
        rows = np.arange(3)[:, None]
        moved = run(variables, ids[rows, order], mask[rows, order])
        counts = mask[rows, order] == 1
        np.testing.assert_allclose(moved[counts], result[rows, order][counts], atol=1e-5)
    _, variables, run = made(config, "text-classification")
    whole = run(variables, ids, mask)
    np.testing.assert_allclose(run(variables, ids[:1, :5]), whole[:1], atol=1e-5)


def test_classes_come_from_the_last_state_and_tokens_from_all():
    ids, _ = batch()
    config = dataclasses.replace(TOKENS, bidirectional=True, hidden=(5,))
    _, variables, run = made(config, "token-classification")
    outputs = run(variables, ids)
    assert outputs.shape == (3, 7, 3)
    # The forward half is last at the end, the backward half at the start.
    half = jnp.concatenate([jnp.ones(5), jnp.zeros(5)])[:, None]
    head, bias = variables["params"]["head"]["kernel"], variables["params"]["head"]["bias"]

    def only(part):
        params = {**variables["params"], "head": {"kernel": head * part, "bias": 0 * bias}}
        return run({"params": params}, ids)

    want = only(half)[:, -1] + only(1 - half)[:, 0] + bias
    classes = made(config, "text-classification")[2](variables, ids)
    np.testing.assert_allclose(classes, want, atol=1e-5)


@pytest.mark.parametrize("cell", ("rnn", "lstm", "gru"))
def test_state_out_and_in_equals_one_pass(cell):
    config = dataclasses.replace(TOKENS, cell=cell)
    model, variables, run = made(config, "text-generation")
    ids, mask = batch()
    whole = run(variables, ids, mask)
    assert whole.shape == (3, 7, 9)
    cache, parts = model.init_cache(3, 7), []
    for part in (slice(0, 1), slice(1, 7)):
        logits, cache = run(variables, ids[:, part], mask[:, part], cache=cache)
        parts.append(logits)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), whole, atol=1e-5)
    before = jax.tree.map(jnp.shape, model.init_cache(3, 7))
    assert jax.tree.map(jnp.shape, cache) == before


def test_a_language_model_sees_no_later_token():
    config = dataclasses.replace(TOKENS, cell="lstm", embedding=6, tied=True)
    _, variables, run = made(config, "text-generation")
    ids, _ = batch()
    assert "head" not in variables["params"]
    logits = run(variables, ids)
    later = run(variables, np.where(np.arange(7) >= 4, 8 - ids, ids))
    np.testing.assert_array_equal(logits[:, :4], later[:, :4])
    assert np.abs(logits[:, 4:] - later[:, 4:]).min() > 0
    table = variables["params"]["embed"]["embedding"]
    assert table.shape == (9, 6)


def test_rows_of_an_image_are_steps():
    config = Config("lstm", features=12, hidden=(5,), num_classes=4, dense=(6,))
    image = np.random.default_rng(0).normal(size=(2, 8, 4, 3)).astype(np.float32)
    _, variables, run = made(config, "image-classification")
    outputs = run(variables, image)
    assert outputs.shape == (2, 4)
    same = run(variables, image.reshape(2, 8, 12))
    np.testing.assert_allclose(outputs, same, atol=1e-6)


def test_dropout_stands_at_embedding_between_layers_and_before_the_head():
    config = dataclasses.replace(TOKENS, dropout=0.5)
    model, variables, _ = made(config, "token-classification")
    ids, _ = batch()

    def forward(key):
        return model.apply(variables, ids, train=True, rngs={"dropout": key})

    run = jax.jit(forward)
    first = run(jax.random.key(1))
    np.testing.assert_array_equal(first, run(jax.random.key(1)))
    assert np.abs(first - run(jax.random.key(2))).max() > 0
    dropped = []

    def watch(call, args, kwargs, context):
        if type(context.module).__name__ == "Dropout":
            dropped.append(context.module.name)
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        jax.eval_shape(lambda key: forward(key), jax.random.key(1))  # traced anew
    assert dropped == ["embed_dropout", "dropout0", "dropout1"]


@pytest.mark.parametrize(
    "changes, task, message",
    [
        ({"cell": "elman"}, None, "there are: rnn, lstm, gru"),
        ({"num_biases": 3}, None, "1 or 2"),
        ({"hidden": ()}, None, "at least one width"),
        ({"activation": "rlu"}, None, "relu"),
        ({"vocab_size": None}, "text-generation", "needs a vocab_size"),
        ({"bidirectional": True}, "text-generation", "bidirectional"),
        ({"tied": True}, "text-generation", "as wide as the embedding, 4, not 6"),
        ({"tied": True}, "text-classification", "only a language model"),
        ({}, "translation", "text-generation"),
    ],
)
def test_configs_that_contradict_themselves(changes, task, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(TOKENS, **changes).build(task)


@pytest.mark.parametrize(
    "config, shape, message",
    [
        (TOKENS, (2, 7, 4), r"token ids \[B, T\]"),
        (Config(features=4), (2, 7, 3), "set the config's features"),
        (Config(features=4), (2, 4), r"\[B, T, 4\]"),
    ],
)
def test_inputs_of_another_shape(config, shape, message):
    dtype = jnp.int32 if config.vocab_size else jnp.float32
    with pytest.raises(InputError, match=message):
        jax.eval_shape(config.build().init, KEY, jax.ShapeDtypeStruct(shape, dtype))
