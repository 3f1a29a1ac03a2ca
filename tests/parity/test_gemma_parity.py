"""Gemma 1, 2 and 3 beside transformers, live, on small random configs.
``python tests/parity/test_gemma_parity.py`` from the repository's root freezes what transformers
computes for the normal suite (tests/weights/test_gemma_weights.py)."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import decoders
from decoders import case

from zoo.weights import gemma

GOLDEN = Path(__file__).parents[1] / "golden" / "gemma_transformers.npz"


def rope(theta: float, factor: float | None = None) -> dict[str, Any]:
    if factor is None:
        return {"rope_type": "default", "rope_theta": theta}
    return {"rope_type": "linear", "rope_theta": theta, "factor": factor}


LAYERS = ["sliding_attention", "full_attention"]
CASES = {
    "gemma": case("gemma", 12, 6, 2, head_dim=8, rms_norm_eps=1e-3),
    "gemma biases": case("gemma", 20, 5, 1, head_dim=6, attention_bias=True, hidden_act="gelu"),
    "gemma linear": case("gemma", 14, 3, 3, head_dim=4, rope_parameters=rope(300.0, 2.5)),
    "gemma silu": case("gemma", 16, 4, 2, head_dim=10, hidden_act="silu", rope_theta=40.0),
    "gemma2 window 4": case("gemma2", 12, 6, 2, head_dim=8, sliding_window=4,
                            query_pre_attn_scalar=5),
    "gemma2 caps": case("gemma2", 20, 5, 1, head_dim=6, sliding_window=2, rms_norm_eps=1e-4,
                        attn_logit_softcapping=0.7, final_logit_softcapping=1.3),
    "gemma2 no caps": case("gemma2", 15, 3, 3, head_dim=4, attn_logit_softcapping=None,
                           final_logit_softcapping=None, query_pre_attn_scalar=9,
                           layer_types=["full_attention"] * 2, attention_bias=True),
    "gemma2 layers": case("gemma2", 16, 4, 2, head_dim=10, sliding_window=3,
                          layer_types=LAYERS[::-1], rope_parameters=rope(77.0, 3.0)),
    "gemma3": case("gemma3_text", 12, 6, 2, head_dim=8, sliding_window=4, layer_types=LAYERS,
                   rope_parameters={"full_attention": rope(1e3, 8.0),
                                    "sliding_attention": rope(20.0)}),
    "gemma3 older": case("gemma3_text", 20, 5, 1, head_dim=6, sliding_window=2, rope_theta=900.0,
                         rope_local_base_freq=30.0, sliding_window_pattern=2,
                         rope_scaling={"rope_type": "linear", "factor": 2.0}),
    "gemma3 local": case("gemma3_text", 15, 3, 3, head_dim=4, sliding_window=5, rms_norm_eps=1e-2,
                         query_pre_attn_scalar=7, final_logit_softcapping=2.0),
    "gemma3 biases": case("gemma3_text", 16, 4, 4, head_dim=10, attention_bias=True,
                          layer_types=["full_attention"] * 2),
}  # fmt: skip
FROZEN = ("gemma linear", "gemma2 caps", "gemma3")
TRAINED = ("gemma biases", "gemma2 caps", "gemma3")


@pytest.mark.parametrize("task", decoders.TASKS)
@pytest.mark.parametrize("name", CASES)
def test_outputs(name: str, task: str) -> None:
    decoders.compare_outputs(gemma, CASES[name], task)


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_comes_back_as_it_was(name: str) -> None:
    for task in decoders.TASKS:
        decoders.compare_tensors(gemma, CASES[name], task)


@pytest.mark.parametrize("name", CASES)
def test_the_config_that_we_write_computes_the_same(name: str) -> None:
    for task in decoders.TASKS:
        decoders.compare_written_config(gemma, CASES[name], task)


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_and_three_steps(name: str) -> None:
    decoders.compare_training(gemma, CASES[name])


def freeze() -> dict[str, np.ndarray]:
    return decoders.freeze(gemma, {name: CASES[name] for name in FROZEN})


def test_frozen_values_are_what_transformers_computes() -> None:
    decoders.compare_frozen(np.load(GOLDEN), freeze())


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **freeze())
