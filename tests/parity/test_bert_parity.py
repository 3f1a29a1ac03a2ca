"""BERT beside transformers: outputs, bytes, gradients and steps of AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers
from safetensors import safe_open

import zoo
from zoo.models.bert import Output

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

CONFIGS = {
    "plain": {},
    "odd": dict(
        hidden_act="gelu_new", layer_norm_eps=1e-3, type_vocab_size=3, tie_word_embeddings=False,
        hidden_size=18, num_attention_heads=1, intermediate_size=7, num_hidden_layers=1,
    ),
    "deep": dict(num_hidden_layers=5, hidden_act="relu", vocab_size=11, num_attention_heads=6),
    "long": dict(max_position_embeddings=40, hidden_act="silu", layer_norm_eps=0.5),
}  # fmt: skip
SOME = ["plain", "odd", *(pytest.param(c, marks=pytest.mark.full) for c in ("deep", "long"))]
HEADS = {
    "BertModel": {}, "BertForMaskedLM": {}, "BertForSequenceClassification": {"num_labels": 5},
    "BertForTokenClassification": {"num_labels": 3}, "BertForQuestionAnswering": {},
    "BertForMultipleChoice": {}, "BertForNextSentencePrediction": {},
}  # fmt: skip


def reference(head, config, seed=0):
    torch.manual_seed(seed)
    values = dict(
        vocab_size=37, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=19, attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )  # fmt: skip
    cfg = transformers.BertConfig(**(values | CONFIGS[config] | HEADS[head]))
    model = getattr(transformers, head)(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms start at 0 and 1
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batch(head, cfg):
    rng = np.random.default_rng(1)
    shape = (2, 3, 11) if "Multiple" in head else (3, 11)
    mask = np.ones(shape, np.int64)
    mask[..., 0, 7:] = 0
    return {
        "input_ids": rng.integers(0, cfg.vocab_size, shape), "attention_mask": mask,
        "token_type_ids": rng.integers(0, cfg.type_vocab_size, shape),
    }  # fmt: skip


def outputs(found):
    """The reference's output as we give it."""
    if hasattr(found, "start_logits"):
        return [torch.stack([found.start_logits, found.end_logits], -1)]
    if hasattr(found, "logits"):
        return [found.logits]
    return [found.last_hidden_state, found.pooler_output]


def tensors(folder):
    with safe_open(folder / "model.safetensors", "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("config", SOME)
@pytest.mark.parametrize("head", HEADS)
def test_outputs_and_bytes(tmp_path, head, config):
    theirs = reference(head, config)
    theirs.save_pretrained(tmp_path / "theirs")
    model, variables = zoo.from_pretrained(tmp_path / "theirs")
    given = batch(head, theirs.config)
    with torch.no_grad():
        wanted = outputs(theirs(**{key: torch.tensor(value) for key, value in given.items()}))
    found = jax.jit(model.apply)(variables, **given)
    found = [found.last_hidden_state, found.pooler_output] if isinstance(found, Output) else [found]
    for a, b in zip(wanted, found, strict=True):
        assert a.shape == b.shape
        assert np.abs(a.numpy() - np.asarray(b)).max() <= 2e-5 * a.std()

    zoo.save_pretrained(tmp_path / "ours", model, variables)
    before, after = tensors(tmp_path / "theirs"), tensors(tmp_path / "ours")
    assert before.keys() - after.keys() <= {"cls.predictions.bias"}  # used by nobody when untied
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype and tensor.tobytes() == before[name].tobytes()
    again = getattr(transformers, head).from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        reopened = outputs(again(**{key: torch.tensor(value) for key, value in given.items()}))
    for a, b in zip(wanted, reopened, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("config", CONFIGS)
def test_float64(tmp_path, config):
    """Which alone sees a wrong epsilon."""
    theirs = reference("BertForMaskedLM", config).double()
    theirs.save_pretrained(tmp_path)
    given = batch("BertForMaskedLM", theirs.config)
    with torch.no_grad():
        wanted = theirs(**{key: torch.tensor(value) for key, value in given.items()}).logits
    with jax.enable_x64(True):
        model, variables = zoo.from_pretrained(tmp_path)
        assert model.dtype == jnp.float64
        found = np.asarray(jax.jit(model.apply)(variables, **given))
    assert np.abs(wanted.numpy() - found).max() <= 1e-10


def test_gradients_and_three_steps(tmp_path):
    """In float64: Adam divides a gradient that is zero up to rounding by its own size."""
    head = "BertForSequenceClassification"
    theirs = reference(head, "plain").double()
    theirs.save_pretrained(tmp_path / "before")
    given, labels = batch(head, theirs.config), np.array([0, 4, 2])
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-2, eps=1e-8, weight_decay=0.01)
    adamw = optax.adamw(1e-2, eps=1e-8, weight_decay=0.01)
    with jax.enable_x64(True):
        model, variables = zoo.from_pretrained(tmp_path / "before")

        @jax.jit
        def step(params, state):
            def loss(params):
                logits = model.apply({"params": params}, **given)
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            value, grads = jax.value_and_grad(loss)(params)
            updates, state = adamw.update(grads, state, params)
            return value, optax.apply_updates(params, updates), state

        params = variables["params"]
        state = adamw.init(params)
        for _ in range(3):
            optimizer.zero_grad()
            tensors = {key: torch.tensor(value) for key, value in given.items()}
            wanted = theirs(**tensors, labels=torch.tensor(labels)).loss
            wanted.backward()
            optimizer.step()
            found, params, state = step(params, state)
            assert abs(float(found) - wanted.item()) < 1e-9
        theirs.save_pretrained(tmp_path / "after")
        _, after = zoo.from_pretrained(tmp_path / "after")
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(after["params"]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
