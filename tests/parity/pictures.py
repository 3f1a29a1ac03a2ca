"""Models of images beside timm and transformers: what is compared and how closely."""

import copy
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import torch
import torchvision_standin
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

import zoo
from zoo.models import registry
from zoo.weights import loading, mapping
from zoo.weights import timm as tables

timm = torchvision_standin.load()
COUNTER = ".num_batches_tracked"


def shake(model: Any, seed: int = 0) -> Any:
    """Random numbers in the place of what starts at 0 and 1, statistics too; kernels of a size
    that lets no signal grow, or rounding would grow with it from layer to layer."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim in (2, 4):
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.1 * noise)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn_like(buffer))
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return model.eval()


def picture(channels: int = 3, height: int = 37, width: int = 50, batch: int = 3) -> np.ndarray:
    """Random images with the channels last."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(batch, height, width, channels)).astype(np.float32)


def channels_first(image: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(image.transpose(0, 3, 1, 2).copy(), dtype=dtype)


def run(model: Any, image: np.ndarray) -> list[np.ndarray]:
    """Their outputs as we give them: one, those of a pyramid, or the logits of two classifiers."""
    with torch.no_grad():
        found = output(model, channels_first(image, next(model.parameters()).dtype))
    found = found if isinstance(found, list | tuple) else [found]
    turned = getattr(model, "output_fmt", "NCHW") == "NCHW"
    return [(x.permute(0, 2, 3, 1) if turned and x.ndim == 4 else x).numpy() for x in found]


def output(model: Any, image: torch.Tensor) -> Any:
    found = model(image)
    if hasattr(found, "logits"):
        return found.logits
    return found.pooler_output.flatten(1) if hasattr(found, "pooler_output") else found


def ours(model: Any, variables: Any, image: np.ndarray, **options: Any) -> list[np.ndarray]:
    found = jax.jit(functools.partial(model.apply, **options))(variables, image)
    return [np.asarray(x) for x in jax.tree.leaves(found)]


def save(model: Any, folder: Path) -> Path:
    """A folder as their library writes it."""
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
    else:
        timm.models.save_for_hf(model, folder, safe_serialization=True)
    return folder


def reopened(model: Any, folder: Path) -> Any:
    """The folder opened by the library of a model."""
    if hasattr(model, "save_pretrained"):
        return type(model).from_pretrained(folder).eval()
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def close(wanted: list[np.ndarray], found: list[np.ndarray], float64: bool = False) -> None:
    """2e-5 of the standard deviation; 1e-10 itself in float64."""
    for a, b in zip(wanted, found, strict=True):
        assert a.shape == b.shape
        error = np.abs(a - b).max() / (1.0 if float64 else a.std())
        print("largest error:", error)
        assert error <= (1e-10 if float64 else 2e-5)


def compare_outputs_and_bytes(folder: Path, theirs: Any, image: np.ndarray) -> None:
    """Outputs agree, every tensor comes back as it was, and their library reopens what we write."""
    model, variables = zoo.from_pretrained(save(theirs, folder / "theirs"))
    wanted = run(theirs, image)
    close(wanted, ours(model, variables, image))
    kind = "transformers" if hasattr(theirs, "save_pretrained") else "timm"
    zoo.save_pretrained(folder / "ours", model, variables, format=kind)
    before = load_file(folder / "theirs/model.safetensors")
    after = load_file(folder / "ours/model.safetensors")
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype and tensor.tobytes() == before[name].tobytes()
    for a, b in zip(wanted, run(reopened(theirs, folder / "ours"), image), strict=True):
        np.testing.assert_array_equal(a, b)
    again, _ = zoo.from_pretrained(folder / "ours")
    assert (again.cfg, again.task) == (model.cfg, model.task)


def compare_float64(folder: Path, theirs: Any, image: np.ndarray) -> None:
    """Which alone sees a wrong epsilon."""
    theirs = theirs.double()
    save(theirs, folder)
    with jax.enable_x64(True):
        model, variables = zoo.from_pretrained(folder)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float64"}
        close(run(theirs, image), ours(model, variables, image.astype(np.float64)), float64=True)


def training_step(model: Any, image: np.ndarray, labels: np.ndarray) -> Any:
    """A compiled function of parameters and statistics: loss and new statistics, gradients. Of
    several logits the losses are added."""

    @jax.jit
    def step(params, rest):
        def loss(params):
            outputs, updates = model.apply(
                {"params": params, **rest}, image, train=True, mutable=list(rest),
                rngs={"dropout": jax.random.key(0)},
            )  # fmt: skip
            losses = [
                optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
                for logits in jax.tree.leaves(outputs)
            ]
            return sum(losses), updates

        return jax.value_and_grad(loss, has_aux=True)(params)

    return step


def their_loss(theirs: Any, image: np.ndarray, labels: np.ndarray) -> float:
    """Their loss while training, in float64; their parameters have its gradients then."""
    theirs.train().zero_grad()
    found = output(theirs, channels_first(image, torch.float64))
    found = found if isinstance(found, tuple) else (found,)
    wanted = torch.tensor(labels)
    loss = sum(torch.nn.functional.cross_entropy(logits, wanted) for logits in found)
    loss.backward()
    return loss.item()


def compare_training_step(folder: Path, theirs: Any, image: np.ndarray, **changes: Any) -> None:
    """The loss, its gradients and the running statistics agree after a step, in float64; `changes`
    are of what their folders do not say."""
    theirs = theirs.double()
    with jax.enable_x64(True):
        model, variables = zoo.from_pretrained(save(theirs, folder / "before"), **changes)
        labels = np.arange(len(image)) % model.cfg.num_classes
        params = variables.pop("params")
        (found, updates), grads = training_step(model, image, labels)(params, variables)
        assert abs(float(found) - their_loss(theirs, image, labels)) <= 1e-10
        table = tables if not hasattr(theirs, "save_pretrained") else loading
        family = table.families()[registry.family(model.cfg)]
        rules = loading.rules_of(family, model.cfg, model.task)
        compare_gradients(folder / "gradients", rules, grads, theirs)
        _, after = zoo.from_pretrained(save(theirs, folder / "after"))
        compare_leaves(updates.get("batch_stats", {}), after.get("batch_stats", {}), 1e-10)


def compare_three_steps(folder: Path, theirs: Any, image: np.ndarray) -> None:
    """Losses, and then parameters and running statistics agree after three steps of AdamW, in
    float64."""
    theirs = theirs.double()
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.01)
    adamw = optax.adamw(1e-2, weight_decay=0.01)
    with jax.enable_x64(True):
        model, rest = zoo.from_pretrained(save(theirs, folder / "before"))
        labels = np.arange(len(image)) % model.cfg.num_classes
        step, update = training_step(model, image, labels), jax.jit(adamw.update)
        params = rest.pop("params")
        state = adamw.init(params)
        for _ in range(3):
            (found, rest), grads = step(params, rest)
            assert abs(float(found) - their_loss(theirs, image, labels)) <= 1e-9
            optimizer.step()
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
        _, after = zoo.from_pretrained(save(theirs, folder / "after"))
        compare_leaves({"params": params, **rest}, after, 1e-8)


def compare_pyramid(folder: Path, theirs: Any, pyramid: Any, image: np.ndarray, count: int) -> None:
    """So many maps agree with those of timm's `features_only`, which takes over the tensors."""
    pyramid.eval().load_state_dict(theirs.state_dict(), strict=False)
    model, variables = zoo.from_pretrained(save(theirs, folder), task="feature-pyramid")
    wanted = run(pyramid, image)
    assert len(wanted) == count
    close(wanted, ours(model, variables, image))


def compare_other_channels(folder: Path, theirs: Any, channels: int) -> None:
    """Outputs agree where both libraries fit the first convolution to images of other channels."""
    save(theirs, folder)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, in_chans=channels).eval()
    model, variables = zoo.from_pretrained(folder, in_chans=channels)
    image = picture(channels)
    close(run(theirs, image), ours(model, variables, image))


def compare_leaves(found: Any, wanted: Any, tolerance: float) -> None:
    """Trees of the same paths, whose numbers agree."""
    found, wanted = (flatten_dict(tree, sep="/") for tree in (found, wanted))
    assert found.keys() == wanted.keys()
    for path, leaf in found.items():
        np.testing.assert_allclose(leaf, wanted[path], tolerance, tolerance, err_msg=path)


def compare_gradients(folder: Path, rules: list[mapping.Rule], grads: Any, theirs: Any) -> None:
    """Ours, written as their tensors, beside theirs, which they save as if they were weights."""
    graded = copy.deepcopy(theirs)
    for parameter, source in zip(graded.parameters(), theirs.parameters(), strict=True):
        assert source.grad is not None
        parameter.data = source.grad.clone()
    saved = load_file(save(graded, folder) / "model.safetensors")
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(grads, sep="/").items()}
    rules = [r for r in rules if not mapping.names(r.ours)[0].startswith(mapping.STATISTICS)]
    statistics = (COUNTER, ".running_mean", ".running_var")
    wanted = {name: value for name, value in saved.items() if not name.endswith(statistics)}
    size = max(np.abs(value).max() for value in wanted.values())
    for name, value in mapping.write_all(rules, flat).items():
        error = np.abs(value - wanted.pop(name)).max() / size
        assert error <= 1e-10, (name, error)
    assert not wanted
