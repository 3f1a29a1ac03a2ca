"""Convolutions in groups, with batch norm behind them, and global pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.nn.conv import Conv
from zoo.nn.conv_norm import ConvNorm, GroupedConv, fold
from zoo.nn.pool import POOLS, global_pool

KEY = jax.random.key(0)
IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 9, 6)), jnp.float32)


def test_groups_are_convolutions_side_by_side():
    grouped = GroupedConv(4, 3, 2, 1, groups=2)
    params = grouped.init(KEY, IMAGE)["params"]
    assert params["kernel"].shape == (3, 3, 3, 4)
    found = grouped.apply({"params": params}, IMAGE)
    for group in range(2):
        own = jax.tree.map(lambda leaf, at=group * 2: leaf[..., at : at + 2], params)
        wanted = Conv(2, 3, 2, 1).apply({"params": own}, IMAGE[..., group * 3 : group * 3 + 3])
        np.testing.assert_allclose(found[..., group * 2 : group * 2 + 2], wanted, atol=1e-5)


def test_folding_a_norm_whose_factor_is_negative():
    block = ConvNorm(5, 3, padding=1, epsilon=0.1)
    variables = block.init(KEY, IMAGE, False)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: leaf + rng.uniform(-0.5, 0.5, leaf.shape), variables)
    variables["params"]["norm"]["scale"] *= -1.0
    wanted = block.apply(variables, IMAGE, False)
    found = ConvNorm(5, 3, padding=1, folded=True).apply(fold(variables, 0.1), IMAGE, False)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_a_kernel_that_is_a_row():
    for groups in (1, 2):
        block = ConvNorm(4, (1, 5), padding=(0, 2), groups=groups)
        y, variables = jax.eval_shape(lambda b=block: b.init_with_output(KEY, IMAGE, False))
        assert variables["params"]["conv"]["kernel"].shape == (1, 5, 6 // groups, 4)
        assert y.shape == (2, 7, 9, 4)


def test_folding_keeps_what_is_no_block_and_the_dtype():
    variables = {
        "params": {"head": {"kernel": jnp.ones((2, 2))}, "stem": {
            "conv": {"kernel": jnp.ones((1, 1, 2, 2), jnp.bfloat16)},
            "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)}}},
        "batch_stats": {"stem": {"norm": {"mean": jnp.ones(2), "var": jnp.ones(2)}}},
    }  # fmt: skip
    folded = fold(variables)
    assert folded.keys() == {"params"} and folded["params"]["head"] == variables["params"]["head"]
    kinds = {leaf.dtype.name for leaf in folded["params"]["stem"]["conv"].values()}
    assert kinds == {"bfloat16"}


@pytest.mark.parametrize("kind", POOLS)
def test_global_pooling(kind):
    mean, largest = IMAGE.mean((1, 2)), IMAGE.max((1, 2))
    wanted = {
        "avg": mean, "max": largest, "avgmax": (mean + largest) / 2, "": IMAGE,
        "catavgmax": jnp.concatenate([mean, largest], -1),
    }  # fmt: skip
    np.testing.assert_allclose(global_pool(IMAGE, kind), wanted[kind], atol=1e-6)


def test_unknown_pooling():
    with pytest.raises(InputError, match="'median'"):
        global_pool(IMAGE, "median")
