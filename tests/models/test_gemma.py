"""The Gemmas: causality, windows, cache, padding, classification, errors."""

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
from zoo.models.gemma import Config

CONFIG = Config(
    vocab_size=11, width=10, depth=2, num_heads=4, num_kv_heads=2, head_dim=6, hidden=12,
    max_length=16, rope_base=50.0,
)  # fmt: skip
CONFIGS = {
    "gemma": CONFIG,
    "gemma 2": dataclasses.replace(
        CONFIG, post_norm=True, window=3, num_kv_heads=1, score_cap=2.0, logit_cap=3.0
    ),
    "gemma 3": dataclasses.replace(
        CONFIG, post_norm=True, qk_norm=True, window=2, global_layers=(1,), local_rope_base=9.0,
        rope_scaling="linear factor=4",
    ),
}  # fmt: skip
IDS = np.random.default_rng(0).integers(0, 11, (3, 9), dtype=np.int32)
MASK = np.ones((3, 9), np.int32)
MASK[0, :4] = MASK[1, 6:] = MASK[2, 3:5] = 0


@functools.cache
def made(name, task=None):
    model = CONFIGS[name].build(task)
    return model, draw.variables(model, IDS), jax.jit(model.apply)


@pytest.mark.parametrize("name, reach", [("gemma", 9), ("gemma 2", 5), ("gemma 3", 9)])
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
    cache, parts = model.init_cache(3, 12), []
    for part in (slice(0, 3), slice(3, 7), slice(7, 8), slice(8, 9)):
        logits, cache = run(variables, IDS[:, part], MASK[:, part], cache=cache)
        parts.append(logits)
    result = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(result[MASK == 1], whole[MASK == 1], atol=2e-5)
    assert int(cache.index) == 9
    np.testing.assert_array_equal(cache.mask[:, :9], MASK == 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_on_either_side_changes_nothing(name):
    _, variables, run = made(name)
    want = run(variables, IDS[:, :6])
    for before, after in ((0, 3), (3, 0), (2, 1)):
        ids = np.concatenate([IDS[:, 6 : 6 + before], IDS[:, :6], IDS[:, 6 : 6 + after]], axis=1)
        mask = np.repeat([[0] * before + [1] * 6 + [0] * after], 3, axis=0)
        result = run(variables, ids, mask)[:, before : before + 6]
        np.testing.assert_allclose(result, want, atol=2e-5)


def test_caps_bound_logits_and_scores():
    _, variables, run = made("gemma 2")
    assert np.abs(run(variables, IDS)).max() < 3
    for change in ({"score_cap": None}, {"logit_cap": None}, {"query_scale": 64.0}):
        other = dataclasses.replace(CONFIGS["gemma 2"], **change).build()
        assert np.abs(jax.jit(other.apply)(variables, IDS) - run(variables, IDS)).max() > 1e-3


def test_local_layers_have_wavelengths_of_their_own():
    _, variables, run = made("gemma 3")
    other = dataclasses.replace(CONFIGS["gemma 3"], local_rope_base=None).build()
    assert np.abs(jax.jit(other.apply)(variables, IDS) - run(variables, IDS)).max() > 1e-3


def test_rows_without_any_token_stay_finite():
    model, variables, _ = made("gemma 3")

    def loss(params):
        return model.apply({"params": params}, IDS, 0 * MASK).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_classes_come_from_the_last_token_that_counts():
    model, variables, run = made("gemma", "text-classification")
    result = run(variables, IDS, MASK)
    hidden = jax.jit(CONFIG.build("feature-extraction").apply)(variables, IDS, MASK)
    want = hidden[np.arange(3), [8, 5, 8]] @ variables["params"]["head"]["kernel"]
    np.testing.assert_allclose(result, want, atol=1e-5)
    np.testing.assert_allclose(run(variables, IDS[1:2, :6]), result[1:2], atol=1e-5)
    again, cache = run(variables, IDS, MASK, cache=model.init_cache(3, 9))
    np.testing.assert_allclose(again, result, atol=1e-5)
    assert int(cache.index) == 9


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_kv_heads": 3}, "3 key and value heads do not divide 4 heads"),
        ({"head_dim": 5}, "even head_dim, not 5"),
        ({"window": 0}, "at least 1 token, not 0"),
        ({"global_layers": (0, 2)}, r"global_layers names \[2\]; layers are 0 to 1"),
        ({"rope_scaling": "longrope"}, "unknown rope scaling 'longrope'"),
        ({"activation": "swish"}, "unknown activation 'swish'"),
    ],
)
def test_numbers_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, **changes).build()


def test_too_long_a_sequence():
    model, variables, _ = made("gemma")
    with pytest.raises(InputError, match="17 tokens is longer than the model's 16 positions"):
        model.apply(variables, np.zeros((1, 17), np.int32))
    with pytest.raises(InputError, match="17 tokens"):
        model.init_cache(1, 17)
