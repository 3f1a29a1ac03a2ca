"""Encoders beside transformers': small random models, what is compared and how closely."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

import zoo
from zoo.models import registry
from zoo.weights import loading, mapping

TIME = 11
IGNORED = -100
"""The label that torch leaves out."""


@dataclass(frozen=True)
class Encoder:
    """A family of models of transformers."""

    values: dict[str, Any]
    """Fields of a small config of theirs."""
    configs: dict[str, dict[str, Any]]
    """What each odd config has otherwise."""
    heads: dict[str, dict[str, Any]]
    """Classes, and what the config of each has beside."""
    rates: tuple[str, ...] = ()
    """Fields that are rates of dropout; 0 in the small config."""
    unused: tuple[str, ...] = ()
    """Tensors that some of their models save and no model uses."""


def quick(names: Iterable[str], count: int = 2) -> list[Any]:
    """Names, such as those of configs, as parameters of a test; the first are for quick runs."""
    marked = [pytest.param(name, marks=pytest.mark.full) for name in names]
    return [*list(names)[:count], *marked[count:]]


def reference(encoder: Encoder, head: str, config: str, seed: int = 0) -> Any:
    """Transformers' model with random weights."""
    torch.manual_seed(seed)
    made = getattr(transformers, head)
    fields = (
        dict.fromkeys(encoder.rates, 0.0)
        | encoder.values
        | encoder.configs[config]
        | encoder.heads[head]
    )
    model = made(made.config_class(**fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms start at 0 and 1
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batch(head: str, cfg: Any) -> dict[str, np.ndarray]:
    """Random ids, padding's among them, so that mask and ids disagree; the first row is padded on
    the right, the last of several on the left."""
    rng = np.random.default_rng(1)
    shape = (2, 3, TIME) if "MultipleChoice" in head else (3, TIME)
    mask = np.ones(shape, np.int64)
    mask[..., 0, 7:] = mask[..., 2, :2] = 0
    given = {"input_ids": rng.integers(0, cfg.vocab_size, shape), "attention_mask": mask}
    if hasattr(cfg, "type_vocab_size"):
        given["token_type_ids"] = rng.integers(0, cfg.type_vocab_size, shape)
    return given


def run(model: Any, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Their outputs as we give them."""
    with torch.no_grad():
        found = model(**{key: torch.tensor(value) for key, value in given.items()})
    if hasattr(found, "start_logits"):
        return [np.stack([found.start_logits.numpy(), found.end_logits.numpy()], -1)]
    kinds = ("logits", "last_hidden_state", "pooler_output")
    return [found[kind].numpy() for kind in kinds if found.get(kind) is not None]


def ours(
    model: Any, variables: Any, given: dict[str, np.ndarray], **options: Any
) -> list[np.ndarray]:
    """Our outputs in their order."""
    found = jax.jit(functools.partial(model.apply, **options))(variables, **given)
    return [np.asarray(x) for x in ([found] if hasattr(found, "shape") else vars(found).values())]


def compare_outputs_and_bytes(folder: Path, encoder: Encoder, head: str, config: str) -> None:
    """Outputs agree, every tensor comes back as it was, and transformers reopens what we write."""
    theirs = reference(encoder, head, config)
    theirs.save_pretrained(folder / "theirs")
    model, variables = zoo.from_pretrained(folder / "theirs")
    given = batch(head, theirs.config)
    wanted = run(theirs, given)
    for a, b in zip(wanted, ours(model, variables, given), strict=True):
        error = np.abs(a - b).max() / a.std()
        print("largest error over the standard deviation:", error)
        assert a.shape == b.shape and error <= 2e-5

    zoo.save_pretrained(folder / "ours", model, variables)
    before, after = (load_file(folder / kind / "model.safetensors") for kind in ("theirs", "ours"))
    assert before.keys() - after.keys() <= set(encoder.unused)
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype and tensor.tobytes() == before[name].tobytes()
    (written,) = transformers.AutoConfig.from_pretrained(folder / "ours").architectures
    again = getattr(transformers, written).from_pretrained(folder / "ours").eval()
    for a, b in zip(wanted, run(again, given), strict=True):
        np.testing.assert_array_equal(a, b)


def compare_float64(folder: Path, encoder: Encoder, head: str, config: str) -> None:
    """Which alone sees a wrong epsilon."""
    theirs = reference(encoder, head, config).double()
    theirs.save_pretrained(folder)
    given = batch(head, theirs.config)
    wanted = run(theirs, given)
    with jax.enable_x64(True):
        model, variables = zoo.from_pretrained(folder)
        assert model.dtype == jnp.float64
        found = ours(model, variables, given)
    for a, b in zip(wanted, found, strict=True):
        print("largest error:", np.abs(a - b).max())
        assert np.abs(a - b).max() <= 1e-10


def compare_dropout(folder: Path, encoder: Encoder, head: str, rate: str) -> None:
    """Each rate is where theirs is: at rate 1 both drop everything there, and nothing elsewhere."""
    config = dict.fromkeys(encoder.rates, 0.0) | {rate: 1.0}
    only = dataclasses.replace(encoder, configs={rate: config})
    theirs = reference(only, head, rate)
    theirs.save_pretrained(folder)
    model, variables = zoo.from_pretrained(folder)
    given = batch(head, theirs.config)
    wanted = run(theirs.train(), given)
    found = ours(model, variables, given, train=True, rngs={"dropout": jax.random.key(0)})
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=2e-5)


def compare_training(
    folder: Path, encoder: Encoder, head: str, config: str, float64: bool = True
) -> None:
    """The loss and gradients agree, and so do the weights after three steps of AdamW.

    In float64 where the reference computes so: Adam divides a gradient that is zero up to rounding
    by its own size.
    """
    theirs = reference(encoder, head, config)
    theirs = theirs.double() if float64 else theirs
    theirs.save_pretrained(folder / "before")
    given = batch(head, theirs.config)
    mask, pad = given["attention_mask"], theirs.config.pad_token_id
    mask[..., :2] = 1  # torch keeps the row of padding, which nothing may then depend on
    others = np.where(given["input_ids"] == pad, pad + 1, given["input_ids"])
    given["input_ids"] = np.where(mask == 1, others, pad)
    epsilon, near = (1e-8, 1e-9) if float64 else (1e-4, 2e-5)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-2, eps=epsilon, weight_decay=0.01)
    adamw = optax.adamw(1e-2, eps=epsilon, weight_decay=0.01)
    with jax.enable_x64(True) if float64 else contextlib.nullcontext():
        model, variables = zoo.from_pretrained(folder / "before")
        (shape,) = (logits.shape for logits in run(theirs, given))
        labels = np.random.default_rng(2).integers(0, shape[-1], shape[:-1])
        if labels.shape == mask.shape:  # of tokens: padding has none
            labels = np.where(mask == 1, labels, IGNORED)

        @jax.jit
        def step(params, state):
            def loss(params):
                logits = model.apply({"params": params}, **given)
                losses = optax.softmax_cross_entropy_with_integer_labels(
                    logits, np.maximum(labels, 0)
                )
                return jnp.mean(losses, where=labels != IGNORED)

            value, grads = jax.value_and_grad(loss)(params)
            updates, state = adamw.update(grads, state, params)
            return value, grads, optax.apply_updates(params, updates), state

        params = variables["params"]
        state = adamw.init(params)
        rules = table(model)
        for n in range(3):
            optimizer.zero_grad()
            tensors = {key: torch.tensor(value) for key, value in given.items()}
            wanted = theirs(**tensors, labels=torch.tensor(labels)).loss
            wanted.backward()
            found, grads, params, state = step(params, state)
            assert abs(float(found) - wanted.item()) < near
            if n == 0:
                compare_gradients(rules, grads, theirs, near)
            optimizer.step()
        theirs.save_pretrained(folder / "after")
        _, after = zoo.from_pretrained(folder / "after")
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(after["params"]), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 if float64 else 3e-5)


def compare_gradients(rules: list[mapping.Rule], grads: Any, theirs: Any, near: float) -> None:
    """Ours, written as their tensors, beside theirs."""
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(grads, sep="/").items()}
    wanted = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    size = max(np.abs(value.numpy()).max() for value in wanted.values())
    for name, value in mapping.write_all(rules, flat).items():
        error = np.abs(value - wanted.pop(name).numpy()).max() / size
        assert error <= near, (name, error)
    assert not wanted


def table(model: Any) -> list[mapping.Rule]:
    """The rules for a model, with their names as a model with a head has them."""
    family = loading.families()[registry.family(model.cfg)]
    prefix = "" if model.task == loading.BARE else family.PREFIX
    head = mapping.at_prefix(prefix, family.head(model.cfg, model.task))
    return mapping.under(prefix, loading.backbone_of(family, model.cfg, model.task)) + head
