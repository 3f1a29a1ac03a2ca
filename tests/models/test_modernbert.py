"""ModernBERT: what a token depends on, padding, pooling, errors."""

import dataclasses

import draw
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models.modernbert import Config

CONFIG = Config(
    vocab_size=31, width=12, depth=2, num_heads=3, hidden=10, max_length=10, window=2,
    global_layers=(), num_classes=3,
)  # fmt: skip
IDS = np.random.default_rng(0).integers(0, 31, (3, 8), dtype=np.int32)
MASK = np.array([[1] * 8, [1] * 5 + [0] * 3, [0] * 6 + [1] * 2], np.int32)


def made(task=None, **changes):
    model = dataclasses.replace(CONFIG, **changes).build(task)
    return jax.jit(model.apply), draw.variables(model, IDS, scale=0.4)


@pytest.mark.parametrize("layers, reach", [((), 4), ((0, 1), 8), ((1,), 8)])
def test_local_layers_see_a_window_to_both_sides(layers, reach):
    run, variables = made(global_layers=layers)
    whole = run(variables, IDS[:1])
    for place in range(8):
        other = IDS[:1].copy()
        other[0, place] = (other[0, place] + 1) % 31
        changed = np.abs(run(variables, other) - whole).max(-1)[0] > 0
        np.testing.assert_array_equal(changed, np.abs(np.arange(8) - place) <= reach)


def test_every_third_layer_is_global_unless_named():
    run, variables = made(depth=4, global_layers=None)
    same, _ = made(depth=4, global_layers=(0, 3))
    other, _ = made(depth=4, global_layers=(0, 2))
    np.testing.assert_array_equal(run(variables, IDS), same(variables, IDS))
    assert np.abs(run(variables, IDS) - other(variables, IDS)).max() > 1e-3


def test_padding_on_either_side_changes_nothing():
    run, variables = made(global_layers=(0,))
    result = run(variables, IDS, MASK)
    other = run(variables, np.where(MASK == 1, IDS, 30 - IDS), MASK)
    np.testing.assert_array_equal(result[MASK == 1], other[MASK == 1])
    np.testing.assert_allclose(result[1, :5], run(variables, IDS[1:2, :5])[0], atol=1e-5)
    np.testing.assert_allclose(result[2, 6:], run(variables, IDS[2:, 6:])[0], atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_classes(pooling):
    run, variables = made("text-classification", pooling=pooling, head_bias=True)
    result = run(variables, IDS, MASK)
    assert result.shape == (3, 3)
    np.testing.assert_allclose(result[1:2], run(variables, IDS[1:2, :5]), atol=1e-5)
    assert np.isfinite(run(variables, IDS, 0 * MASK)).all()  # nothing counts
    if pooling == "mean":
        np.testing.assert_allclose(result[2:], run(variables, IDS[2:, 6:]), atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_choices(pooling):
    """Each is scored by itself, padded on either side."""
    run, variables = made("multiple-choice", pooling=pooling)
    scores = run(variables, IDS[None], MASK[None])
    assert scores.shape == (1, 3)
    np.testing.assert_allclose(scores[0], run(variables, IDS, MASK), atol=1e-6)
    np.testing.assert_allclose(scores[0, 2], run(variables, IDS[2:, 6:])[0], atol=1e-5)


@pytest.mark.parametrize("name", ["embed", "attention", "mlp", "head"])
def test_dropout_needs_training_and_a_key(name):
    model = dataclasses.replace(CONFIG, **{f"{name}_dropout": 0.3}).build("token-classification")
    variables = draw.variables(model, IDS)
    run = jax.jit(lambda k: model.apply(variables, IDS, MASK, train=True, rngs={"dropout": k}))
    first = run(jax.random.key(1))
    np.testing.assert_array_equal(first, run(jax.random.key(1)))
    assert np.abs(first - run(jax.random.key(2))).max() > 0
    np.testing.assert_array_equal(model.apply(variables, IDS), model.apply(variables, IDS))


@pytest.mark.slow
def test_a_norm_without_bias_is_one_whose_bias_is_zero():
    run, variables = made(norm_bias=True, epsilon=0.1)

    def without(params):
        return {
            key: without(x) if isinstance(x, dict) else x
            for key, x in params.items()
            if not (key == "bias" and "scale" in params)
        }

    zero = jax.tree_util.tree_map_with_path(
        lambda path, x: 0 * x if path[-1].key == "bias" else x, variables["params"]
    )
    plain, _ = made(epsilon=0.1)
    np.testing.assert_allclose(
        run({"params": zero}, IDS), plain({"params": without(zero)}, IDS), atol=1e-5
    )
    with jax.enable_x64(True):
        model = CONFIG.build(dtype=jnp.float64, param_dtype=jnp.float64)
        assert model.apply(draw.variables(model, IDS), IDS).dtype == jnp.float64


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"num_heads": 5}, "5 heads do not divide a width of 12 into even parts"),
        ({"num_heads": 4}, "even parts"),
        ({"pooling": "max"}, "unknown pooling 'max'; there are: cls, mean"),
        ({"window": -1}, "0 or more tokens to a side, not -1"),
        ({"global_layers": (0, 2)}, r"global_layers names \[2\]; layers are 0 to 1"),
        ({"head_activation": "gelo"}, "unknown activation 'gelo'"),
    ],
)
def test_configs_that_cannot_be(changes, told):
    with pytest.raises(InputError, match=told):
        dataclasses.replace(CONFIG, **changes).build()


def test_inputs_that_cannot_be():
    _, variables = made()
    with pytest.raises(InputError, match="11 tokens is longer than the model's 10; truncate"):
        CONFIG.build().apply(variables, np.zeros((1, 11), np.int32))
    with pytest.raises(InputError, match=r"takes input_ids of rank 2, not \(1, 3, 8\)"):
        CONFIG.build().apply(variables, IDS[None])
