"""GPT: causality, padding, cache, classes, errors."""

import dataclasses

import draw
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models.gpt import Config
from zoo.weights import gpt

CONFIG = Config(vocab_size=31, width=12, depth=2, num_heads=3, max_length=12, num_classes=3)
MODEL = CONFIG.build()
IDS = np.random.default_rng(0).integers(0, 31, (3, 8), dtype=np.int32)
MASK = np.array([[1] * 8, [0] * 3 + [1] * 5, [0] * 7 + [1]], np.int32)


@pytest.fixture(scope="module")
def variables():
    return draw.variables(MODEL, IDS, scale=0.4)


def test_a_token_depends_on_no_later_one(variables):
    run = jax.jit(MODEL.apply)
    whole = run(variables, IDS)
    for place in range(8):
        other = IDS.copy()
        other[0, place] = (other[0, place] + 1) % 31
        changed = np.abs(run(variables, other) - whole).max(-1) > 0
        np.testing.assert_array_equal(changed[0], np.arange(8) >= place)
        assert not changed[1:].any()


def test_padding_on_either_side_changes_nothing(variables):
    run = jax.jit(MODEL.apply)
    result = run(variables, IDS, MASK)
    other = run(variables, np.where(MASK == 1, IDS, 30 - IDS), MASK)
    np.testing.assert_array_equal(result[MASK == 1], other[MASK == 1])
    alone = run(variables, IDS[1:2, 3:])
    np.testing.assert_allclose(result[1, 3:], alone[0], atol=1e-5)
    right = np.roll(IDS[1:2], -3, 1), np.roll(MASK[1:2], -3, 1)
    np.testing.assert_allclose(run(variables, *right)[0, :5], alone[0], atol=1e-5)
    assert np.isfinite(run(variables, IDS, 0 * MASK)).all()


@pytest.mark.parametrize("parts", [(8,), (1,) * 8, (3, 1, 4)])
def test_the_cache_equals_the_full_forward_pass(variables, parts):
    run = jax.jit(MODEL.apply)
    whole = run(variables, IDS, MASK, 30 - IDS)
    cache, found = MODEL.init_cache(3, 11), []
    for at in np.split(np.arange(8), np.cumsum(parts)[:-1]):
        logits, cache = run(variables, IDS[:, at], MASK[:, at], 30 - IDS[:, at], cache=cache)
        found.append(logits)
    np.testing.assert_allclose(jnp.concatenate(found, 1)[MASK == 1], whole[MASK == 1], atol=1e-5)
    assert int(cache.index) == 8


def test_classes_are_read_off_the_last_token_that_counts():
    model = CONFIG.build("text-classification")
    variables, run = draw.variables(model, IDS), jax.jit(model.apply)
    mask = MASK.copy()
    mask[0, 5:] = 0  # padded right
    result = run(variables, IDS, mask)
    assert result.shape == (3, 3)
    np.testing.assert_allclose(run(variables, IDS[:1, :5]), result[:1], atol=1e-5)
    np.testing.assert_allclose(run(variables, IDS[1:2, 3:]), result[1:2], atol=1e-5)


@pytest.mark.parametrize("name", ["embed_dropout", "attention_dropout", "dropout"])
def test_dropout_needs_training_and_a_key(variables, name):
    rates = {"embed_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.0, name: 0.3}
    model = dataclasses.replace(CONFIG, **rates).build()
    run = jax.jit(lambda key: model.apply(variables, IDS, train=True, rngs={"dropout": key}))
    first = run(jax.random.key(1))
    np.testing.assert_array_equal(first, run(jax.random.key(1)))
    assert np.abs(first - run(jax.random.key(2))).max() > 0


def test_configs_of_files():
    """The one that comes with the published weights says gelu and means the approximation."""
    published = {
        "afn": "gelu", "attn_pdrop": 0.1, "embd_pdrop": 0.1, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "openai-gpt", "n_ctx": 512, "n_embd": 768,
        "n_head": 12, "n_layer": 12, "n_positions": 512, "n_special": 0,
        "predict_special_tokens": True, "resid_pdrop": 0.1, "summary_activation": None,
        "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
        "summary_use_proj": True, "vocab_size": 40478,
        "architectures": ["OpenAIGPTLMHeadModel"],
    }  # fmt: skip
    assert gpt.read_config(published) == Config()
    cfg = gpt.read_config({"hidden_size": 20, "num_hidden_layers": 3, "num_attention_heads": 5})
    assert (cfg.width, cfg.depth, cfg.num_heads) == (20, 3, 5)
    for changes, told in (
        ({"afn": "gelu_new"}, "afn 'gelu_new' is not implemented; there are gelu, relu"),
        ({"afn": ["gelu"]}, "afn"),
        ({"n_embd": "20"}, "n_embd is '20'"),
        ({"add_cross_attention": True}, "add_cross_attention"),
    ):
        with pytest.raises(InputError, match=told):
            gpt.read_config(published | changes)
    with pytest.raises(InputError, match="no activation like 'gelu'"):
        gpt.write_config(dataclasses.replace(cfg, activation="gelu"), "text-generation")


def test_errors(variables):
    with pytest.raises(InputError, match="13 tokens is longer than the model's 12 positions"):
        MODEL.apply(variables, np.zeros((1, 13), np.int32))
    with pytest.raises(InputError, match="13 tokens"):
        MODEL.init_cache(1, 13)
    with pytest.raises(InputError, match="5 heads do not divide a width of 12"):
        dataclasses.replace(CONFIG, num_heads=5).build()
    with pytest.raises(InputError, match="unknown activation 'gelo'"):
        dataclasses.replace(CONFIG, activation="gelo").build()
