"""OPT beside transformers, live, on small random configs."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import decoders

from zoo.weights import opt

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair


def case(width: int, heads: int, **values: Any) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "vocab_size": decoders.VOCABULARY,
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "ffn_dim": 22,
        "max_position_embeddings": 32,
        "pad_token_id": decoders.PAD,
        "num_labels": 3,
    } | values


CASES = {
    "plain": case(24, 2, dropout=0.0),
    "350m": case(18, 3, do_layer_norm_before=False, word_embed_proj_dim=10),
    "no biases": case(20, 5, enable_bias=False, activation_function="gelu", num_hidden_layers=3),
    "plain norms": case(16, 4, layer_norm_elementwise_affine=False, tie_word_embeddings=False),
    "no last norm": case(12, 1, _remove_final_layer_norm=True, word_embed_proj_dim=20,
                         activation_function="silu", enable_bias=False),
    "all at once": case(18, 2, do_layer_norm_before=False, layer_norm_elementwise_affine=False,
                        enable_bias=False, activation_function="gelu_new",
                        tie_word_embeddings=False, word_embed_proj_dim=6),
}  # fmt: skip
QUICK = ("plain", "350m")
SOME = [c if c in QUICK else pytest.param(c, marks=pytest.mark.full) for c in CASES]


@pytest.mark.parametrize("task", decoders.TASKS)
@pytest.mark.parametrize("name", SOME)
def test_outputs_and_bytes(tmp_path: Path, name: str, task: str) -> None:
    decoders.compare_folders(tmp_path, opt, CASES[name], task)


@pytest.mark.parametrize("name", SOME)
def test_float64(tmp_path: Path, name: str) -> None:
    decoders.compare_float64(tmp_path, opt, CASES[name], "text-generation")


def test_gradients_and_three_steps(tmp_path: Path) -> None:
    decoders.compare_steps(tmp_path, opt, CASES["plain"])


@pytest.mark.parametrize("options", decoders.GENERATION, ids=str)
def test_generated_tokens(tmp_path: Path, options: dict[str, Any]) -> None:
    decoders.compare_generated(tmp_path, opt, CASES["plain"], seed=9, **options)
