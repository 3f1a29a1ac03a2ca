"""GPT beside transformers, live, on small random configs."""

import decoders
import numpy as np
import pytest
import torch

import zoo
from zoo.weights import gpt

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair


def case(width: int, heads: int, layers: int = 2, **values):
    """The config.json of a small model."""
    return {
        "model_type": "openai-gpt", "vocab_size": decoders.VOCABULARY, "n_embd": width,
        "n_layer": layers, "n_head": heads, "n_positions": 32, "pad_token_id": decoders.PAD,
        "num_labels": 3,
    } | values  # fmt: skip


CASES = {
    "plain": case(12, 3),
    "untied": case(20, 5, 3, afn="silu", tie_word_embeddings=False, layer_norm_epsilon=1e-3),
    "relu": case(14, 1, afn="relu", n_positions=21, layer_norm_epsilon=0.3),
    "deep": case(8, 8, 5, afn="swish", layer_norm_epsilon=1e-6),
}
SOME = ["plain", "untied", *(pytest.param(c, marks=pytest.mark.full) for c in ("relu", "deep"))]


@pytest.mark.parametrize("task", decoders.TASKS)
@pytest.mark.parametrize("name", SOME)
def test_folders(tmp_path, name: str, task: str) -> None:
    decoders.compare_folders(tmp_path, gpt, CASES[name], task)


@pytest.mark.parametrize("name", SOME)
def test_float64(tmp_path, name: str) -> None:
    decoders.compare_float64(tmp_path, gpt, CASES[name], "text-generation")


def test_gradients_and_three_steps() -> None:
    decoders.compare_training(gpt, CASES["untied"])


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}])
def test_generated_tokens(options) -> None:
    """Of prompts of one length: transformers' GPT counts padding among the positions."""
    theirs = decoders.reference(gpt, CASES["plain"], "text-generation", seed=3)
    model, params = decoders.ours(gpt, CASES["plain"], "text-generation", theirs)
    ids = decoders.batch()[0][:, 5:9]
    theirs.generation_config.eos_token_id = None
    want = theirs.generate(
        torch.tensor(ids), attention_mask=torch.ones(ids.shape), max_new_tokens=9,
        do_sample=False, pad_token_id=decoders.PAD, **options,
    )  # fmt: skip
    found = zoo.generate(
        model, {"params": params}, ids, max_new_tokens=9, pad_token_id=decoders.PAD, **options
    )
    np.testing.assert_array_equal(found, want.numpy())
    assert len(np.unique(want)) > 3
