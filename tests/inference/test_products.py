"""Products of few rows equal plain ones, for any sizes; a tied table is transposed once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import draw
from tests.quick_compile import compiled_quickly  # noqa: F401
from zoo.inference.products import TRANSPOSED, apply_few, dot_few, with_transposed
from zoo.models import gpt2, llama, opt
from zoo.nn.dense import Dense

MODELS = {"gpt2": gpt2, "llama": llama, "opt": opt}
SMALL = {"vocab_size": 40, "width": 192, "depth": 1, "num_heads": 2, "max_length": 16}


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 32, 33])
@pytest.mark.parametrize("features", [(1, 5), (97, 3), (768, 8), (1000, 1), (192, 7)])
def test_product_is_the_plain_one(rows, features):
    draw = np.random.default_rng(rows).normal
    x = jnp.asarray(draw(size=(rows, features[0])), jnp.float32)
    kernel = jnp.asarray(draw(size=features), jnp.float32)
    found = jax.jit(dot_few)(x, kernel)
    expected = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    scale = np.sqrt(features[0])
    np.testing.assert_allclose(found, expected, atol=2e-6 * scale, rtol=1e-5)


def test_pieces_of_half_precision_are_summed_in_float32():
    """96 ones and a half in each of eight pieces: 8 * 96.5 is 772, but 96.5 and what follows need
    more than the 8 bits of a bfloat16."""
    x = jnp.ones((1, 768), jnp.bfloat16)
    kernel = jnp.ones((768, 1), jnp.bfloat16).at[::96].set(1.5)
    assert dot_few(x, kernel).dtype == jnp.bfloat16
    assert float(dot_few(x, kernel)[0, 0]) == 772.0


@pytest.mark.slow
@pytest.mark.parametrize("name, tied", [*((name, True) for name in MODELS), ("opt", False)])
def test_logits_are_those_of_apply(name, tied):
    more = {"llama": {"num_kv_heads": 1}, "opt": {"embed_width": 96}}.get(name, {})
    model = MODELS[name].Config(**SMALL, **more, tied=tied).build()
    ids = jax.random.randint(jax.random.key(1), (3, 5), 0, 40)
    variables = draw.variables(model, ids, scale=0.1)
    prepared = with_transposed(model, variables, 3)
    tables = jax.tree.leaves(prepared[TRANSPOSED])
    width = more.get("embed_width", 192)
    assert [table.shape for table in tables] == ([(width, 40)] if tied else [])
    for held in (variables, prepared):
        for tokens in (ids, ids[:1, :1]):
            found = jax.jit(lambda v, i: apply_few(model, v, i))(held, tokens)
            np.testing.assert_allclose(found, model.apply(variables, tokens), atol=2e-5)


def test_many_rows_and_one_need_no_copy():
    model = gpt2.Config(**SMALL).build()
    variables = draw.variables(model, jnp.zeros((1, 4), jnp.int32))
    assert with_transposed(model, variables, 1) is variables
    assert with_transposed(model, variables, 33) is variables


def test_what_else_is_done_to_a_layer_is_done():
    """As an adapter does it: within the model, around its dense layers."""

    class Doubled(nn.Module):
        @nn.compact
        def __call__(self, x):
            def double(call, args, kwargs, context):
                y = call(*args, **kwargs)
                return 2 * y if context.method_name == "__call__" else y

            with nn.intercept_methods(double):
                return Dense(3, name="dense")(x)

    x = jnp.ones((2, 192))
    variables = Doubled().init(jax.random.key(0), x)
    plain = x @ variables["params"]["dense"]["kernel"]
    np.testing.assert_allclose(apply_few(Doubled(), variables, x), 2 * plain, rtol=1e-5)


def test_other_modules_are_left_alone():
    class Other(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x)

    x = jnp.ones((2, 4))
    variables = Other().init(jax.random.key(0), x)
    np.testing.assert_array_equal(apply_few(Other(), variables, x), Other().apply(variables, x))
