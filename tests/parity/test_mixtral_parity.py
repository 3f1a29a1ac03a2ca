"""Mixtral beside transformers, live, on small random configs."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers

import zoo

sys.path.insert(0, str(Path(__file__).parent))
import decoders

from zoo.weights import mixtral

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair


def case(width: int, heads: int, groups: int, **values: Any) -> dict[str, Any]:
    small = {"num_local_experts": 5, "intermediate_size": 10}
    return decoders.case("mixtral", width, heads, groups, **(small | values))


def rope(kind: str, **numbers: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 500.0, **numbers}}


CASES = {
    "two of five": case(12, 6, 2, rms_norm_eps=3e-4),
    "window, one of three": case(16, 4, 4, sliding_window=4, num_local_experts=3,
                                 num_experts_per_tok=1, tie_word_embeddings=True),
    "head_dim, all": case(20, 5, 1, head_dim=6, num_experts_per_tok=5, hidden_act="gelu",
                          num_hidden_layers=1),
    "linear": case(12, 3, 3, head_dim=8, **rope("linear", factor=2.5), num_experts_per_tok=3),
    "yarn": case(24, 4, 1, head_dim=12, num_local_experts=1, num_experts_per_tok=1,
                 **rope("yarn", factor=4.0, original_max_position_embeddings=8)),
}  # fmt: skip
QUICK = ("two of five", "window, one of three")
SOME = [c if c in QUICK else pytest.param(c, marks=pytest.mark.full) for c in CASES]


@pytest.mark.parametrize("task", decoders.TASKS)
@pytest.mark.parametrize("name", SOME)
def test_outputs_and_bytes(tmp_path: Path, name: str, task: str) -> None:
    decoders.compare_folders(tmp_path, mixtral, CASES[name], task)


def test_gradients_and_three_steps(tmp_path: Path) -> None:
    decoders.compare_steps(tmp_path, mixtral, CASES["two of five"])


@pytest.mark.parametrize("options", decoders.GENERATION, ids=str)
def test_generated_tokens(tmp_path: Path, options: dict[str, Any]) -> None:
    decoders.compare_generated(tmp_path, mixtral, CASES["two of five"], seed=2, **options)


def test_what_the_router_says(tmp_path: Path) -> None:
    values = CASES["two of five"]
    theirs = decoders.reference(mixtral, values, "text-generation")
    theirs.save_pretrained(tmp_path)
    model, variables = zoo.from_pretrained(tmp_path)
    ids, _ = decoders.batch()
    with torch.no_grad():
        want = theirs(torch.tensor(ids), output_router_logits=True).router_logits
    found = zoo.features(model, variables, ids, "layer*/mlp/router")
    assert sorted(found) == ["layer0/mlp/router", "layer1/mlp/router"]
    for i, logits in enumerate(want):
        decoders.close(found[f"layer{i}/mlp/router"].reshape(logits.shape), logits.numpy())


def test_the_count_of_a_size() -> None:
    """The paper states none to the last parameter."""
    with torch.device("meta"):
        theirs = transformers.MixtralForCausalLM(transformers.MixtralConfig())
    model = zoo.create_model("Mixtral-8x7B-v0.1")
    shapes = jax.eval_shape(model.init, jax.random.key(0), **model.cfg.inputs())["params"]
    count = sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(shapes))
    assert count == sum(weight.numel() for weight in theirs.parameters()) == 46_702_792_704
