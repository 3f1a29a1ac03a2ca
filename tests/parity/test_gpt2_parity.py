"""GPT-2 beside transformers', live. ``python tests/parity/test_gpt2_parity.py`` from the
repository's root freezes what transformers computes for the normal suite (tests/models/test_gpt2.py
and tests/inference/test_generate.py)."""

import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))
import gpt2_layout as layout

from zoo.errors import InputError
from zoo.models.gpt2 import Config
from zoo.weights import gpt2

CLASSES = {task: getattr(transformers, name) for name, task in gpt2.ARCHITECTURES.items()}
QUICK = ("odd", "by depth")
"""Configs for quick runs."""
PAIRS = [
    pytest.param(name, task, marks=[pytest.mark.full] * (name not in QUICK))
    for name in layout.CONFIGS
    for task in CLASSES
]


def reference(name: str, task: str = "text-generation", seed: int = 0) -> Any:
    """transformers' model in float64 with random weights, biases and norms; no dropout."""
    config = transformers.GPT2Config(
        **layout.CONFIGS[name],
        num_labels=3,
        pad_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation="eager",
    )
    module = CLASSES[task](config).double().eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for path, weight in module.named_parameters():
            middle = 1.0 if re.search(r"ln_\w+\.weight", path) else 0.0
            weight.copy_(torch.tensor(middle + rng.normal(size=tuple(weight.shape)) * 0.3))
    return module


def tensors(module: Any, dtype: str = "float64") -> dict[str, np.ndarray]:
    return {name: x.numpy().astype(dtype) for name, x in module.state_dict().items()}


def batch(name: str, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, mask and types; id 0 is the padding and only that."""
    vocab, rng = layout.CONFIGS[name]["vocab_size"], np.random.default_rng(1)
    ids = rng.integers(1, vocab, (4, 7), dtype=np.int32)
    gaps = np.array([0, 3, 6, 1])[:, None]
    mask = np.arange(7) >= gaps if side == "left" else np.arange(7) < 7 - gaps
    return np.where(mask, ids, 0), mask.astype(np.int32), rng.integers(0, vocab, (4, 7))


def run(module: Any, task: str, ids: Any, mask: Any, types: Any = None) -> torch.Tensor:
    """Logits or hidden states; positions count the tokens that count."""
    places = np.maximum(np.cumsum(mask, 1) - 1, 0)
    arrays = {"input_ids": ids, "attention_mask": mask, "position_ids": places}
    if types is not None:
        arrays["token_type_ids"] = types
    output = module(**{name: torch.tensor(x).long() for name, x in arrays.items()})
    return output.last_hidden_state if task == "feature-extraction" else output.logits


def ours(module: Any, task: str, dtype: str) -> tuple[Config, Any, Any]:
    cfg = gpt2.read_config(module.config.to_dict())
    return cfg, cfg.build(task, dtype, dtype), layout.read(cfg, task, tensors(module, dtype))


@pytest.mark.parametrize("side", ("left", "right"))
@pytest.mark.parametrize("name, task", PAIRS)
def test_outputs_and_gradients(name: str, task: str, side: str) -> None:
    module = reference(name, task)
    ids, mask, types = batch(name, side)
    output = run(module, task, ids, mask, types)
    counts = np.ones_like(output.detach()) if output.ndim == 2 else mask[..., None]
    target = np.random.default_rng(2).normal(size=tuple(output.shape)) * counts
    (output * torch.tensor(target)).sum().backward()
    want, counts = output.detach().numpy(), np.broadcast_to(counts, output.shape) != 0
    gradients = {path: weight.grad.numpy() for path, weight in module.named_parameters()}
    for dtype, tolerance in (("float32", 2e-5), ("float64", 1e-10)):
        with jax.enable_x64(dtype == "float64"):
            cfg, model, params = ours(module, task, dtype)

            def loss(params: Any) -> Any:
                output = model.apply({"params": params}, ids, mask, types)  # noqa: B023
                return jnp.sum(output * target.astype(output.dtype)), output

            (_, got), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
            assert got.dtype == dtype
            error = np.abs(got - want)[counts].max()
            assert error <= tolerance * want[counts].std(), (dtype, error)
            grads = layout.write(cfg, task, jax.tree.map(np.asarray, grads))
            assert grads.keys() == gradients.keys()
            for path, gradient in gradients.items():
                error = np.abs(grads[path] - gradient).max()
                # Of a single row there is no deviation to measure by.
                assert error <= tolerance * max(np.abs(gradient).max(), 1e-2), (dtype, path, error)


@pytest.mark.parametrize("name, task", PAIRS)
def test_weights_and_config_come_back_as_they_were(name: str, task: str) -> None:
    module = reference(name, task).float()
    theirs = tensors(module, "float32")
    cfg, _, params = ours(module, task, "float32")
    back = layout.write(cfg, task, params)
    missing = theirs.keys() - back.keys()
    assert all(any(re.fullmatch(pattern, path) for pattern in gpt2.IGNORED) for path in missing)
    assert back.keys() <= theirs.keys()
    assert missing == ({"lm_head.weight"} if task == "text-generation" and cfg.tied else set())
    for path, array in back.items():
        assert array.dtype == theirs[path].dtype
        assert array.tobytes() == theirs[path].tobytes() and array.shape == theirs[path].shape
    shapes = jax.eval_shape(cfg.build(task).init, jax.random.key(0), **cfg.inputs())["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)

    values = gpt2.write_config(cfg, task)
    again = transformers.GPT2Config.from_dict(values)
    assert [type(module).__name__] == again.architectures == values["architectures"]
    for field in layout.CONFIGS[name].keys() - {"activation_function"}:
        assert getattr(again, field) == getattr(module.config, field)
    assert gpt2.read_config(again.to_dict()) == gpt2.read_config(values)
    if task == "text-classification":
        assert again.num_labels == 3 and gpt2.read_config(values) == cfg
    other = CLASSES[task](again)
    other.load_state_dict({k: torch.tensor(v) for k, v in theirs.items()})
    ids, _, _ = batch(name, "left")
    mask, again.pad_token_id = np.ones_like(ids), 0
    with torch.no_grad():
        same = run(other.eval(), task, ids, mask).numpy()
        np.testing.assert_allclose(same, run(module, task, ids, mask).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ("odd", "untied"))
def test_three_steps_of_adamw(name: str) -> None:
    module = reference(name).train()
    ids, mask, _ = batch(name, "right")
    target = np.random.default_rng(2).normal(size=(*ids.shape, module.config.vocab_size))
    target *= mask[..., None]
    with jax.enable_x64(True):
        cfg, model, params = ours(module, "text-generation", "float64")
        # The keys' biases have no gradient but rounding, which a small epsilon would make steps of.
        options = {"weight_decay": 0.1, "eps": 1e-3}
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, **options)
        adamw = optax.adamw(1e-2, **options)
        state = adamw.init(params)

        @jax.jit
        def step(params: Any, state: Any) -> Any:
            def loss(params: Any) -> Any:
                logits = model.apply({"params": params}, ids, mask, train=True)
                return jnp.sum((logits - target) ** 2 * mask[..., None])

            updates, state = adamw.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        for _ in range(3):
            optimizer.zero_grad()
            logits = run(module, "text-generation", ids, mask)
            ((logits - torch.tensor(target)) ** 2 * torch.tensor(mask)[..., None]).sum().backward()
            optimizer.step()
            params, state = step(params, state)
        theirs = tensors(module)
        for path, array in layout.write(cfg, "text-generation", params).items():
            np.testing.assert_allclose(array, theirs[path], rtol=0, atol=1e-9, err_msg=path)


def test_a_config_that_computes_otherwise_is_refused() -> None:
    values = transformers.GPT2Config().to_dict()
    assert gpt2.read_config(values) == Config()
    assert gpt2.read_config({**values, "use_cache": False, "summary_type": "mean"}) == Config()
    for name, value in (
        ("activation_function", "mish"),
        ("add_cross_attention", True),
        ("is_encoder_decoder", True),
    ):
        with pytest.raises(InputError, match=name):
            gpt2.read_config({**values, name: value})


def compute() -> dict[str, np.ndarray]:
    """What the golden file holds."""
    module = reference("odd")
    found = {f"weight/{name}": x for name, x in tensors(module).items() if "lm_head" not in name}
    ids, mask, types = batch("odd", "left")
    found |= {"logits/input_ids": ids, "logits/attention_mask": mask, "logits/types": types}
    output = run(module, "text-generation", ids, mask, types)
    found["logits/output"] = output.detach().numpy()
    prompts, mask = map(torch.tensor, layout.prompts(module.config.vocab_size))
    for name, options in {"greedy": {}, **layout.BEAMS}.items():
        tokens = module.generate(
            prompts.long(), attention_mask=mask, do_sample=False, **layout.GREEDY, **options
        )
        found[f"tokens/{name}"] = tokens.numpy().astype(np.int32)
    return found


def test_frozen_values_are_what_transformers_computes() -> None:
    frozen, live = layout.load(), compute()
    assert {f"{kind}/{name}" for kind in frozen for name in frozen[kind]} == live.keys()
    for name, value in live.items():
        kind, _, rest = name.partition("/")
        np.testing.assert_allclose(frozen[kind][rest], value, rtol=0, atol=1e-10, err_msg=name)


if __name__ == "__main__":
    np.savez_compressed(layout.GOLDEN, **compute())
