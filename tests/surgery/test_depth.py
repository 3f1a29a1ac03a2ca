"""Layers left out, repeated and replaced: Config and variables together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo import surgery
from zoo.errors import InputError
from zoo.models import albert, gpt2, llama, modernbert
from zoo.paths import leaf_paths, map_leaves

pytestmark = pytest.mark.slow

IDS = np.random.default_rng(0).integers(0, 11, (2, 6))
CONFIGS = {
    "gpt2": gpt2.Config(vocab_size=11, width=8, depth=3, num_heads=2, max_length=8),
    "llama": llama.Config(
        vocab_size=11, width=8, depth=3, num_heads=2, num_kv_heads=1, head_dim=4, hidden=12,
        max_length=8, window=2, full_layers=(2,),
    ),
}  # fmt: skip


@functools.cache
def plain(name):
    model = CONFIGS[name].build("text-generation")
    shapes = jax.eval_shape(lambda: zoo.init(model, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), "f"), shapes)


def without(variables, number):
    """What layer `number` adds to the residual stream is zero."""
    last = tuple(
        f"{kind}{number}/{name}/{part}"
        for kind in ("block", "layer")
        for name in ("attention/out", "mlp/down", "down")
        for part in ("kernel", "bias")
    )
    return map_leaves(lambda path, leaf: 0 * leaf if path.endswith(last) else leaf, variables)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_layer_that_is_left_out_adds_nothing(name):
    model, variables = plain(name)
    small, fewer = surgery.with_layers(model, variables, [0, 2])
    assert small.cfg.depth == 2
    wanted = model.apply(without(variables, 1), IDS)
    np.testing.assert_allclose(small.apply(fewer, IDS), wanted, atol=1e-5)
    assert np.abs(model.apply(variables, IDS) - wanted).max() > 1e-3


def test_layers_may_be_repeated_and_all_kept():
    model, variables = plain("gpt2")
    same, all_of_them = surgery.with_layers(model, variables, range(3))
    assert same == model and all(
        leaf is leaf_paths(variables)[path] for path, leaf in leaf_paths(all_of_them).items()
    )
    deep, more = surgery.with_layers(model, variables, [0, 1, 1, 2])
    small, fewer = surgery.with_layers(deep, without(without(more, 2), 0), [1, 3])
    found = deep.apply(without(without(more, 2), 0), IDS)
    np.testing.assert_allclose(small.apply(fewer, IDS), found, atol=1e-5)


def test_a_layer_is_taken_from_another_model():
    model, variables = plain("gpt2")
    _, other = surgery.with_layers(model, jax.tree.map(lambda x: x + 1, variables), [2, 2])
    found = surgery.replace_layer(variables, 1, other, 0)
    flat, before = leaf_paths(found["params"]), leaf_paths(variables["params"])
    for path, leaf in flat.items():
        source = path.replace("block1", "block2") if path.startswith("block1") else path
        np.testing.assert_array_equal(leaf, before[source] + path.startswith("block1"))
    with pytest.raises(InputError, match="layer 0 of the donor is not like layer 1: attention/"):
        surgery.replace_layer(variables, 1, plain("llama")[1], 0)
    with pytest.raises(InputError, match="there are none"):
        surgery.replace_layer(variables, 3, other, 7)


def test_layers_that_cannot_be_moved_are_told():
    model, variables = plain("gpt2")
    for order in ([], [0, 3], [-1]):
        with pytest.raises(InputError, match="there are 0 to 2"):
            surgery.with_layers(model, variables, order)
    shared = albert.Config(
        vocab_size=11, width=8, depth=3, num_heads=2, hidden=12, max_length=8
    ).build()
    with pytest.raises(InputError, match="the layers of albert are not one stack"):
        surgery.with_layers(shared, zoo.init(shared, jax.random.key(0)), [0])
    first = modernbert.Config(
        vocab_size=11, width=8, depth=2, num_heads=2, hidden=12, max_length=8
    ).build()
    with pytest.raises(InputError, match="layer0/attention_norm/scale cannot be in that place"):
        surgery.with_layers(first, zoo.init(first, jax.random.key(0)), [1])
