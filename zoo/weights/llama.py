"""Transformers' Llama, Mistral, Qwen2 and Qwen3 as `zoo.models.llama`."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import InputError
from zoo.models.llama import Config
from zoo.nn import rotary
from zoo.weights.configs import ACTIVATIONS, from_activation, read_labels
from zoo.weights.mapping import Rule, decoder_head, dense, norm, repeat
from zoo.weights.rope import read_rope, write_rope

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
ARCHITECTURES: dict[str, str] = {
    f"{family}{head}": task
    for family in ("Llama", "Mistral", "Qwen2", "Qwen3")
    for head, task in (
        ("ForCausalLM", "text-generation"),
        ("Model", "feature-extraction"),
        ("ForSequenceClassification", "text-classification"),
    )
}
PREFIX = "model."
IGNORED = (r".*rotary_emb\.inv_freq", r"lm_head\.weight")
"""Frequencies, which follow from the config; the head where it is the embedding or has no use."""

QWEN = {"vocab_size": 151_936, "intermediate_size": 22_016, "num_key_value_heads": 32,
        "max_position_embeddings": 32_768, "max_window_layers": 28}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 11_008, "max_position_embeddings": 2048},
    "mistral": {"intermediate_size": 14_336, "num_key_value_heads": 8,
                "max_position_embeddings": 131_072},
    "qwen2": QWEN,
    "qwen3": QWEN | {"head_dim": 128},
}  # fmt: skip
"""What transformers takes where a config.json is silent, for each model_type."""


def backbone(cfg: Config) -> list[Rule]:
    """All but the head; their names without `PREFIX`."""
    layer = [
        *norm("layers.{i}.input_layernorm", "layer{i}/norm1", bias=False),
        *norm("layers.{i}.post_attention_layernorm", "layer{i}/norm2", bias=False),
        *dense("layers.{i}.self_attn.o_proj", "layer{i}/attention/out", cfg.out_bias),
    ]
    for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value")):
        path = f"layer{{i}}/attention/{ours}"
        layer += dense(f"layers.{{i}}.self_attn.{theirs}_proj", path, cfg.qkv_bias)
        if cfg.qk_norm and theirs != "v":
            layer += norm(f"layers.{{i}}.self_attn.{theirs}_norm", f"{path}_norm", bias=False)
    for part in ("gate", "up", "down"):
        layer += dense(f"layers.{{i}}.mlp.{part}_proj", f"layer{{i}}/mlp/{part}", cfg.mlp_bias)
    return [
        Rule("embed_tokens.weight", "embed/embedding"),
        *repeat(layer, cfg.depth),
        *norm("norm", "norm", bias=False),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """The task's head; their names in full."""
    return decoder_head(task, cfg.tied)


def read_config(values: Mapping[str, Any]) -> Config:
    """The Config of a hub's config.json.

    Raises:
        InputError: another model_type, or values that change the computation in ways that the
            model does not know; the message lists them all.
    """
    kind = values.get("model_type")
    if kind not in MODEL_TYPES:
        raise InputError(f"model_type {kind!r} is none of {', '.join(MODEL_TYPES)}")
    given = DEFAULTS[kind] | {k: v for k, v in values.items() if v is not None}
    wrong = []
    act = given.get("hidden_act", "silu")
    if act not in ACTIVATIONS:
        wrong.append(f"hidden_act {act!r} (known: {', '.join(ACTIVATIONS)})")
    if "quantization_config" in given:
        wrong.append("quantization_config (only plain weights are read)")
    num_heads, width = given.get("num_attention_heads", 32), given.get("hidden_size", 4096)
    depth, max_length = given.get("num_hidden_layers", 32), given["max_position_embeddings"]
    window, full_layers = _read_window(kind, given, values, depth, wrong)
    base, scaling = read_rope(given, max_length, wrong)
    if wrong:
        raise InputError(f"config.json of a {kind}: not supported: {'; '.join(wrong)}")
    if scaling.startswith("dynamic"):  # the one for sequences beyond max_position_embeddings
        max_length = int(max_length * rotary.parse(scaling)[1]["factor"])
    bias = kind in ("llama", "qwen3") and given.get("attention_bias", False)
    return Config(
        vocab_size=given.get("vocab_size", 32_000),
        width=width,
        depth=depth,
        num_heads=num_heads,
        num_kv_heads=given.get("num_key_value_heads", num_heads),
        head_dim=given.get("head_dim", width // num_heads),
        hidden=given["intermediate_size"],
        activation=ACTIVATIONS[act],
        epsilon=float(given.get("rms_norm_eps", 1e-6)),
        dropout=float(given.get("attention_dropout", 0.0)),
        max_length=max_length,
        window=window,
        full_layers=full_layers,
        qkv_bias=kind == "qwen2" or bias,
        out_bias=bias,
        mlp_bias=kind == "llama" and given.get("mlp_bias", False),
        qk_norm=kind == "qwen3",
        tied=given.get("tie_word_embeddings", False),
        rope_base=base,
        rope_scaling=scaling,
        **read_labels(given),
    )


def _read_window(
    kind: str, given: Mapping[str, Any], values: Mapping[str, Any], depth: int, wrong: list[str]
) -> tuple[int | None, tuple[int, ...]]:
    """The window, and the layers without it. Null differs from silence: it is no window."""
    window = values.get("sliding_window", 4096)
    if kind == "llama" or window is None:
        return None, ()
    if kind == "mistral":
        return window, ()
    if not given.get("use_sliding_window", False):
        return None, ()
    first = given["max_window_layers"]
    kinds = given.get("layer_types") or [
        "sliding_attention" if i >= first else "full_attention" for i in range(depth)
    ]
    if len(kinds) != depth or set(kinds) - {"sliding_attention", "full_attention"}:
        wrong.append(f"layer_types {kinds} of {depth} layers")
    full = tuple(i for i, kind in enumerate(kinds) if kind == "full_attention")
    return (None, ()) if len(full) == depth else (window, full)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What config.json must say for transformers to open the model: the first model_type that
    computes it, its class, and every value that counts.

    Raises:
        InputError: no model_type of transformers computes this Config.
    """
    kind = _model_type(cfg)
    family = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}[kind]
    classes = [n for n, of in ARCHITECTURES.items() if of == task and n.startswith(family)]
    name, numbers = rotary.parse(cfg.rope_scaling)
    values: dict[str, Any] = {
        "architectures": classes,
        "model_type": kind,
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.width,
        "num_hidden_layers": cfg.depth,
        "num_attention_heads": cfg.num_heads,
        "num_key_value_heads": cfg.num_kv_heads,
        "head_dim": cfg.head_dim,
        "intermediate_size": cfg.hidden,
        "hidden_act": from_activation(cfg.activation),
        "rms_norm_eps": cfg.epsilon,
        "attention_dropout": cfg.dropout,
        "max_position_embeddings": int(numbers["trained"]) if name == "dynamic" else cfg.max_length,
        "tie_word_embeddings": cfg.tied,
        "num_labels": cfg.num_classes,
        "rope_theta": cfg.rope_base,
        "rope_parameters": write_rope(cfg.rope_base, cfg.rope_scaling),
    }
    if name != "default":  # where releases before 5 look for it
        values["rope_scaling"] = values["rope_parameters"]
    if kind in ("llama", "qwen3"):
        values["attention_bias"] = cfg.qkv_bias
    if kind == "llama":
        values["mlp_bias"] = cfg.mlp_bias
    if kind == "mistral":
        values["sliding_window"] = cfg.window
    if kind in ("qwen2", "qwen3"):
        full = set(cfg.full_layers if cfg.window else range(cfg.depth))
        values |= {
            "use_sliding_window": cfg.window is not None,
            "sliding_window": cfg.window,
            "max_window_layers": len(full),
            "layer_types": [
                "full_attention" if i in full else "sliding_attention" for i in range(cfg.depth)
            ],
        }
    return values


def _model_type(cfg: Config) -> str:
    windows = cfg.window is not None
    biases = (cfg.qkv_bias, cfg.out_bias, cfg.mlp_bias)
    if cfg.qk_norm and biases in ((False, False, False), (True, True, False)):
        return "qwen3"
    if not cfg.qk_norm and biases == (True, False, False):
        return "qwen2"
    whole = cfg.width % cfg.num_heads == 0  # transformers' Llama insists on it
    if not cfg.qk_norm and not windows and whole and cfg.qkv_bias == cfg.out_bias:
        return "llama"
    if not cfg.qk_norm and not cfg.full_layers and not any(biases):
        return "mistral"
    raise InputError(
        "no model of transformers' Llama family has these together: "
        f"qkv_bias {cfg.qkv_bias}, out_bias {cfg.out_bias}, mlp_bias {cfg.mlp_bias}, "
        f"qk_norm {cfg.qk_norm}, window {cfg.window}, full_layers {cfg.full_layers}, "
        f"width {cfg.width}, num_heads {cfg.num_heads}"
    )
