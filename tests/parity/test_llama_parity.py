"""Llama, Mistral, Qwen2 and Qwen3 beside transformers, live, on small random configs.
``python tests/parity/test_llama_parity.py`` from the repository's root freezes what transformers
computes for the normal suite (tests/weights/test_llama_weights.py)."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers

from zoo.weights import llama, mapping

GOLDEN = Path(__file__).parents[1] / "golden" / "llama_transformers.npz"
FAMILIES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
HEADS = {
    "text-generation": "ForCausalLM",
    "feature-extraction": "Model",
    "text-classification": "ForSequenceClassification",
}
TIME, PAD = 13, 0


def case(kind: str, width: int, heads: int, groups: int, **values: Any) -> dict[str, Any]:
    """The config.json of a small model."""
    return {
        "model_type": kind,
        "vocab_size": 19,
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": 22,
        "max_position_embeddings": 32,
        "pad_token_id": PAD,
        "num_labels": 3,
    } | values


def rope(kind: str, theta: float = 500.0, **numbers: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **numbers}}


YARN = {"factor": 4.0, "original_max_position_embeddings": 8}
LLAMA3 = YARN | {"low_freq_factor": 0.5, "high_freq_factor": 2.0}
CASES = {
    "llama tied": case("llama", 12, 6, 2, tie_word_embeddings=True, rms_norm_eps=3e-4),
    "llama biases": case("llama", 20, 5, 1, attention_bias=True, mlp_bias=True, head_dim=6),
    "llama linear": case("llama", 12, 3, 3, head_dim=8, **rope("linear", factor=2.5)),
    "llama dynamic": case("llama", 16, 2, 1, **rope("dynamic", factor=3.0))
    | {"max_position_embeddings": 7},
    "llama llama3": case("llama", 24, 4, 2, head_dim=10, **rope("llama3", **LLAMA3)),
    "llama yarn": case("llama", 24, 4, 1, head_dim=12, **rope("yarn", **YARN)),
    "llama yarn mscale": case(
        "llama", 24, 2, 1, hidden_act="gelu_new",
        **rope("yarn", 50.0, **YARN, beta_fast=3, beta_slow=0.5, mscale=0.7, mscale_all_dim=1.2),
    ),
    "llama older": case("llama", 12, 4, 2, head_dim=6, rope_theta=77.0, hidden_act="gelu",
                        rope_scaling={"type": "linear", "factor": 3.0}),
    "mistral window 4": case("mistral", 12, 6, 3, sliding_window=4, rms_norm_eps=1e-3),
    "mistral window 1": case("mistral", 14, 3, 1, head_dim=8, sliding_window=1),
    "mistral no window": case("mistral", 20, 5, 5, sliding_window=None, tie_word_embeddings=True),
    "mistral yarn": case("mistral", 16, 4, 2, sliding_window=5, hidden_act="relu",
                         **rope("yarn", **YARN)),
    "qwen2 tied": case("qwen2", 12, 6, 2, tie_word_embeddings=True, rms_norm_eps=2e-5),
    "qwen2 head_dim": case("qwen2", 20, 5, 1, head_dim=6, **rope("default", 1e6)),
    "qwen2 window": case("qwen2", 16, 4, 2, use_sliding_window=True, sliding_window=3,
                         max_window_layers=1),
    "qwen2 layers": case("qwen2", 24, 4, 4, use_sliding_window=True, sliding_window=5,
                         layer_types=["sliding_attention", "full_attention"],
                         **rope("yarn", **YARN)),
    "qwen3 tied": case("qwen3", 12, 6, 2, head_dim=8, tie_word_embeddings=True, rms_norm_eps=1e-3),
    "qwen3 biases": case("qwen3", 20, 5, 1, head_dim=6, attention_bias=True),
    "qwen3 window": case("qwen3", 14, 4, 4, head_dim=4, use_sliding_window=True, sliding_window=2,
                         max_window_layers=0),
    "qwen3 linear": case("qwen3", 16, 4, 2, head_dim=10, **rope("linear", factor=4.0)),
}  # fmt: skip
FROZEN = ("llama llama3", "mistral yarn", "qwen2 window", "qwen3 biases")
TRAINED = ("llama biases", "mistral window 4", "qwen2 tied", "qwen3 biases")


def reference(values: dict[str, Any], task: str, seed: int = 0) -> Any:
    """Transformers' model with random weights that float16 holds exactly."""
    kind = values["model_type"]
    config = transformers.AutoConfig.for_model(**values)
    model = getattr(transformers, FAMILIES[kind] + HEADS[task])(config).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = rng.normal(size=weight.shape) * (0.5 if weight.ndim == 1 else 0.35)
            value = noise + ("norm" in name)
            weight.copy_(torch.tensor(value.astype(np.float16).astype(np.float32)))
    return model


def batch(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask: no padding, padding on the right, padding on the left."""
    ids = np.random.default_rng(seed).integers(1, 19, (3, TIME))
    mask = np.ones_like(ids)
    mask[1, 9:] = mask[2, :5] = 0
    return np.where(mask == 1, ids, PAD), mask


def state(model: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def rules(cfg: Any, task: str) -> list[mapping.Rule]:
    prefix = "" if task == "feature-extraction" else llama.PREFIX
    return mapping.under(prefix, llama.backbone(cfg)) + llama.head(cfg, task)


def nested(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = jnp.asarray(value)
    return tree


def flat(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x) for p, x in leaves}


def ours(values: dict[str, Any], task: str, theirs: Any) -> tuple[Any, dict[str, Any]]:
    """Our model and its params, read from theirs; every parameter is filled."""
    cfg = llama.read_config(values)
    model = cfg.build(task)
    params = nested(mapping.read_all(rules(cfg, task), state(theirs).__getitem__))
    shapes = jax.eval_shape(model.init, jax.random.key(0), **cfg.inputs())["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    return model, params


def run(model: Any, task: str, ids: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    mask = None if mask is None else torch.tensor(mask)
    with torch.no_grad():
        output = model(torch.tensor(ids), attention_mask=mask)
    return (output.last_hidden_state if task == "feature-extraction" else output.logits).numpy()


def close(result: Any, want: np.ndarray) -> None:
    error = np.abs(np.asarray(result) - want).max() / want.std()
    print("largest error over the standard deviation:", error)
    assert error <= 2e-5


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("name", CASES)
def test_outputs(name: str, task: str) -> None:
    theirs = reference(CASES[name], task)
    model, params = ours(CASES[name], task, theirs)
    ids, mask = batch()
    result = jax.jit(model.apply)({"params": params}, ids, mask)
    want = run(theirs, task, ids, mask)
    if task != "text-classification":
        result, want = np.asarray(result)[mask == 1], want[mask == 1]
    close(result, want)


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_comes_back_as_it_was(name: str) -> None:
    for task in HEADS:
        theirs = reference(CASES[name], task)
        model, params = ours(CASES[name], task, theirs)
        back = mapping.write_all(rules(model.cfg, task), flat(params))
        want = state(theirs)
        if model.cfg.tied:
            want.pop("lm_head.weight", None)
        assert back.keys() == want.keys()
        for key, value in want.items():
            assert back[key].tobytes() == value.tobytes(), key


@pytest.mark.parametrize("name", CASES)
def test_the_config_that_we_write_computes_the_same(name: str) -> None:
    cfg, task = llama.read_config(CASES[name]), "text-generation"
    written = json.loads(json.dumps(llama.write_config(cfg, task)))
    again = llama.read_config(written)
    assert again == cfg
    (architecture,) = written["architectures"]
    assert llama.ARCHITECTURES[architecture] == task
    ids, _ = batch()
    first, second = reference(CASES[name], task), reference(written, task)
    second.load_state_dict(first.state_dict())
    close(run(second, task, ids, None), run(first, task, ids, None))


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_and_three_steps(name: str) -> None:
    task = "text-generation"
    theirs = reference(CASES[name], task)
    model, params = ours(CASES[name], task, theirs)
    ids, mask = batch()
    target = np.random.default_rng(2).normal(size=(*ids.shape, 19)).astype(np.float32)
    target *= mask[..., None] / mask.sum()  # padding has no loss

    def loss(params: Any) -> jax.Array:
        return jnp.sum(jax.nn.log_softmax(model.apply({"params": params}, ids, mask)) * target)

    def torch_loss() -> Any:
        logits = theirs(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits
        return (torch.log_softmax(logits, -1) * torch.tensor(target)).sum()

    optimizer = optax.adamw(1e-3, eps=1e-6, weight_decay=0.1)
    step = torch.optim.AdamW(theirs.parameters(), 1e-3, eps=1e-6, weight_decay=0.1)
    moments, gradient = optimizer.init(params), jax.jit(jax.grad(loss))
    start = params
    table = rules(model.cfg, task)
    for n in range(3):
        step.zero_grad()
        torch_loss().backward()
        gradients = gradient(params)
        if n == 0:
            want = {key: weight.grad.numpy() for key, weight in theirs.named_parameters()}
            size = max(np.abs(value).max() for value in want.values())
            for key, value in mapping.write_all(table, flat(gradients)).items():
                error = np.abs(value - want[key]).max() / size
                assert error <= 1e-5, (key, error)
        step.step()
        updates, moments = optimizer.update(gradients, moments, params)
        params = optax.apply_updates(params, updates)
    want = mapping.read_all(table, state(theirs).__getitem__)
    for key, value in flat(params).items():
        assert np.abs(value - flat(start)[key]).max() > 1e-3, key
        np.testing.assert_allclose(value, want[key], rtol=0, atol=3e-5, err_msg=key)


def test_frozen_values_are_what_transformers_computes() -> None:
    frozen, live = np.load(GOLDEN), freeze()
    assert set(frozen.files) == live.keys()
    for key, value in live.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(frozen[key], value, rtol=0, atol=1e-5, err_msg=key)
        else:
            np.testing.assert_array_equal(frozen[key], value, err_msg=key)


def freeze() -> dict[str, np.ndarray]:
    """Config, weights, inputs and logits of the frozen cases."""
    found, (ids, mask) = {}, batch()
    found["input_ids"], found["attention_mask"] = ids.astype(np.int32), mask.astype(np.int32)
    for name in FROZEN:
        model = reference(CASES[name], "text-generation")
        found[f"{name}/config"] = np.array(json.dumps(CASES[name]))
        found[f"{name}/logits"] = run(model, "text-generation", ids, mask)
        for key, value in state(model).items():
            found[f"{name}/weight/{key}"] = value.astype(np.float16)
    return found


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **freeze())
