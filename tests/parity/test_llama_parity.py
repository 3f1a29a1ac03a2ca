"""Llama, Mistral, Qwen2 and Qwen3 beside transformers, live, on small random configs.
``python tests/parity/test_llama_parity.py`` from the repository's root freezes what transformers
computes for the normal suite (tests/weights/test_llama_weights.py)."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import decoders
from decoders import case

from zoo.weights import llama

GOLDEN = Path(__file__).parents[1] / "golden" / "llama_transformers.npz"


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
QUICK = (*FROZEN, "llama biases", "mistral window 4", "qwen2 tied", "qwen3 window")
TRAINED = ("llama biases", "mistral window 4", "qwen2 tied", "qwen3 biases")


@pytest.mark.parametrize("task", decoders.TASKS)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.full] * (n not in QUICK)) for n in CASES]
)
def test_outputs(name: str, task: str) -> None:
    decoders.compare_outputs(llama, CASES[name], task)


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_comes_back_as_it_was(name: str) -> None:
    for task in decoders.TASKS:
        decoders.compare_tensors(llama, CASES[name], task)


@pytest.mark.parametrize("name", CASES)
def test_the_config_that_we_write_computes_the_same(name: str) -> None:
    for task in decoders.TASKS:
        decoders.compare_written_config(llama, CASES[name], task)


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_and_three_steps(name: str) -> None:
    decoders.compare_training(llama, CASES[name])


def freeze() -> dict[str, np.ndarray]:
    return decoders.freeze(llama, {name: CASES[name] for name in FROZEN})


def test_frozen_values_are_what_transformers_computes() -> None:
    decoders.compare_frozen(np.load(GOLDEN), freeze())


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **freeze())
