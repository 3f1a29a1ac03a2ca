"""Small GPT-2s as transformers describes and names them; needs no torch.

``tests/golden/gpt2_torch.npz`` holds, for the config ``odd``, transformers' weights, logits and
generated tokens; it is written by: python tests/parity/test_gpt2_parity.py
"""

from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from zoo.models.gpt2 import Config
from zoo.weights import gpt2
from zoo.weights.mapping import Rule, read_all, under, write_all

GOLDEN = Path(__file__).parent / "golden" / "gpt2_torch.npz"
CONFIGS: dict[str, dict[str, Any]] = {
    "odd": dict(vocab_size=31, n_embd=12, n_layer=2, n_head=3, n_positions=24),
    "untied": dict(vocab_size=17, n_embd=20, n_layer=3, n_head=5, n_inner=28, n_positions=24,
                   activation_function="relu", layer_norm_epsilon=1e-3, tie_word_embeddings=False,
                   scale_attn_weights=False),
    "by depth": dict(vocab_size=23, n_embd=10, n_layer=4, n_head=2, n_positions=24,
                     activation_function="swish", scale_attn_by_inverse_layer_idx=True),
    "one head": dict(vocab_size=11, n_embd=6, n_layer=1, n_head=1, n_inner=7, n_positions=24,
                     activation_function="gelu", tie_word_embeddings=False),
    "both scales": dict(vocab_size=13, n_embd=21, n_layer=2, n_head=7, n_inner=5, n_positions=24,
                        activation_function="tanh", scale_attn_by_inverse_layer_idx=True,
                        reorder_and_upcast_attn=False, layer_norm_epsilon=1e-2),
}  # fmt: skip
GREEDY: dict[str, Any] = dict(max_new_tokens=9, eos_token_id=12, pad_token_id=1)
BEAMS: dict[str, dict[str, Any]] = {
    "plain": dict(num_beams=3),
    "early": dict(num_beams=4, early_stopping=True, num_return_sequences=3, length_penalty=0.5),
    "never": dict(num_beams=2, early_stopping="never", num_return_sequences=2, length_penalty=2.0),
}
"""Added to GREEDY's options."""


def rules(cfg: Config, task: str) -> list[Rule]:
    """The whole table for a model with that task's head."""
    prefix = "" if task == "feature-extraction" else gpt2.PREFIX
    return [*under(prefix, gpt2.backbone(cfg)), *gpt2.head(cfg, task)]


def read(cfg: Config, task: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Our parameters from their tensors."""
    return unflatten_dict(read_all(rules(cfg, task), tensors.__getitem__), sep="/")


def write(cfg: Config, task: str, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """Their tensors from our parameters."""
    return write_all(rules(cfg, task), flatten_dict(params, sep="/"))


def prompts(vocab_size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Token ids ``[4, 6]`` and their mask: full, padded left, one token."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocab_size, (4, 6), dtype=np.int32)
    mask = (np.arange(6) >= np.array([0, 2, 5, 1])[:, None]).astype(np.int32)
    return ids, mask


def load() -> dict[str, dict[str, np.ndarray]]:
    """The golden file: ``weight``, ``logits`` and ``tokens``, each by name."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(GOLDEN) as arrays:
        for name in arrays.files:
            kind, _, rest = name.partition("/")
            found.setdefault(kind, {})[rest] = arrays[name]
    return found
