"""Multilayer perceptrons against PyTorch in float64, forward and backward to 1e-10.

`python tests/parity/test_mlp_parity.py` writes tests/golden/mlp_torch.npz anew.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_layout as layout
from flax.traverse_util import flatten_dict
from torch import nn as tnn

from zoo.models import mlp

NETWORKS = layout.PLAIN["mlp"] | {
    "deep": mlp.Config(input_shape=(5, 2), widths=(6, 7, 8, 9), num_classes=2, activation="silu"),
    "tanh": mlp.Config(input_shape=(1,), widths=(3,), num_classes=4, activation="tanh"),
}
ACTIVATIONS = {"relu": tnn.ReLU, "gelu": tnn.GELU, "silu": tnn.SiLU, "tanh": tnn.Tanh}


def reference(config):
    """The same layers in PyTorch."""
    sizes = (int(np.prod(config.input_shape)), *config.widths)
    layers = [tnn.Flatten()]
    for before, width in zip(sizes, sizes[1:], strict=False):
        layers += [tnn.Linear(before, width), ACTIVATIONS[config.activation]()]
    return tnn.Sequential(*layers, tnn.Linear(sizes[-1], config.num_classes)).double()


def ours(network, values):
    """PyTorch's arrays (of its parameters, or their gradients) as our tree of parameters."""
    layers = [module for module in network if isinstance(module, tnn.Linear)]
    names = [*(f"dense{i}" for i in range(1, len(layers))), "head"]
    return {
        name: {
            "kernel": values(layer.weight).detach().numpy().T,
            "bias": values(layer.bias).detach().numpy(),
        }
        for name, layer in zip(names, layers, strict=True)
    }


def freeze():
    """Arrays by name: inputs, outputs, and our parameters."""
    torch.manual_seed(0)
    arrays = {}
    for case, config in layout.PLAIN["mlp"].items():
        network, x = reference(config), torch.randn(4, *config.input_shape).double()
        found = {"x": x.numpy(), "output": network(x).detach().numpy()}
        found |= flatten_dict({"params": ours(network, lambda p: p)}, sep="/")
        arrays |= {f"{case}/{name}": array for name, array in found.items()}
    return arrays


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients(name):
    config = NETWORKS[name]
    torch.manual_seed(1)
    network, x = reference(config), torch.randn(4, *config.input_shape).double()
    expected = network(x.requires_grad_())
    (expected**2).sum().backward()
    with jax.enable_x64(True):
        model = config.build(dtype=jnp.float64, param_dtype=jnp.float64)

        def loss(params, x):
            outputs = model.apply({"params": params}, x)
            return (outputs**2).sum(), outputs

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
        params = jax.tree.map(jnp.asarray, ours(network, lambda p: p))
        (dparams, dx), outputs = gradient(params, x.detach().numpy())
    found = {"outputs": outputs, "x": dx, "params": dparams}
    wanted = {"outputs": expected.detach().numpy(), "x": x.grad.numpy()}
    wanted["params"] = ours(network, lambda p: p.grad)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-10, 1e-10), found, wanted)


def test_what_is_frozen_is_computed_again():
    found = freeze()
    for name, array in np.load(layout.GOLDEN / "mlp_torch.npz").items():
        np.testing.assert_allclose(found[name], array, 1e-10, 1e-10, err_msg=name)


if __name__ == "__main__":
    np.savez_compressed(layout.GOLDEN / "mlp_torch.npz", **freeze())
