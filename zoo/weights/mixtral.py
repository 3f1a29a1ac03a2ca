"""Mixtral as transformers keeps it: in files each expert has tensors of its own, `w1` (our gate),
`w2` (down) and `w3` (up), whatever releases from 5 on make of them in memory."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import InputError
from zoo.models.mixtral import Config
from zoo.nn import rotary
from zoo.weights.configs import check_values, from_activation, to_activation, typed
from zoo.weights.mapping import Rule, decoder_head, dense, norm, repeat
from zoo.weights.rope import read_rope, write_rope

MODEL_TYPES = ("mixtral",)
ARCHITECTURES = {
    "MixtralForCausalLM": "text-generation",
    "MixtralModel": "feature-extraction",
    "MixtralForSequenceClassification": "text-classification",
}
PREFIX = "model."
IGNORED = (r".*rotary_emb\.inv_freq", r"lm_head\.weight")
"""Frequencies, which follow from the config; the head where it is the embedding."""

FIELDS = {
    "vocab_size": "vocab_size", "hidden_size": "width", "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads", "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_dim", "intermediate_size": "hidden", "num_local_experts": "num_experts",
    "num_experts_per_tok": "experts_per_token", "rms_norm_eps": "epsilon",
    "attention_dropout": "attention_dropout", "router_jitter_noise": "router_jitter",
    "max_position_embeddings": "max_length", "tie_word_embeddings": "tied",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
OWN = (
    "sliding_window", "rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor",
    "original_max_position_embeddings", "router_aux_loss_coef",
)  # fmt: skip
"""Read here, but for the last: the loss that it scales is not the model's."""


def read_config(values: Mapping[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    given = {name: value for name, value in values.items() if value is not None}
    given.setdefault("max_position_embeddings", 131_072)
    given.setdefault("rope_theta", Config.rope_base)
    known = check_values(given, Config, FIELDS, {"quantization_config": ()}, OWN)
    heads, width = known.get("num_heads", Config.num_heads), known.get("width", Config.width)
    known.setdefault("head_dim", width // heads)
    if "num_key_value_heads" in values and "num_kv_heads" not in known:
        known["num_kv_heads"] = heads  # null differs from silence
    if "sliding_window" in given:
        known["window"] = typed("sliding_window", given["sliding_window"], int)
    known["activation"] = to_activation(given.get("hidden_act", "silu"))
    wrong: list[str] = []
    known["rope_base"], scaling = read_rope(given, known["max_length"], wrong)
    if wrong:
        raise InputError(f"config.json of a mixtral: not supported: {'; '.join(wrong)}")
    if scaling.startswith("dynamic"):  # the one for sequences beyond max_position_embeddings
        known["max_length"] = int(known["max_length"] * rotary.parse(scaling)[1]["factor"])
    return Config(**known, rope_scaling=scaling)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels."""
    name, numbers = rotary.parse(cfg.rope_scaling)
    rope = write_rope(cfg.rope_base, cfg.rope_scaling)
    values = {
        "architectures": [name for name, of in ARCHITECTURES.items() if of == task],
        "model_type": "mixtral",
        "hidden_act": from_activation(cfg.activation),
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
        "sliding_window": cfg.window,
        "rope_theta": cfg.rope_base,
        "rope_parameters": rope,
    }
    if name != "default":  # where releases before 5 look for it
        values["rope_scaling"] = rope
    if name == "dynamic":
        values["max_position_embeddings"] = int(numbers["trained"])
    return values


def backbone(cfg: Config) -> list[Rule]:
    """All but the head; their names without the prefix."""
    layer = [
        *norm("layers.{i}.input_layernorm", "layer{i}/norm1", bias=False),
        *norm("layers.{i}.post_attention_layernorm", "layer{i}/norm2", bias=False),
        *dense("layers.{i}.block_sparse_moe.gate", "layer{i}/mlp/router", bias=False),
    ]
    for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "out")):
        path = f"layer{{i}}/attention/{ours}"
        layer += dense(f"layers.{{i}}.self_attn.{theirs}_proj", path, bias=False)
    for theirs, ours in (("w1", "gate"), ("w2", "down"), ("w3", "up")):
        experts = tuple(
            f"layers.{{i}}.block_sparse_moe.experts.{number}.{theirs}.weight"
            for number in range(cfg.num_experts)
        )
        layer.append(Rule(experts, f"layer{{i}}/mlp/experts/{ours}/kernel", "x o i -> x i o"))
    return [
        Rule("embed_tokens.weight", "embed/embedding"),
        *repeat(layer, cfg.depth),
        *norm("norm", "norm", bias=False),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """The task's head; their names in full."""
    return decoder_head(task, cfg.tied)
