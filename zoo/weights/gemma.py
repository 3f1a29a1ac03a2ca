"""Transformers' Gemma, Gemma 2 and the text model of Gemma 3 as `zoo.models.gemma`."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import InputError
from zoo.models.gemma import Config
from zoo.nn import rotary
from zoo.weights.configs import ACTIVATIONS, from_activation, read_labels
from zoo.weights.mapping import Rule, dense, norm, repeat

MODEL_TYPES = ("gemma", "gemma2", "gemma3_text")
ARCHITECTURES: dict[str, str] = {
    "GemmaForCausalLM": "text-generation",
    "GemmaModel": "feature-extraction",
    "GemmaForSequenceClassification": "text-classification",
    "Gemma2ForCausalLM": "text-generation",
    "Gemma2Model": "feature-extraction",
    "Gemma2ForSequenceClassification": "text-classification",
    "Gemma3ForCausalLM": "text-generation",
    "Gemma3TextModel": "feature-extraction",
    "Gemma3TextForSequenceClassification": "text-classification",
}
PREFIX = "model."
IGNORED = (r".*rotary_emb\.inv_freq", r"lm_head\.weight")
"""Frequencies, which follow from the config, and the head, which is the embedding."""

GEMMA2 = {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
          "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 8192,
          "vocab_size": 256_000, "sliding_window": 4096}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": {"hidden_size": 3072, "intermediate_size": 24_576, "num_hidden_layers": 28,
              "num_attention_heads": 16, "num_key_value_heads": 16,
              "max_position_embeddings": 8192, "vocab_size": 256_000},
    "gemma2": GEMMA2 | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "gemma3_text": GEMMA2 | {"vocab_size": 262_208, "max_position_embeddings": 131_072,
                             "sliding_window_pattern": 6},
}  # fmt: skip
"""What transformers takes where a config.json is silent, for each model_type."""


def backbone(cfg: Config) -> list[Rule]:
    """All but the head; their names without `PREFIX`."""
    norms = {"input_layernorm": "norm1", "post_attention_layernorm": "norm2"}
    if cfg.post_norm:
        norms = {
            "input_layernorm": "norm1",
            "post_attention_layernorm": "post_norm1",
            "pre_feedforward_layernorm": "norm2",
            "post_feedforward_layernorm": "post_norm2",
        }
    if cfg.qk_norm:
        norms |= {
            "self_attn.q_norm": "attention/query_norm",
            "self_attn.k_norm": "attention/key_norm",
        }
    layer = []
    for theirs, ours in norms.items():
        layer += norm(f"layers.{{i}}.{theirs}", f"layer{{i}}/{ours}", bias=False)
    for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "out")):
        path = f"layer{{i}}/attention/{ours}"
        layer += dense(f"layers.{{i}}.self_attn.{theirs}_proj", path, cfg.attention_bias)
    for part in ("gate", "up", "down"):
        layer += dense(f"layers.{{i}}.mlp.{part}_proj", f"layer{{i}}/mlp/{part}", bias=False)
    return [
        Rule("embed_tokens.weight", "embed/embedding"),
        *repeat(layer, cfg.depth),
        *norm("norm", "norm", bias=False),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """The task's head; its name in full."""
    return dense("score", "head", bias=False) if task == "text-classification" else []


def read_config(values: Mapping[str, Any]) -> Config:
    """The Config of a hub's config.json.

    Raises:
        InputError: another model_type, or values that change the computation in ways that the
            model does not know; the message lists them all.
    """
    kind = values.get("model_type")
    if kind not in MODEL_TYPES:
        raise InputError(f"model_type {kind!r} is none of {', '.join(MODEL_TYPES)}")
    # Null differs from silence: it is no bound, or no window.
    given = {k: v for k, v in (DEFAULTS[kind] | dict(values)).items() if v is not None}
    wrong = []
    act = given.get("hidden_activation", "gelu_pytorch_tanh")
    if kind == "gemma":  # whose releases say gelu and mean the approximation
        act = given.get("hidden_act", "gelu_pytorch_tanh")
        act = "gelu_pytorch_tanh" if act == "gelu" else act
    if act not in ACTIVATIONS:
        wrong.append(f"activation {act!r} (known: {', '.join(ACTIVATIONS)})")
    if not given.get("tie_word_embeddings", True):
        wrong.append("tie_word_embeddings false")
    if given.get("use_bidirectional_attention"):
        wrong.append("use_bidirectional_attention")
    if "quantization_config" in given:
        wrong.append("quantization_config (only plain weights are read)")
    if kind == "gemma3_text" and "attn_logit_softcapping" in given:
        wrong.append("attn_logit_softcapping of a gemma3_text")
    depth = given["num_hidden_layers"]
    kinds = ["full_attention"] * depth
    if kind != "gemma":
        every = given.get("sliding_window_pattern", 6) if kind == "gemma3_text" else 2
        kinds = given.get("layer_types") or [
            "sliding_attention" if (i + 1) % every else "full_attention" for i in range(depth)
        ]
    if len(kinds) != depth or set(kinds) - {"sliding_attention", "full_attention"}:
        wrong.append(f"layer_types {kinds} of {depth} layers")
    local = "sliding_attention" in kinds
    if local and "sliding_window" not in given:
        wrong.append("layers of sliding_attention without sliding_window")
    rope = _read_rope(kind, given, wrong)
    if wrong:
        raise InputError(f"config.json of a {kind}: not supported: {'; '.join(wrong)}")
    head_dim = given.get("head_dim", 256)
    return Config(
        vocab_size=given["vocab_size"],
        width=given["hidden_size"],
        depth=depth,
        num_heads=given["num_attention_heads"],
        num_kv_heads=given["num_key_value_heads"],
        head_dim=head_dim,
        hidden=given["intermediate_size"],
        activation=ACTIVATIONS[act],
        epsilon=float(given.get("rms_norm_eps", 1e-6)),
        dropout=float(given.get("attention_dropout", 0.0)),
        max_length=given["max_position_embeddings"],
        attention_bias=given.get("attention_bias", False),
        query_scale=float(head_dim if kind == "gemma" else given.get("query_pre_attn_scalar", 256)),
        post_norm=kind != "gemma",
        qk_norm=kind == "gemma3_text",
        window=given["sliding_window"] if local else None,
        global_layers=tuple(i for i in range(depth) if local and kinds[i] == "full_attention"),
        score_cap=given.get("attn_logit_softcapping") if kind == "gemma2" else None,
        logit_cap=given.get("final_logit_softcapping") if kind != "gemma" else None,
        **read_labels(given),
        **rope,
    )


def _read_rope(kind: str, given: Mapping[str, Any], wrong: list[str]) -> dict[str, Any]:
    """Fields of the Config, of `rope_parameters` or the older `rope_theta` and `rope_scaling`."""
    far = dict(given.get("rope_parameters") or {})
    near: dict[str, Any] = {}
    base = given.get("rope_theta", 10_000.0)
    if kind == "gemma3_text":
        near = dict(far.get("sliding_attention") or {})
        far = dict(far.get("full_attention") or {})
        base = given.get("rope_theta", 1_000_000.0)
        near.setdefault("rope_theta", given.get("rope_local_base_freq", 10_000.0))
    far |= given.get("rope_scaling") or {}
    far.setdefault("rope_theta", base)
    scalings = []
    for rope in (far, near):
        name = rope.get("rope_type", rope.get("type", "default"))
        if name == "linear" and rope is far and rope.get("factor"):
            scalings.append(f"linear factor={rope['factor']:g}")
        elif name != "default":
            wrong.append(f"rope_type {name!r}")
        if rope.get("partial_rotary_factor", 1.0) != 1:
            wrong.append(f"partial_rotary_factor {rope['partial_rotary_factor']}")
    return {
        "rope_base": float(far["rope_theta"]),
        "rope_scaling": "".join(scalings) or "default",
        "local_rope_base": float(near["rope_theta"]) if near else None,
    }


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What config.json must say for transformers to open the model.

    Raises:
        InputError: no Gemma of transformers computes this Config.
    """
    kind = {(False, False): "gemma", (True, False): "gemma2", (True, True): "gemma3_text"}.get(
        (cfg.post_norm, cfg.qk_norm), ""
    )
    name, numbers = rotary.parse(cfg.rope_scaling)
    local = cfg.window is not None
    plain = not local and cfg.query_scale == cfg.head_dim and not cfg.logit_cap
    if (
        (kind != "gemma2" and cfg.score_cap)
        or (kind == "gemma3_text") != (cfg.local_rope_base is not None)
        or (kind == "gemma" and not plain)
        or name not in ("default", "linear")
        or not kind
        or (kind == "gemma" and cfg.activation == "gelu")
        or cfg.query_scale != int(cfg.query_scale)
    ):
        raise InputError(f"no Gemma of transformers computes {cfg}")
    far = {"rope_type": name, "rope_theta": cfg.rope_base} | (
        {"factor": numbers["factor"]} if numbers else {}
    )
    classes = {"gemma": "Gemma", "gemma2": "Gemma2", "gemma3_text": "Gemma3"}[kind]
    values: dict[str, Any] = {
        "architectures": [
            architecture
            for architecture, of in ARCHITECTURES.items()
            if of == task and architecture.startswith((f"{classes}For", f"{classes}Model",
                                                       f"{classes}Text"))
        ],
        "model_type": kind,
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.width,
        "num_hidden_layers": cfg.depth,
        "num_attention_heads": cfg.num_heads,
        "num_key_value_heads": cfg.num_kv_heads,
        "head_dim": cfg.head_dim,
        "intermediate_size": cfg.hidden,
        "rms_norm_eps": cfg.epsilon,
        "attention_dropout": cfg.dropout,
        "attention_bias": cfg.attention_bias,
        "max_position_embeddings": cfg.max_length,
        "tie_word_embeddings": True,
        "num_labels": cfg.num_classes,
        "rope_theta": cfg.rope_base,
    }  # fmt: skip
    act = from_activation(cfg.activation)
    act = "gelu_pytorch_tanh" if act == "gelu_new" else act  # as its releases say it
    values["hidden_act" if kind == "gemma" else "hidden_activation"] = act
    if kind == "gemma3_text":
        near = {"rope_type": "default", "rope_theta": cfg.local_rope_base}
        values["rope_parameters"] = {"full_attention": far, "sliding_attention": near}
        values["rope_local_base_freq"] = cfg.local_rope_base
    else:
        values["rope_parameters"] = far
    if name != "default":  # where releases before 5 look for it
        values["rope_scaling"] = far
    if kind != "gemma":
        sliding = [local and i not in cfg.global_layers for i in range(cfg.depth)]
        values |= {
            "query_pre_attn_scalar": int(cfg.query_scale),
            "sliding_window": cfg.window or DEFAULTS[kind]["sliding_window"],
            "layer_types": [("full", "sliding")[s] + "_attention" for s in sliding],
            "final_logit_softcapping": cfg.logit_cap,
            "attn_logit_softcapping": cfg.score_cap,
        }
    return values
