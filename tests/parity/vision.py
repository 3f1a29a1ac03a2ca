"""Vision models beside transformers': small random models, what is compared and how closely."""

import copy
import functools
from pathlib import Path
from typing import Any

import encoders
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

import zoo
from zoo.nn.patches import pair
from zoo.weights import mapping

KINDS = ("logits", "cls_logits", "distillation_logits", "last_hidden_state", "pooler_output")


def pictures(cfg: Any, size: tuple[int, int] | None = None) -> np.ndarray:
    """Three random pictures, of the size of their config or another."""
    size = size or pair(cfg.image_size if isinstance(cfg.image_size, int) else (*cfg.image_size,))
    rng = np.random.default_rng(1)
    return rng.normal(size=(3, *size, cfg.num_channels)).astype(np.float32)


def run(model: Any, image: np.ndarray, **options: Any) -> list[np.ndarray]:
    """Their outputs as we give them."""
    with torch.no_grad():
        found = model(pixel_values=tensor(model, image), **options)
    return [found[kind].numpy() for kind in KINDS if found.get(kind) is not None]


def tensor(model: Any, image: np.ndarray) -> Any:
    """Pictures as they take them."""
    return torch.tensor(image.transpose(0, 3, 1, 2), dtype=model.dtype)


def ours(model: Any, variables: Any, image: np.ndarray, **options: Any) -> list[np.ndarray]:
    """Our outputs in their order."""
    image = image.astype(model.dtype)
    found = jax.jit(functools.partial(model.apply, **options))(variables, image)
    return [np.asarray(x) for x in ([found] if hasattr(found, "shape") else vars(found).values())]


def near(wanted: list[np.ndarray], found: list[np.ndarray]) -> None:
    """Within 2e-5 of the standard deviation."""
    for a, b in zip(wanted, found, strict=True):
        error = np.abs(a - b).max() / a.std()
        print("largest error over the standard deviation:", error)
        assert a.shape == b.shape and error <= 2e-5


def compare_outputs_and_bytes(
    folder: Path,
    family: encoders.Encoder,
    head: str,
    config: str,
    sizes: tuple[tuple[int, int], ...] = (),
    changes: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """Outputs agree, also for pictures of other `sizes`, with the `options` they then need; every
    tensor comes back as it was, and transformers reopens what we write. `changes` are ours."""
    theirs = encoders.reference(family, head, config)
    theirs.save_pretrained(folder / "theirs")
    model, variables = zoo.from_pretrained(folder / "theirs", **changes or {})
    image = pictures(theirs.config)
    wanted = run(theirs, image)
    near(wanted, ours(model, variables, image))
    for size in sizes:
        other = pictures(theirs.config, size)
        near(run(theirs, other, **options), ours(model, variables, other))

    zoo.save_pretrained(folder / "ours", model, variables)
    before, after = (load_file(folder / kind / "model.safetensors") for kind in ("theirs", "ours"))
    assert before.keys() == after.keys()
    for name, value in after.items():
        assert value.dtype == before[name].dtype and value.tobytes() == before[name].tobytes()
    (written,) = transformers.AutoConfig.from_pretrained(folder / "ours").architectures
    again = getattr(transformers, written).from_pretrained(folder / "ours").eval()
    for a, b in zip(wanted, run(again, image), strict=True):
        np.testing.assert_array_equal(a, b)


def compare_float64(folder: Path, family: encoders.Encoder, head: str, config: str) -> None:
    """Which alone sees a wrong epsilon."""
    theirs = encoders.reference(family, head, config).double()
    theirs.save_pretrained(folder)
    image = pictures(theirs.config)
    wanted = run(theirs, image)
    with jax.enable_x64(True):
        model, variables = zoo.from_pretrained(folder)
        assert model.dtype == jnp.float64
        found = ours(model, variables, image)
    for a, b in zip(wanted, found, strict=True):
        print("largest error:", np.abs(a - b).max())
        assert np.abs(a - b).max() <= 1e-10


def compare_training(folder: Path, family: encoders.Encoder, head: str, config: str) -> None:
    """The loss and gradients agree, and so do the weights after three steps of AdamW."""
    theirs = encoders.reference(family, head, config).double()
    theirs.save_pretrained(folder / "before")
    image = pictures(theirs.config)
    labels = np.random.default_rng(2).integers(0, theirs.config.num_labels, len(image))
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.01)
    adamw = optax.adamw(1e-2, weight_decay=0.01)
    with jax.enable_x64(True):
        model, variables = zoo.from_pretrained(folder / "before")

        @jax.jit
        def step(params, state):
            def loss(params):
                logits = model.apply({"params": params}, image.astype(np.float64))
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            value, grads = jax.value_and_grad(loss)(params)
            updates, state = adamw.update(grads, state, params)
            return value, grads, optax.apply_updates(params, updates), state

        params = variables["params"]
        state = adamw.init(params)
        for n in range(3):
            optimizer.zero_grad()
            logits = theirs(pixel_values=tensor(theirs, image)).logits
            wanted = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
            wanted.backward()
            found, grads, params, state = step(params, state)
            assert abs(float(found) - wanted.item()) < 1e-9
            if n == 0:
                compare_gradients(folder / "gradients", model, grads, theirs)
            for parameter in theirs.parameters():  # torch does not decay what has no gradient
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
        theirs.save_pretrained(folder / "after")
        _, after = zoo.from_pretrained(folder / "after")
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(after["params"]), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def compare_gradients(folder: Path, model: Any, grads: Any, theirs: Any) -> None:
    """Ours, written as their tensors, beside theirs, which they save as if they were weights."""
    graded = copy.deepcopy(theirs)
    for parameter, source in zip(graded.parameters(), theirs.parameters(), strict=True):
        none = torch.zeros_like(source)
        parameter.data = none if source.grad is None else source.grad.clone()
    graded.save_pretrained(folder)
    wanted = load_file(folder / "model.safetensors")
    size = max(np.abs(value).max() for value in wanted.values())
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(grads, sep="/").items()}
    for name, value in mapping.write_all(encoders.table(model), flat).items():
        error = np.abs(value - wanted.pop(name)).max() / size
        assert error <= 1e-9, (name, error)
    assert not wanted
