"""OPT as transformers keeps it."""

from collections.abc import Mapping
from typing import Any

from zoo.models.opt import Config
from zoo.weights.configs import check_values, from_activation, to_activation
from zoo.weights.mapping import Rule, decoder_head, dense, norm, repeat

MODEL_TYPES = ("opt",)
ARCHITECTURES = {
    "OPTForCausalLM": "text-generation",
    "OPTModel": "feature-extraction",
    "OPTForSequenceClassification": "text-classification",
}
PREFIX = "model."
IGNORED = (r"lm_head\.weight",)
"""Where it is the embedding."""

FIELDS = {
    "vocab_size": "vocab_size", "hidden_size": "width", "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads", "ffn_dim": "hidden", "word_embed_proj_dim": "embed_width",
    "max_position_embeddings": "max_length", "do_layer_norm_before": "norm_first",
    "enable_bias": "use_bias", "layer_norm_elementwise_affine": "norm_affine",
    "tie_word_embeddings": "tied", "attention_dropout": "attention_dropout", "dropout": "dropout",
}  # fmt: skip
"""Their name and ours, where the value is the same; so are the defaults."""
ONLY = {"layerdrop": (0,), "_remove_final_layer_norm": (False, True), "quantization_config": ()}
"""Values that change the computation, with those that are implemented."""


def read_config(values: Mapping[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    given = {name: value for name, value in values.items() if value is not None}
    known = check_values(given, Config, FIELDS, ONLY, own=("init_std", "activation_function"))
    known.setdefault("embed_width", known.get("width", Config.width))
    known["activation"] = to_activation(given.get("activation_function", "relu"))
    known["final_norm"] = not given.get("_remove_final_layer_norm", False)
    return Config(**known)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels."""
    return {
        "architectures": [name for name, of in ARCHITECTURES.items() if of == task],
        "model_type": "opt",
        "activation_function": from_activation(cfg.activation),
        "_remove_final_layer_norm": not cfg.final_norm,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }


def backbone(cfg: Config) -> list[Rule]:
    """All but the head; their names without the prefix."""
    layer = []
    for theirs, ours in (
        ("self_attn.q_proj", "attention/query"), ("self_attn.k_proj", "attention/key"),
        ("self_attn.v_proj", "attention/value"), ("self_attn.out_proj", "attention/out"),
        ("fc1", "mlp/up"), ("fc2", "mlp/down"),
    ):  # fmt: skip
        layer += dense(f"decoder.layers.{{i}}.{theirs}", f"layer{{i}}/{ours}", cfg.use_bias)
    last = []
    if cfg.norm_affine:
        layer += norm("decoder.layers.{i}.self_attn_layer_norm", "layer{i}/norm1")
        layer += norm("decoder.layers.{i}.final_layer_norm", "layer{i}/norm2")
        if cfg.norm_first and cfg.final_norm:
            last += norm("decoder.final_layer_norm", "norm")
    if cfg.embed_width != cfg.width:
        last += dense("decoder.project_in", "project_in", bias=False)
        last += dense("decoder.project_out", "project_out", bias=False)
    return [
        Rule("decoder.embed_tokens.weight", "embed/embedding"),
        Rule("decoder.embed_positions.weight", "position/embedding"),
        *repeat(layer, cfg.depth),
        *last,
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """The task's head; their names in full."""
    return decoder_head(task, cfg.tied)
