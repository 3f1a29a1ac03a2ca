"""The gated feed-forward layer against its formula."""

import draw
import flax.linen as nn
import jax
import numpy as np

from zoo.nn.activation import silu
from zoo.nn.gated import GatedMLP


def test_follows_its_formula():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))
    for biases in (False, True):
        model = GatedMLP(5, "silu", biases, nn.initializers.ones)
        variables = draw.variables(model, x)
        weights = variables["params"]
        assert ("bias" in weights["gate"]) == biases and weights["up"]["kernel"].shape == (4, 5)

        def dense(name, x, weights=weights):
            return x @ weights[name]["kernel"] + weights[name].get("bias", 0)

        want = dense("down", silu(dense("gate", x)) * dense("up", x))
        np.testing.assert_allclose(model.apply(variables, x), want, atol=1e-5)
