"""GPT-NeoX beside transformers, live, on small random configs."""

import sys
from pathlib import Path
from typing import Any

import jax
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import zoo

sys.path.insert(0, str(Path(__file__).parent))
import decoders

from zoo.weights import gpt_neox

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair


def case(width: int, heads: int, **values: Any) -> dict[str, Any]:
    return {
        "model_type": "gpt_neox",
        "vocab_size": decoders.VOCABULARY,
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "intermediate_size": 22,
        "max_position_embeddings": 32,
        "pad_token_id": decoders.PAD,
        "num_labels": 3,
    } | values


def rope(kind: str, part: float, **numbers: float) -> dict[str, Any]:
    return {
        "rope_parameters": {"rope_type": kind, "rope_theta": 90.0, "partial_rotary_factor": part}
        | numbers
    }


CASES = {
    "older names": case(24, 2, rotary_pct=0.5, rotary_emb_base=77, layer_norm_eps=1e-3),
    "one after the other": case(18, 3, use_parallel_residual=False, attention_bias=False,
                                hidden_act="gelu_new", tie_word_embeddings=True,
                                **rope("default", 0.7)),
    "no part": case(20, 5, rotary_pct=0.2, hidden_act="relu", num_hidden_layers=3),
    "whole heads": case(16, 4, rotary_pct=1.0, attention_bias=False, hidden_act="silu"),
    "linear": case(24, 2, **rope("linear", 0.5, factor=2.5), layer_norm_eps=0.1),
    "dynamic": case(32, 2, **rope("dynamic", 0.25, factor=3.0)) | {"max_position_embeddings": 7},
    "yarn": case(24, 1, **rope("yarn", 0.5, factor=4.0, original_max_position_embeddings=8),
                 use_parallel_residual=False),
}  # fmt: skip
QUICK = ("older names", "one after the other")
SOME = [c if c in QUICK else pytest.param(c, marks=pytest.mark.full) for c in CASES]


@pytest.mark.parametrize("task", decoders.TASKS)
@pytest.mark.parametrize("name", SOME)
def test_outputs_and_bytes(tmp_path: Path, name: str, task: str) -> None:
    decoders.compare_folders(tmp_path, gpt_neox, CASES[name], task)


def test_gradients_and_three_steps(tmp_path: Path) -> None:
    decoders.compare_steps(tmp_path, gpt_neox, CASES["one after the other"])


@pytest.mark.parametrize("options", decoders.GENERATION, ids=str)
def test_generated_tokens(tmp_path: Path, options: dict[str, Any]) -> None:
    decoders.compare_generated(tmp_path, gpt_neox, CASES["older names"], seed=2, **options)


def test_files_of_older_releases(tmp_path: Path) -> None:
    """Masks and frequencies in the file; the head's newer name."""
    theirs = decoders.reference(gpt_neox, CASES["older names"], "text-generation")
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors.pop("embed_out.weight")
    for i in range(2):
        start = f"gpt_neox.layers.{i}.attention."
        tensors[f"{start}bias"] = torch.ones(1, 1, 32, 32, dtype=torch.bool)
        tensors[f"{start}masked_bias"] = torch.tensor(-1e9)
        tensors[f"{start}rotary_emb.inv_freq"] = torch.ones(3)
    save_file(tensors, file, {"format": "pt"})
    model, variables = zoo.from_pretrained(tmp_path)
    ids, mask = decoders.batch()
    want = decoders.run(theirs, "text-generation", ids, mask)
    found = jax.jit(model.apply)(variables, ids, mask)
    decoders.close(found[mask == 1], want[mask == 1])


def test_where_positions_are_read() -> None:
    for values in (dict(rotary_pct=0.5), dict(rotary_emb_base=3), dict(), *CASES.values()):
        theirs = transformers.GPTNeoXConfig(**values)
        cfg = gpt_neox.read_config({"model_type": "gpt_neox"} | values)
        rope = theirs.rope_parameters
        assert cfg.rotary_part == rope["partial_rotary_factor"]
        assert cfg.rope_base == rope["rope_theta"]
