"""The Llama family: causality, windows, cache, padding, classification, errors."""

import dataclasses
import functools

import draw
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models.llama import Config

CONFIG = Config(
    vocab_size=11, width=10, depth=2, num_heads=4, num_kv_heads=2, head_dim=6, hidden=12,
    max_length=16, rope_base=50.0,
)  # fmt: skip
CONFIGS = {
    "llama": CONFIG,
    "window": dataclasses.replace(CONFIG, window=3, num_kv_heads=1),
    "one full layer": dataclasses.replace(CONFIG, window=2, full_layers=(1,), qkv_bias=True),
    "norms": dataclasses.replace(CONFIG, qk_norm=True, num_kv_heads=4, tied=True),
    "yarn": dataclasses.replace(
        CONFIG, rope_scaling="yarn factor=4 trained=4 low=0.1 high=0.5 gain=1.3"
    ),
    "dynamic": dataclasses.replace(CONFIG, rope_scaling="dynamic factor=4 trained=4"),
}
IDS = np.random.default_rng(0).integers(0, 11, (3, 9), dtype=np.int32)
MASK = np.ones((3, 9), np.int32)
MASK[0, :4] = MASK[1, 6:] = MASK[2, 3:5] = 0


@functools.cache
def made(name, task=None):
    model = CONFIGS[name].build(task)
    return model, draw.variables(model, IDS), jax.jit(model.apply)


@pytest.mark.parametrize(
    "name, reach", [("llama", 9), ("window", 5), ("one full layer", 9), ("norms", 9)]
)
def test_a_token_depends_on_those_before_it_and_in_its_windows(name, reach):
    model, variables, _ = made(name)

    def logits(shift):
        """The embeddings moved place by place; the rest of the model as it is."""

        def watch(call, args, kwargs, context):
            result = call(*args, **kwargs)
            here = context.module.name == "embed" and context.method_name == "__call__"
            return result + shift if here else result

        with nn.intercept_methods(watch):
            return model.apply(variables, IDS)[0].sum(-1)

    depends = np.abs(jax.jit(jax.jacobian(logits))(jnp.zeros((3, 9, 10)))[:, 0]).max(-1) > 0
    want = np.tril(np.ones((9, 9), bool)) & ~np.tril(np.ones((9, 9), bool), -reach)
    np.testing.assert_array_equal(depends, want)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_cache_equals_the_full_forward_pass(name):
    model, variables, run = made(name)
    whole = run(variables, IDS, MASK)
    cache, parts = model.init_cache(3, 9 if name == "dynamic" else 12), []
    for part in (slice(0, 3), slice(3, 7), slice(7, 8), slice(8, 9)):
        logits, cache = run(variables, IDS[:, part], MASK[:, part], cache=cache)
        parts.append(logits)
    result = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(result[MASK == 1], whole[MASK == 1], atol=2e-5)
    assert int(cache.index) == 9
    np.testing.assert_array_equal(cache.mask[:, :9], MASK == 1)


# Dynamic frequencies follow the length of the batch, padding included, as in transformers.
@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"dynamic"}))
def test_padding_on_either_side_changes_nothing(name):
    _, variables, run = made(name)
    want = run(variables, IDS[:, :6])
    for before, after in ((0, 3), (3, 0), (2, 1)):
        ids = np.concatenate([IDS[:, 6 : 6 + before], IDS[:, :6], IDS[:, 6 : 6 + after]], axis=1)
        mask = np.repeat([[0] * before + [1] * 6 + [0] * after], 3, axis=0)
        result = run(variables, ids, mask)[:, before : before + 6]
        np.testing.assert_allclose(result, want, atol=2e-5)


def test_what_padding_holds_changes_nothing():
    _, variables, run = made("window")
    other = np.where(MASK == 1, IDS, 10 - IDS)
    result, again = run(variables, IDS, MASK), run(variables, other, MASK)
    np.testing.assert_array_equal(result[MASK == 1], again[MASK == 1])


def test_scalings_matter():
    _, variables, run = made("llama")
    for name in ("yarn", "dynamic"):
        changed = jax.jit(CONFIGS[name].build().apply)(variables, IDS)
        assert np.abs(changed - run(variables, IDS)).max() > 1e-3


def test_rows_without_any_token_stay_finite():
    model, variables, _ = made("norms")

    def loss(params):
        return model.apply({"params": params}, IDS, 0 * MASK).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_classes_come_from_the_last_token_that_counts():
    model, variables, run = made("llama", "text-classification")
    result = run(variables, IDS, MASK)
    hidden = jax.jit(CONFIG.build("feature-extraction").apply)(variables, IDS, MASK)
    want = hidden[np.arange(3), [8, 5, 8]] @ variables["params"]["head"]["kernel"]
    np.testing.assert_allclose(result, want, atol=1e-5)
    np.testing.assert_allclose(run(variables, IDS[1:2, :6]), result[1:2], atol=1e-5)
    again, cache = run(variables, IDS, MASK, cache=model.init_cache(3, 9))
    np.testing.assert_allclose(again, result, atol=1e-5)
    assert int(cache.index) == 9


def test_dropout_needs_training_and_a_key():
    model, variables, run = made("llama")
    dropping = dataclasses.replace(CONFIG, dropout=0.5).build()

    @functools.partial(jax.jit, static_argnums=1)
    def once(key, train):
        return dropping.apply(variables, IDS, train=train, rngs={"dropout": jax.random.key(key)})

    np.testing.assert_allclose(once(0, False), run(variables, IDS), atol=1e-5)
    assert np.abs(once(0, True) - once(1, True)).max() > 0


def test_float64_stays_float64():
    with jax.enable_x64(True):
        model = CONFIG.build(dtype=jnp.float64, param_dtype=jnp.float64)
        variables = draw.variables(model, IDS)
        result = jax.jit(model.apply)(variables, IDS)
        assert result.dtype == jnp.float64
        narrow = jax.tree.map(lambda x: x.astype(jnp.float32), variables)
        single = jax.jit(CONFIG.build().apply)(narrow, IDS)
        np.testing.assert_allclose(single, result, atol=1e-4)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_kv_heads": 3}, "3 key and value heads do not divide 4 heads"),
        ({"head_dim": 5}, "even head_dim, not 5"),
        ({"window": 0}, "at least 1 token, not 0"),
        ({"full_layers": (0, 2)}, r"full_layers names \[2\]; layers are 0 to 1"),
        ({"rope_scaling": "longrope"}, "unknown rope scaling 'longrope'"),
        ({"activation": "swish"}, "unknown activation 'swish'"),
    ],
)
def test_numbers_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, **changes).build()


def test_too_long_a_sequence():
    model, variables, _ = made("llama")
    with pytest.raises(InputError, match="17 tokens is longer than the model's 16 positions"):
        model.apply(variables, np.zeros((1, 17), np.int32))
    with pytest.raises(InputError, match="17 tokens"):
        model.init_cache(1, 17)
