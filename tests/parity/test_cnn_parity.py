"""Plain convolutional networks against PyTorch in float64, forward and backward to 1e-10.

`python tests/parity/test_cnn_parity.py` writes tests/golden/cnn_torch.npz anew.
"""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_layout as layout
from flax.traverse_util import flatten_dict
from torch import nn as tnn

from zoo.models import cnn

BLOCKS = ("conv 64 3 padding=1", "norm", "relu", "max_pool 2",
          *("conv 128 3 padding=1", "norm", "relu") * 2, "max_pool 2",
          "adaptive_avg_pool 7", *("dense 4096", "relu", "dropout 0.5") * 2)  # fmt: skip
PLAIN = tuple(layer for layer in BLOCKS if layer != "norm")
NORMED = tuple(layer.replace("norm", "batch_norm") for layer in BLOCKS)

# Slim networks with the layers of the published ones; a size that is no multiple of the strides.
NETWORKS = {
    "lenet5": (cnn.LENET5.layers, 28, 1),
    "alexnet": (tuple(cnn.ALEXNET.layers), 75, 3),
    "blocks": (PLAIN, 37, 3),
    "blocks with batch norm": (NORMED, 37, 3),
    "overlapping and padded": (("conv 64 3 stride=2", "max_pool 3 stride=2 padding=1", "silu",
                                "conv 64 1", "avg_pool 3 stride=1 padding=1", "gelu"), 21, 2),
}  # fmt: skip


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def freeze():
    """Arrays by name: inputs, outputs, and our variables."""
    torch.manual_seed(0)
    arrays = {}
    for case, config in layout.PLAIN["cnn"].items():
        size, channels = config.image_size, config.channels
        network, x = reference(config), torch.randn(3, channels, size, size).double()
        network(x)  # makes the lazy layers and moves the running statistics once
        output = network.eval()(x).detach().numpy()
        params = ours(network, config, lambda p: p.clone())
        variables = {"params": params, "batch_stats": statistics(network)}
        found = {"x": x.permute(0, 2, 3, 1).numpy(), "output": output}
        found |= flatten_dict(variables, sep="/")
        arrays |= {f"{case}/{name}": np.asarray(array) for name, array in found.items()}
    return arrays


def slim(text: str) -> str:
    """A layer with a sixteenth of its features and without dropout's randomness."""
    word, *rest = text.split()
    if word in ("conv", "dense"):
        rest[0] = str(max(int(rest[0]) // 16, 5))
    return " ".join((word, *("0" if word == "dropout" else r for r in rest)))


class Flatten(tnn.Module):
    """``[B, C, H, W]`` to ``[B, H * W * C]``, in our order."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x


def reference(config: cnn.Config) -> tnn.Sequential:
    """The same layers in PyTorch, its parametrised layers in the order of ours."""
    activations = {"relu": tnn.ReLU, "tanh": tnn.Tanh, "silu": tnn.SiLU, "gelu": tnn.GELU}
    layers, channels, flat = [], config.channels, False
    for layer in map(cnn.parse, config.layers):
        n, window = int(layer.number), (layer.window, layer.stride, layer.padding)
        match layer.kind:
            case "conv":
                layers.append(tnn.Conv2d(channels, n, *window, bias=bool(layer.bias)))
                channels = n
            case "max_pool":
                layers.append(tnn.MaxPool2d(*window))
            case "avg_pool":
                layers.append(tnn.AvgPool2d(*window))
            case "adaptive_avg_pool":
                layers.append(tnn.AdaptiveAvgPool2d(n))
            case "batch_norm":
                layers.append(tnn.BatchNorm2d(channels))
            case "dense":
                layers += [Flatten(), tnn.LazyLinear(n)]
                flat = True
            case "dropout":
                pass
            case name:
                layers.append(activations[name]())
    if not flat:
        layers.append(Flatten())
    return tnn.Sequential(*layers, tnn.LazyLinear(config.num_classes)).double()


def ours(network: tnn.Sequential, config: cnn.Config, values) -> dict:
    """PyTorch's arrays (of its parameters, or their gradients) as our tree of parameters."""
    tree = {}
    for module, name in names(network).items():
        weight = values(module.weight).detach().numpy()
        if isinstance(module, tnn.BatchNorm2d):
            tree[name] = {"scale": weight}
        else:
            axes = (2, 3, 1, 0) if isinstance(module, tnn.Conv2d) else (1, 0)
            tree[name] = {"kernel": weight.transpose(axes)}
        if module.bias is not None:
            tree[name]["bias"] = values(module.bias).detach().numpy()
    return jax.tree.map(jnp.asarray, tree)


def statistics(network: tnn.Sequential) -> dict:
    """Its running statistics as ours."""
    norms = [m for m in network if isinstance(m, tnn.BatchNorm2d)]
    return {
        f"norm{i}": {
            "mean": jnp.asarray(m.running_mean.numpy().copy()),
            "var": jnp.asarray(m.running_var.numpy().copy()),
        }
        for i, m in enumerate(norms, 1)
    }


def names(network: tnn.Sequential) -> dict[tnn.Module, str]:
    """Our names of its parametrised layers."""
    count = dict.fromkeys(("conv", "norm", "dense"), 0)
    found = {}
    modules = [m for m in network if list(m.parameters())]
    for module in modules:
        kind = {tnn.Conv2d: "conv", tnn.BatchNorm2d: "norm", tnn.Linear: "dense"}[type(module)]
        count[kind] += 1
        found[module] = "head" if module is modules[-1] else f"{kind}{count[kind]}"
    return found


def intermediates(network: tnn.Sequential, image: torch.Tensor) -> dict[str, np.ndarray]:
    """The outputs of its parametrised layers by our names and in our order of axes."""
    found = {}
    known = names(network)
    x = image
    with torch.no_grad():
        for module in network:
            x = module(x)
            if module in known:
                found[known[module]] = (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).numpy()
    return found


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_gradients_and_running_statistics(name, train, names_divergence):
    layers, size, channels = NETWORKS[name]
    config = cnn.Config(tuple(map(slim, layers)), 7, size, channels)
    torch.manual_seed(0)
    network = reference(config)
    image = np.random.default_rng(0).normal(size=(3, size, size, channels))
    theirs_in = torch.tensor(image.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    network.train()
    network(theirs_in)  # makes the lazy layers and moves the running statistics once
    network.train(train)

    stats = statistics(network)
    params = ours(network, config, lambda p: p.clone())
    model = config.build(dtype=jnp.float64, param_dtype=jnp.float64)
    weights = np.random.default_rng(1).normal(size=(3, 7))

    def loss(params, image):
        outputs, updates = model.apply(
            {"params": params, **({"batch_stats": stats} if stats else {})},
            image,
            train=train,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return (outputs * weights).sum(), (outputs, updates.get("batch_stats", {}))

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (dparams, dimage), (outputs, updates) = gradient(params, jnp.asarray(image))

    expected = network(theirs_in)
    (expected * torch.tensor(weights)).sum().backward()
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
    variables = {"params": params, **({"batch_stats": stats} if stats else {})}
    explained = contextlib.nullcontext()  # in training the running statistics move
    if not train:
        dump = intermediates(network, theirs_in)
        explained = names_divergence((model, variables), dump, jnp.asarray(image), tolerance=1e-10)
    with explained:
        close(outputs, expected.detach().numpy())
    close(dimage, theirs_in.grad.numpy().transpose(0, 2, 3, 1))
    jax.tree.map(close, dparams, ours(network, config, lambda p: p.grad))
    jax.tree.map(close, updates, statistics(network))


def test_what_is_frozen_is_computed_again():
    found = freeze()
    for name, array in np.load(layout.GOLDEN / "cnn_torch.npz").items():
        np.testing.assert_allclose(found[name], array, 1e-10, 1e-10, err_msg=name)


if __name__ == "__main__":
    with jax.enable_x64(True):
        np.savez_compressed(layout.GOLDEN / "cnn_torch.npz", **freeze())
