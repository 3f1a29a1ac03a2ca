"""Generation beside transformers', live: tokens, log-probabilities, and what is done to scores."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers.generation.logits_process as theirs

sys.path.insert(0, str(Path(__file__).parents[1]))
import gpt2_layout as layout
from test_gpt2_parity import ours, reference

import zoo
from zoo.inference.logits import process
from zoo.inference.options import Options

NEW, PAD = 10, 1
GREEDY: list[dict[str, Any]] = [
    dict(),
    dict(eos_token_id=[2, 5, 9]),
    dict(eos_token_id=[2, 5, 9], min_new_tokens=4, repetition_penalty=1.4),
    dict(repetition_penalty=0.8),
]
BEAMS: list[dict[str, Any]] = [
    dict(num_beams=2),
    dict(num_beams=3, eos_token_id=4),
    dict(num_beams=3, eos_token_id=[2, 5, 9], early_stopping=True, num_return_sequences=3),
    dict(num_beams=4, eos_token_id=[2, 5], early_stopping="never", length_penalty=1.5,
         num_return_sequences=2),
    dict(num_beams=4, eos_token_id=[2, 5], early_stopping="never", length_penalty=-1.0),
    dict(num_beams=2, eos_token_id=[2, 5], length_penalty=0.0, num_return_sequences=2),
    dict(num_beams=3, eos_token_id=[2, 5, 9], length_penalty=-0.5, num_return_sequences=3),
    dict(num_beams=3, eos_token_id=[4, 6], min_new_tokens=3, repetition_penalty=1.3,
         num_return_sequences=2),
]  # fmt: skip


def compare(name: str, seed: int, options: dict[str, Any]) -> None:
    """Same tokens, same log-probabilities, same scores of beams."""
    module = reference(name, seed=seed).float()
    ids, mask = layout.prompts(module.config.vocab_size, seed)
    module.generation_config.eos_token_id = None
    want = module.generate(
        torch.tensor(ids).long(), attention_mask=torch.tensor(mask), max_new_tokens=NEW,
        do_sample=False, pad_token_id=PAD, return_dict_in_generate=True, output_scores=True,
        **options,
    )  # fmt: skip
    _, model, params = ours(module, "text-generation", "float32")
    params = jax.tree.map(jnp.asarray, params)
    got = zoo.generate(
        model, {"params": params}, ids, mask, max_new_tokens=NEW, pad_token_id=PAD,
        return_log_probs=True, **options,
    )  # fmt: skip
    got, length = jax.tree.map(np.asarray, got), want.sequences.shape[1]
    np.testing.assert_array_equal(got.sequences[:, :length], want.sequences.numpy())
    assert (got.sequences[:, length:] == PAD).all()
    beams = options.get("num_beams", 1) > 1
    steps = module.compute_transition_scores(
        want.sequences,
        want.scores,
        want.beam_indices if beams else None,
        normalize_logits=not beams,
    ).numpy()
    new = got.log_probs[:, : steps.shape[1]]
    assert ((new != 0) | (steps == 0))[got.sequences[:, 6:length] != PAD].all()
    np.testing.assert_allclose(new[new != 0], steps[new != 0], rtol=1e-5, atol=2e-5)
    if beams:
        np.testing.assert_allclose(got.scores, want.sequences_scores.numpy(), rtol=2e-5)


@pytest.mark.parametrize("options", GREEDY, ids=str)
@pytest.mark.parametrize("name, seed", [("odd", 1), ("untied", 2), ("both scales", 3)])
def test_greedy(name: str, seed: int, options: dict[str, Any]) -> None:
    compare(name, seed, options)


@pytest.mark.parametrize("options", BEAMS, ids=str)
@pytest.mark.parametrize(
    "name, seed",
    [
        ("odd", 4),
        pytest.param("by depth", 5, marks=pytest.mark.full),
        pytest.param("one head", 6, marks=pytest.mark.full),
    ],
)
def test_beams(name: str, seed: int, options: dict[str, Any]) -> None:
    compare(name, seed, options)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    "filters",
    [
        dict(temperature=0.7),
        dict(top_k=5),
        dict(top_k=100),
        dict(top_p=0.6),
        dict(top_p=0.05),
        dict(min_p=0.2),
        dict(min_p=1.0),
        dict(temperature=1.6, top_k=9, top_p=0.8, min_p=0.1, repetition_penalty=1.3,
             min_new_tokens=3),
        dict(temperature=0.4, top_p=0.95, repetition_penalty=0.7),
    ],
    ids=str,
)  # fmt: skip
def test_scores_are_filtered_alike(filters: dict[str, Any], beams: int) -> None:
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=(50, 23)) * 3).astype(np.float32)
    text = rng.integers(0, 23, (50, 8))
    options = Options(10, do_sample=True, eos=(3, 7), num_beams=beams, **filters)
    least = 1 if beams == 1 else 3
    steps: list[Any] = []
    if "repetition_penalty" in filters:
        steps.append(theirs.RepetitionPenaltyLogitsProcessor(filters["repetition_penalty"]))
    if "min_new_tokens" in filters:
        steps.append(
            theirs.MinNewTokensLengthLogitsProcessor(
                6, filters["min_new_tokens"], torch.tensor([3, 7])
            )
        )
    if "temperature" in filters:
        steps.append(theirs.TemperatureLogitsWarper(filters["temperature"]))
    for name, kind in (
        ("top_k", theirs.TopKLogitsWarper),
        ("top_p", theirs.TopPLogitsWarper),
        ("min_p", theirs.MinPLogitsWarper),
    ):
        if name in filters:
            steps.append(kind(filters[name], min_tokens_to_keep=least))
    want = torch.tensor(scores)
    for step in steps:
        want = step(torch.tensor(text), want)
    seen = None
    if "repetition_penalty" in filters:
        seen = np.zeros(scores.shape, bool)
        np.put_along_axis(seen, text, True, axis=1)
    got = np.asarray(process(jnp.asarray(scores), 2, seen, options))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want.numpy()))
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-6)
    assert np.isfinite(got).sum(1).min() >= least
