"""GPT-NeoX, OPT and Mixtral: causality, cache, padding, classes, dropout, errors."""

import dataclasses
import functools

import draw
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models import gpt_neox, mixtral, opt
from zoo.nn.experts import Experts

NEOX = gpt_neox.Config(
    vocab_size=11, width=12, depth=2, num_heads=2, hidden=9, max_length=16, rotary_part=0.5
)
OPT = opt.Config(
    vocab_size=11, width=8, embed_width=6, depth=2, num_heads=2, hidden=9, max_length=16
)
MIXTRAL = mixtral.Config(
    vocab_size=11, width=10, depth=2, num_heads=4, num_kv_heads=2, head_dim=6, hidden=9,
    num_experts=4, max_length=16,
)  # fmt: skip
CONFIGS = {
    "gpt_neox": NEOX,
    "opt norms after": dataclasses.replace(OPT, norm_first=False),
    "mixtral": dataclasses.replace(MIXTRAL, window=3),
}
IDS = np.random.default_rng(0).integers(0, 11, (3, 9), dtype=np.int32)
MASK = np.ones((3, 9), np.int32)
MASK[0, :4] = MASK[1, 6:] = MASK[2, 3:5] = 0


@functools.cache
def made(name, task=None):
    model = CONFIGS[name].build(task)
    return model, draw.variables(model, IDS), jax.jit(model.apply)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_cache_equals_the_full_forward_pass(name):
    model, variables, run = made(name)
    whole = run(variables, IDS, MASK)
    cache, parts = model.init_cache(3, 12), []
    for part in (slice(0, 4), slice(4, 8), slice(8, 9)):
        logits, cache = run(variables, IDS[:, part], MASK[:, part], cache=cache)
        parts.append(logits)
    result = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(result[MASK == 1], whole[MASK == 1], atol=5e-5)
    assert int(cache.index) == 9
    np.testing.assert_array_equal(cache.mask[:, :9], MASK == 1)
    one, cache = run(variables, IDS[:1, :1], cache=model.init_cache(1, 1))
    np.testing.assert_allclose(one, run(variables, IDS[:1, :9])[:, :1], atol=5e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_neither_later_tokens_nor_padding_change_anything(name):
    _, variables, run = made(name)
    whole = run(variables, IDS, MASK)
    other = run(variables, np.where(MASK == 1, IDS, 10 - IDS), MASK)
    np.testing.assert_allclose(whole[MASK == 1], other[MASK == 1], atol=5e-5)
    later = np.where(np.arange(9) < 5, IDS, 10 - IDS)
    np.testing.assert_allclose(run(variables, later)[:, :5], run(variables, IDS)[:, :5], atol=5e-5)
    left = run(variables, np.roll(IDS, 3, 1), np.repeat([[0] * 3 + [1] * 6], 3, 0))[:, 3:]
    np.testing.assert_allclose(left, run(variables, IDS)[:, :6], atol=5e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_without_any_token_stay_finite_and_every_parameter_learns(name):
    model, variables, _ = made(name)

    def loss(params, mask):
        return jnp.sum(jnp.sin(7 * model.apply({"params": params}, IDS, mask)))

    gradient = jax.jit(jax.grad(loss))
    empty = gradient(variables["params"], 0 * MASK)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(empty))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables["params"], MASK)):
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        assert np.abs(leaf).max() > 1e-4 or place.endswith("key/bias"), place


@pytest.mark.parametrize("name", CONFIGS)
def test_classes_come_from_the_last_token_that_counts(name):
    model, variables, run = made(name, "text-classification")
    result = run(variables, IDS, MASK)
    hidden = jax.jit(CONFIGS[name].build("feature-extraction").apply)(variables, IDS, MASK)
    want = hidden[np.arange(3), [8, 5, 8]] @ variables["params"]["head"]["kernel"]
    np.testing.assert_allclose(result, want, atol=5e-5)


@pytest.mark.parametrize(
    "config, rate",
    [(NEOX, "dropout"), (NEOX, "attention_dropout"), (OPT, "dropout"), (OPT, "attention_dropout"),
     (MIXTRAL, "attention_dropout"), (MIXTRAL, "router_jitter")],
)  # fmt: skip
def test_what_is_drawn_in_training_alone(config, rate):
    none = {name: 0.0 for name in ("dropout", "attention_dropout") if hasattr(config, name)}
    model = dataclasses.replace(config, depth=1, **(none | {rate: 0.3})).build()
    variables = draw.variables(model, IDS)

    @functools.partial(jax.jit, static_argnums=1)
    def run(key, train):
        return model.apply(variables, IDS, train=train, rngs={"dropout": jax.random.key(key)})

    np.testing.assert_array_equal(run(0, False), run(1, False))
    assert np.abs(run(0, True) - run(1, True)).max() > 0


@pytest.mark.parametrize("tokens", [1, 12])
def test_experts_are_exact_for_any_choice(tokens):
    """All tokens at one expert, some experts without any, an expert twice."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(2, tokens, 5)), jnp.float32)
    weights = jnp.asarray(rng.random((2, tokens, 2)), jnp.float32)
    layer = Experts(4, 3, "silu", jax.nn.initializers.normal(1.0))
    same = jnp.full((2, tokens, 2), 2)
    variables = layer.init(jax.random.key(0), x, same, weights)
    kernels = [np.asarray(variables["params"][n]["kernel"]) for n in ("gate", "up", "down")]
    run = jax.jit(layer.apply)
    for chosen in (same, 0 * same, jnp.asarray(rng.integers(0, 4, same.shape))):
        gate, up, down = (kernel[chosen] for kernel in kernels)
        inner = np.einsum("btd,btedm->btem", x, gate)
        inner = inner / (1 + np.exp(-inner)) * np.einsum("btd,btedm->btem", x, up)
        want = np.einsum("btem,btemd,bte->btd", inner, down, weights)
        np.testing.assert_allclose(run(variables, x, chosen, weights), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config, changes, message",
    [
        (NEOX, {"num_heads": 5}, "5 heads do not divide a width of 12"),
        (NEOX, {"rotary_part": 1.5}, "positions would turn 10 of a head's 6 features"),
        (NEOX, {"rope_scaling": "dynamic factor=2 trained=8"}, "'dynamic' needs an even number"),
        (OPT, {"num_heads": 3}, "3 heads do not divide a width of 8"),
        (OPT, {"activation": "swish"}, "unknown activation 'swish'"),
        (MIXTRAL, {"num_kv_heads": 3}, "3 key and value heads do not divide 4 heads"),
        (MIXTRAL, {"head_dim": 5}, "even head_dim, not 5"),
        (MIXTRAL, {"window": 0}, "at least 1 token, not 0"),
        (MIXTRAL, {"experts_per_token": 5}, "takes 1 to 4 of 4 experts, not 5"),
        (MIXTRAL, {"router_jitter": 1.0}, "below 1, not 1.0"),
    ],
)
def test_numbers_that_do_not_fit(config, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(config, **changes).build()


@pytest.mark.parametrize("name", CONFIGS)
def test_too_long_a_sequence(name):
    model = CONFIGS[name].build()
    with pytest.raises(InputError, match="17 tokens is longer than the model's 16 positions"):
        jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 17), np.int32))
    with pytest.raises(InputError, match="17 tokens"):
        model.init_cache(1, 17)
