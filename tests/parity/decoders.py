"""Causal decoders beside transformers': small random models, what is compared and how closely.

A family of decoders is its module of `zoo.weights`; `values` is a config.json as a dict.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers
from safetensors.numpy import load_file

import zoo
from zoo.weights import mapping

TASKS = ("text-generation", "feature-extraction", "text-classification")
VOCABULARY, TIME, PAD = 19, 13, 0
GENERATION = ({}, {"num_beams": 3, "eos_token_id": 4, "repetition_penalty": 1.3})


def case(kind: str, width: int, heads: int, groups: int, **values: Any) -> dict[str, Any]:
    """The config.json of a small model."""
    return {
        "model_type": kind,
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": 22,
        "max_position_embeddings": 32,
        "pad_token_id": PAD,
        "num_labels": 3,
    } | values


def reference(family: Any, values: dict[str, Any], task: str, seed: int = 0) -> Any:
    """Transformers' model with random weights that float16 holds exactly."""
    kind = values["model_type"]
    classes = [getattr(transformers, n) for n, of in family.ARCHITECTURES.items() if of == task]
    (cls,) = [cls for cls in classes if cls.config_class.model_type == kind]
    model = cls(transformers.AutoConfig.for_model(**values)).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = rng.normal(size=weight.shape) * (0.5 if weight.ndim == 1 else 0.35)
            value = noise + ("norm" in name)
            weight.copy_(torch.tensor(value.astype(np.float16).astype(np.float32)))
    return of_any_size(model)


def of_any_size(model: Any) -> Any:
    """Torch's product of groups, the default, wants rows of whole 16 bytes."""
    if hasattr(model.config, "num_local_experts"):
        model.set_experts_implementation("eager")
    return model


def batch(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask: no padding, padding on the right, padding on the left."""
    ids = np.random.default_rng(seed).integers(1, VOCABULARY, (3, TIME))
    mask = np.ones_like(ids)
    mask[1, 9:] = mask[2, :5] = 0
    return np.where(mask == 1, ids, PAD), mask


def state(model: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def file(model: Any) -> dict[str, np.ndarray]:
    """The tensors that transformers writes: a tied head is the embedding."""
    tied = model.config.tie_word_embeddings
    return {k: v for k, v in state(model).items() if not (tied and k == "lm_head.weight")}


def rules(family: Any, cfg: Any, task: str) -> list[mapping.Rule]:
    prefix = "" if task == "feature-extraction" else family.PREFIX
    return mapping.under(prefix, family.backbone(cfg)) + family.head(cfg, task)


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


def ours(family: Any, values: dict[str, Any], task: str, theirs: Any) -> tuple[Any, dict[str, Any]]:
    """Our model and its params, read from theirs; every parameter is filled."""
    cfg = family.read_config(values)
    model = cfg.build(task)
    params = nested(mapping.read_all(rules(family, cfg, task), state(theirs).__getitem__))
    shapes = jax.eval_shape(model.init, jax.random.key(0), **cfg.inputs())["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    return model, params


def run(model: Any, task: str, ids: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    with torch.no_grad():
        output = model(torch.tensor(ids), **masks(model, mask))
    return (output.last_hidden_state if task == "feature-extraction" else output.logits).numpy()


def masks(model: Any, mask: np.ndarray | None) -> dict[str, torch.Tensor]:
    """The mask, and the positions where a model learns them and does not count them by itself."""
    if mask is None:
        return {}
    given = {"attention_mask": torch.tensor(mask)}
    if model.config.model_type == "openai-gpt":
        given["position_ids"] = torch.tensor(np.maximum(np.cumsum(mask, axis=1) - 1, 0))
    return given


def close(result: Any, want: np.ndarray) -> None:
    error = np.abs(np.asarray(result) - want).max() / want.std()
    print("largest error over the standard deviation:", error)
    assert error <= 2e-5


def compare_outputs(family: Any, values: dict[str, Any], task: str) -> None:
    """Ours and theirs agree at every token that counts."""
    theirs = reference(family, values, task)
    model, params = ours(family, values, task, theirs)
    ids, mask = batch()
    result = jax.jit(model.apply)({"params": params}, ids, mask)
    want = run(theirs, task, ids, mask)
    if task != "text-classification":
        result, want = np.asarray(result)[mask == 1], want[mask == 1]
    close(result, want)


def compare_tensors(family: Any, values: dict[str, Any], task: str) -> None:
    """Every tensor is read, and comes back as it was."""
    theirs = reference(family, values, task)
    model, params = ours(family, values, task, theirs)
    back = mapping.write_all(rules(family, model.cfg, task), flat(params))
    want = file(theirs)
    assert back.keys() == want.keys()
    for key, value in want.items():
        assert back[key].tobytes() == value.tobytes(), key


def compare_written_config(family: Any, values: dict[str, Any], task: str) -> None:
    """The config.json that we write is the same model, to us and to transformers."""
    cfg = family.read_config(values)
    written = json.loads(json.dumps(family.write_config(cfg, task)))
    assert family.read_config(written) == cfg
    (architecture,) = written["architectures"]
    assert family.ARCHITECTURES[architecture] == task
    first, second = reference(family, values, task), reference(family, written, task)
    assert type(second).__name__ == architecture
    second.load_state_dict(first.state_dict())
    second.config.pad_token_id = PAD  # a tokenizer's affair
    ids, _ = batch()
    close(run(second, task, ids, None), run(first, task, ids, None))


def compare_training(family: Any, values: dict[str, Any]) -> None:
    """Gradients agree, and so do the weights after three steps of AdamW."""
    task = "text-generation"
    theirs = reference(family, values, task)
    model, params = ours(family, values, task, theirs)
    table = rules(family, model.cfg, task)
    ids, mask = batch()
    target = np.random.default_rng(2).normal(size=(*ids.shape, VOCABULARY)).astype(np.float32)
    target *= mask[..., None] / mask.sum()  # padding has no loss

    def loss(params: Any) -> jax.Array:
        return jnp.sum(jax.nn.log_softmax(model.apply({"params": params}, ids, mask)) * target)

    def torch_loss() -> Any:
        logits = theirs(torch.tensor(ids), **masks(theirs, mask)).logits
        return (torch.log_softmax(logits, -1) * torch.tensor(target)).sum()

    optimizer = optax.adamw(1e-3, eps=1e-4, weight_decay=0.1)
    step = torch.optim.AdamW(theirs.parameters(), 1e-3, eps=1e-4, weight_decay=0.1)
    moments, gradient = optimizer.init(params), jax.jit(jax.grad(loss))
    start = params
    for n in range(3):
        step.zero_grad()
        torch_loss().backward()
        gradients = gradient(params)
        if n == 0:
            still = {k for k, x in flat(gradients).items() if np.abs(x).max() < 1e-6}
            want = {key: weight.grad.numpy() for key, weight in theirs.named_parameters()}
            size = max(np.abs(value).max() for value in want.values())
            for key, value in mapping.write_all(table, flat(gradients)).items():
                error = np.abs(value - want[key]).max() / size
                assert error <= 2e-5, (key, error)
        step.step()
        updates, moments = optimizer.update(gradients, moments, params)
        params = optax.apply_updates(params, updates)
    want = mapping.read_all(table, state(theirs).__getitem__)
    for key, value in flat(params).items():
        if not (key in still and key.endswith("key/bias")):  # which softmax takes away
            assert np.abs(value - flat(start)[key]).max() > 1e-3, key
        np.testing.assert_allclose(value, want[key], rtol=0, atol=3e-5, err_msg=key)


def freeze(family: Any, cases: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    """Config, weights and logits of each case, and the inputs."""
    ids, mask = batch()
    found = {"input_ids": ids.astype(np.int32), "attention_mask": mask.astype(np.int32)}
    for name, values in cases.items():
        model = reference(family, values, "text-generation")
        found[f"{name}/config"] = np.array(json.dumps(values))
        found[f"{name}/logits"] = run(model, "text-generation", ids, mask)
        for key, value in file(model).items():
            found[f"{name}/weight/{key}"] = value.astype(np.float16)
    return found


def compare_frozen(frozen: Any, live: dict[str, np.ndarray]) -> None:
    assert set(frozen.files) == live.keys()
    for key, value in live.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(frozen[key], value, rtol=0, atol=1e-5, err_msg=key)
        else:
            np.testing.assert_array_equal(frozen[key], value, err_msg=key)


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """The file of a small model."""
    return load_file(folder / "model.safetensors")


def compare_folders(place: Path, family: Any, values: dict[str, Any], task: str) -> None:
    """Their folder opened by us, and ours by them: outputs, bytes, and their own outputs again."""
    theirs = reference(family, values, task)
    theirs.save_pretrained(place / "theirs")
    model, variables = zoo.from_pretrained(place / "theirs")
    assert model.task == task
    ids, mask = batch()
    want = run(theirs, task, ids, mask)
    found = np.asarray(jax.jit(model.apply)(variables, ids, mask))
    real = mask == 1 if want.ndim > 2 else slice(None)
    close(found[real], want[real])

    zoo.save_pretrained(place / "ours", model, variables)
    before, after = tensors(place / "theirs"), tensors(place / "ours")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype and tensor.tobytes() == after[name].tobytes()
    again, _ = zoo.from_pretrained(place / "ours")
    classes = {} if task == "text-classification" else {"num_classes": model.cfg.num_classes}
    assert dataclasses.replace(again.cfg, **classes) == model.cfg
    reopened = of_any_size(type(theirs).from_pretrained(place / "ours").eval())
    reopened.config.pad_token_id = PAD  # a tokenizer's affair
    assert np.array_equal(run(reopened, task, ids, mask), want)


def compare_float64(place: Path, family: Any, values: dict[str, Any], task: str) -> None:
    """Which alone sees a wrong epsilon."""
    theirs = reference(family, values, task).double()
    theirs.save_pretrained(place)
    ids, mask = batch()
    want = run(theirs, task, ids, mask)
    with jax.enable_x64(True):
        model, variables = zoo.from_pretrained(place)
        assert model.dtype == jnp.float64
        found = np.asarray(jax.jit(model.apply)(variables, ids, mask))
    real = mask == 1 if want.ndim > 2 else slice(None)
    error = np.abs(found[real] - want[real]).max()
    print("largest error in float64:", error)
    assert error <= 1e-10


def compare_steps(place: Path, family: Any, values: dict[str, Any]) -> None:
    """`compare_training` through folders, for files that are not what transformers has in memory:
    gradients travel in the place of weights."""
    theirs = reference(family, values, "text-generation")
    theirs.save_pretrained(place / "before")
    model, variables = zoo.from_pretrained(place / "before")
    ids, mask = batch()
    target = np.random.default_rng(2).normal(size=(*ids.shape, VOCABULARY)).astype(np.float32)
    target *= mask[..., None] / mask.sum()  # padding has no loss

    def loss(params: Any) -> jax.Array:
        return jnp.sum(jax.nn.log_softmax(model.apply({"params": params}, ids, mask)) * target)

    optimizer = optax.adamw(1e-3, eps=1e-4, weight_decay=0.1)
    step = torch.optim.AdamW(theirs.parameters(), 1e-3, eps=1e-4, weight_decay=0.1)
    gradient = jax.jit(jax.grad(loss))
    start = params = variables["params"]
    moments = optimizer.init(params)
    for n in range(3):
        step.zero_grad()
        logits = theirs(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits
        (torch.log_softmax(logits, -1) * torch.tensor(target)).sum().backward()
        gradients = gradient(params)
        if n == 0:
            copy = type(theirs)(theirs.config)
            with torch.no_grad():
                for weight, other in zip(theirs.parameters(), copy.parameters(), strict=True):
                    other.copy_(weight.grad)
            copy.save_pretrained(place / "gradients")
            want = flat(zoo.from_pretrained(place / "gradients")[1]["params"])
            size = max(np.abs(value).max() for value in want.values())
            for key, value in flat(gradients).items():
                error = np.abs(value - want[key]).max() / size
                assert error <= 2e-5, (key, error)
        step.step()
        updates, moments = optimizer.update(gradients, moments, params)
        params = optax.apply_updates(params, updates)
    theirs.save_pretrained(place / "after")
    want = flat(zoo.from_pretrained(place / "after")[1]["params"])
    for key, value in flat(params).items():
        moved = np.abs(value - flat(start)[key]).max() > 1e-3
        assert moved or key.endswith("key/bias"), key  # softmax takes that away but for rotation
        np.testing.assert_allclose(value, want[key], rtol=0, atol=3e-5, err_msg=key)


def compare_generated(
    place: Path, family: Any, values: dict[str, Any], seed: int, **options: Any
) -> None:
    """The tokens of `generate`, from prompts of unequal lengths padded on the left."""
    theirs = reference(family, values, "text-generation", seed)
    theirs.save_pretrained(place)
    model, variables = zoo.from_pretrained(place)
    ids, mask = batch()
    ids, mask = ids[[0, 2], :8], mask[[0, 2], :8]
    pad = 1  # their beams are filled up with the end token where it is 0
    theirs.generation_config.eos_token_id = None
    want = theirs.generate(
        torch.tensor(ids), attention_mask=torch.tensor(mask), max_new_tokens=8, do_sample=False,
        pad_token_id=pad, **options,
    ).numpy()  # fmt: skip
    found = zoo.generate(model, variables, ids, mask, max_new_tokens=8, pad_token_id=pad, **options)
    found = np.asarray(found)
    np.testing.assert_array_equal(found[:, : want.shape[1]], want)
    assert (found[:, want.shape[1] :] == pad).all() and len(np.unique(want[:, 8:])) > 2
