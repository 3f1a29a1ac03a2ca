"""GPT-NeoX as transformers keeps it: query, key and value are one tensor, head by head."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import InputError
from zoo.models.gpt_neox import Config
from zoo.nn import rotary
from zoo.weights.configs import check_values, from_activation, to_activation, typed
from zoo.weights.mapping import Rule, decoder_head, dense, norm, repeat
from zoo.weights.rope import read_rope, write_rope

MODEL_TYPES = ("gpt_neox",)
ARCHITECTURES = {
    "GPTNeoXForCausalLM": "text-generation",
    "GPTNeoXModel": "feature-extraction",
    "GPTNeoXForSequenceClassification": "text-classification",
}
PREFIX = "gpt_neox."
LEGACY = ((r"^lm_head\.weight$", "embed_out.weight"),)
"""What releases from 5 on call the head in memory, but not in files."""
IGNORED = (
    r"(gpt_neox\.)?layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",
    r"embed_out\.weight",
)
"""Causal masks and frequencies of older files; the head where it is the embedding."""

FIELDS = {
    "vocab_size": "vocab_size", "hidden_size": "width", "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads", "intermediate_size": "hidden",
    "layer_norm_eps": "epsilon", "max_position_embeddings": "max_length",
    "use_parallel_residual": "parallel", "attention_bias": "attention_bias",
    "tie_word_embeddings": "tied", "attention_dropout": "attention_dropout",
    "hidden_dropout": "dropout",
}  # fmt: skip
"""Their name and ours, where the value is the same; so are the defaults."""
ROPE = (
    "rope_parameters", "rope_scaling", "rope_theta", "rotary_emb_base", "rotary_pct",
    "partial_rotary_factor", "original_max_position_embeddings",
)  # fmt: skip


def read_config(values: Mapping[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    given = {name: value for name, value in values.items() if value is not None}
    # `is_decoder` is of no effect: the model always is one.
    only = {"quantization_config": ()}
    known = check_values(given, Config, FIELDS, only, own=(*ROPE, "is_decoder"))
    known["activation"] = to_activation(given.get("hidden_act", "gelu"))
    max_length = known.get("max_length", Config.max_length)
    base, scaling, part = _read_rope(given, max_length)
    if scaling.startswith("dynamic"):  # the one for sequences beyond max_position_embeddings
        known["max_length"] = int(max_length * rotary.parse(scaling)[1]["factor"])
    return Config(**known, rotary_part=part, rope_base=base, rope_scaling=scaling)


def _read_rope(given: Mapping[str, Any], max_length: int) -> tuple[float, str, float]:
    """Base, scaling, and the part of a head that is turned. Older files have `rotary_emb_base` and
    `rotary_pct`, some of them a second time as `rope_theta` and `partial_rotary_factor`."""
    rope = dict(given.get("rope_scaling") or given.get("rope_parameters") or {})
    part = rope.pop("partial_rotary_factor", given.get("rotary_pct", Config.rotary_part))
    rope.setdefault("rope_theta", given.get("rotary_emb_base", Config.rope_base))
    wrong = [
        f"{name} {given[name]!r} beside {value!r}"
        for name, value in (("rope_theta", rope["rope_theta"]), ("partial_rotary_factor", part))
        if given.get(name, value) != value
    ]
    rest = {k: given[k] for k in given.keys() - {"rope_scaling", "partial_rotary_factor"}}
    base, scaling = read_rope(rest | {"rope_parameters": rope}, max_length, wrong)
    if wrong:
        raise InputError(f"config.json of a gpt_neox: not supported: {'; '.join(wrong)}")
    return base, scaling, typed("rotary_pct", part, float)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels."""
    name, numbers = rotary.parse(cfg.rope_scaling)
    rope = write_rope(cfg.rope_base, cfg.rope_scaling) | {"partial_rotary_factor": cfg.rotary_part}
    values = {
        "architectures": [name for name, of in ARCHITECTURES.items() if of == task],
        "model_type": "gpt_neox",
        "hidden_act": from_activation(cfg.activation),
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
        "rope_parameters": rope,
        "rotary_emb_base": cfg.rope_base,
        "rotary_pct": cfg.rotary_part,
    }
    if name != "default":  # where releases before 5 look for it
        values["rope_scaling"] = rope
    if name == "dynamic":
        values["max_position_embeddings"] = int(numbers["trained"])
    return values


def backbone(cfg: Config) -> list[Rule]:
    """All but the head; their names without the prefix."""
    fused, heads = "layers.{i}.attention.query_key_value", (("h", cfg.num_heads),)
    paths = tuple(f"layer{{i}}/attention/{name}" for name in ("query", "key", "value"))
    layer = [
        *norm("layers.{i}.input_layernorm", "layer{i}/norm1"),
        *norm("layers.{i}.post_attention_layernorm", "layer{i}/norm2"),
        Rule(f"{fused}.weight", tuple(f"{path}/kernel" for path in paths),
             "(h n k) i -> n i (h k)", heads),
        *dense("layers.{i}.attention.dense", "layer{i}/attention/out", cfg.attention_bias),
        *dense("layers.{i}.mlp.dense_h_to_4h", "layer{i}/mlp/up"),
        *dense("layers.{i}.mlp.dense_4h_to_h", "layer{i}/mlp/down"),
    ]  # fmt: skip
    if cfg.attention_bias:
        biases = tuple(f"{path}/bias" for path in paths)
        layer.append(Rule(f"{fused}.bias", biases, "(h n k) -> n (h k)", heads))
    return [
        Rule("embed_in.weight", "embed/embedding"),
        *repeat(layer, cfg.depth),
        *norm("final_layer_norm", "norm"),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """The task's head; their names in full."""
    return decoder_head(task, cfg.tied, "embed_out")
