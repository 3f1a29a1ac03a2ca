"""Kernels in 8 bits: how far off they are, and what they compute."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo import surgery
from zoo.errors import InputError
from zoo.models import gpt2
from zoo.paths import leaf_paths
from zoo.surgery.int8 import rounded

IDS = np.random.default_rng(0).integers(0, 11, (2, 5))


@functools.cache
def plain():
    model = gpt2.Config(vocab_size=11, width=16, depth=2, num_heads=2, max_length=8).build()
    return model, zoo.init(model, jax.random.key(0))


def test_a_kernel_is_off_by_half_a_scale_at_most():
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(9, 5)) * 10.0 ** rng.integers(-6, 6, 5), "f")
    kernel = kernel.at[:, 2].set(0)
    whole, scale = rounded(kernel)
    assert whole.dtype == jnp.int8 and scale.shape == (5,)
    assert np.all(np.abs(whole * scale - kernel) <= 0.5001 * scale)
    np.testing.assert_array_equal(np.abs(whole).max(0), [127, 127, 0, 127, 127])
    again, same = rounded(whole * scale)  # rounding twice is rounding once
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_allclose(same, scale, rtol=1e-6)


@pytest.mark.slow
def test_it_costs_little_accuracy_and_a_quarter_of_the_kernels():
    model, variables = plain()
    small, saved = surgery.quantize(model, variables)
    assert 0 < surgery.output_change((model, variables), (small, saved), IDS) < 0.02
    assert surgery.output_change((model, variables), (model, variables), IDS) == 0
    found = leaf_paths(saved["params"])
    kernels = [path for path in found if path.endswith("/kernel")]
    assert len(kernels) == 12 and all(found[path].dtype == jnp.int8 for path in kernels)
    for path, leaf in leaf_paths(variables["params"]).items():
        assert path in kernels or found[path] is leaf
    # The same numbers in float32 compute the same.
    wide = surgery.dequantize(small, saved)
    assert jax.tree.structure(wide[1]) == jax.tree.structure(variables)
    assert surgery.output_change(wide, (small, saved), IDS) < 1e-5


@pytest.mark.slow
def test_chosen_layers_alone_and_what_fits_none():
    model, variables = plain()
    _, saved = surgery.quantize(model, variables, ("*", "!*attention"))
    dtypes = {path: leaf.dtype for path, leaf in leaf_paths(saved["params"]).items()}
    assert {path for path, dtype in dtypes.items() if dtype == jnp.int8} == {
        f"block{i}/mlp/{name}/kernel" for i in range(2) for name in ("up", "down")
    }
    with pytest.raises(InputError, match="int8: no dense layer fits embed; there are block0/"):
        surgery.quantize(model, variables, "embed")


@pytest.mark.slow
def test_adapters_learn_beside_kernels_of_8_bits():
    small, saved = surgery.quantize(*plain())
    lora = surgery.LoRA(("*/query",), rank=2)
    model, variables = surgery.inject(small, saved, lora, jax.random.key(1))
    np.testing.assert_array_equal(model.apply(variables, IDS), small.apply(saved, IDS))
    added, rest = surgery.split(variables["params"], "*/lora_?")

    def loss(added):
        return jnp.sum(model.apply({"params": surgery.join(added, rest)}, IDS) ** 2)

    assert all(
        np.any(leaf) for leaf in jax.tree.leaves(surgery.select(jax.grad(loss)(added), "*b"))
    )
    with pytest.raises(InputError, match="8 bits: block0/attention/query, .*dequantize"):
        surgery.merge(model, variables)
