"""GPT-2 as transformers keeps it (https://github.com/huggingface/transformers, models/gpt2).

Its `Conv1D` weights are `[in, out]` like ours; query, key and value are one tensor there.
"""

from collections.abc import Mapping
from typing import Any

from zoo.errors import InputError
from zoo.models.gpt2 import Config
from zoo.weights.configs import from_activation, read_labels, to_activation, write_labels
from zoo.weights.mapping import Rule, decoder_head, norm, repeat

MODEL_TYPES = ("gpt2",)
ARCHITECTURES = {
    "GPT2LMHeadModel": "text-generation",
    "GPT2Model": "feature-extraction",
    "GPT2ForSequenceClassification": "text-classification",
}
"""Their classes and our tasks."""
PREFIX = "transformer."
"""Before the names of the backbone where there is a head."""
IGNORED = (r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)", r"lm_head\.weight")
"""Causal masks that older files hold, and the tied copy of the embedding (an untied one is read:
`head` has a rule for it)."""

_FIELDS = {
    "vocab_size": "vocab_size",
    "n_embd": "width",
    "n_layer": "depth",
    "n_head": "num_heads",
    "n_inner": "hidden",
    "layer_norm_epsilon": "epsilon",
    "n_positions": "max_length",
    "tie_word_embeddings": "tied",
    "scale_attn_weights": "scale_by_width",
    "scale_attn_by_inverse_layer_idx": "scale_by_depth",
    "embd_pdrop": "embed_dropout",
    "attn_pdrop": "attention_dropout",
    "resid_pdrop": "dropout",
}
"""Their fields and ours; the defaults are the same."""
_OTHER_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}
"""Their second names for some fields."""


def read_config(values: Mapping[str, Any]) -> Config:
    """Our config from a config.json's values; fields that change no result are passed over.

    Raises:
        InputError: a value changes the computation in a way this model has not.
    """
    values = {_OTHER_NAMES.get(name, name): value for name, value in values.items()}
    changes = {ours: values[theirs] for theirs, ours in _FIELDS.items() if theirs in values}
    if values.get("add_cross_attention"):
        raise InputError(
            "config.json: add_cross_attention is true; gpt2 here has no attention to an encoder"
        )
    if values.get("is_encoder_decoder"):
        raise InputError("config.json: is_encoder_decoder is true; gpt2 is a decoder alone")
    act = to_activation(values.get("activation_function", "gelu_new"), "activation_function")
    return Config(activation=act, **changes, **read_labels(values))


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """The values of a config.json with which transformers opens the model.

    Raises:
        InputError: transformers has no such activation.
    """
    values: dict[str, Any] = {
        "model_type": MODEL_TYPES[0],
        "architectures": [name for name, ours in ARCHITECTURES.items() if ours == task],
        "activation_function": from_activation(cfg.activation),
        **{theirs: getattr(cfg, ours) for theirs, ours in _FIELDS.items()},
    }
    if task == "text-classification":
        values |= write_labels(cfg.num_classes, cfg.labels)
    return values


def backbone(cfg: Config) -> list[Rule]:
    """Embeddings, blocks and the last norm, by their names in a model without head."""
    fused = tuple(f"block{{i}}/attention/{name}" for name in ("query", "key", "value"))
    block = [
        *norm("h.{i}.ln_1", "block{i}/norm1"),
        Rule("h.{i}.attn.c_attn.weight", tuple(f"{name}/kernel" for name in fused),
             "i (n o) -> n i o"),
        Rule("h.{i}.attn.c_attn.bias", tuple(f"{name}/bias" for name in fused), "(n o) -> n o"),
        *_conv1d("h.{i}.attn.c_proj", "block{i}/attention/out"),
        *norm("h.{i}.ln_2", "block{i}/norm2"),
        *_conv1d("h.{i}.mlp.c_fc", "block{i}/mlp/up"),
        *_conv1d("h.{i}.mlp.c_proj", "block{i}/mlp/down"),
    ]  # fmt: skip
    return [
        Rule("wte.weight", "embed/embedding"),
        Rule("wpe.weight", "position/embedding"),
        *repeat(block, cfg.depth),
        *norm("ln_f", "norm"),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """What the task adds, by full names."""
    return decoder_head(task, cfg.tied)


def _conv1d(theirs: str, ours: str) -> list[Rule]:
    return [Rule(f"{theirs}.weight", f"{ours}/kernel"), Rule(f"{theirs}.bias", f"{ours}/bias")]
