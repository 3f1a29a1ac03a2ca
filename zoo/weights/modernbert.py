"""ModernBERT as transformers keeps it (`ModernBertModel` and its heads)."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import InputError
from zoo.models.modernbert import POOLINGS, Config
from zoo.weights.configs import check_values, from_activation, to_activation, typed
from zoo.weights.mapping import Rule, dense, norm, repeat

MODEL_TYPES = ("modernbert",)
ARCHITECTURES = {
    "ModernBertModel": "feature-extraction",
    "ModernBertForMaskedLM": "fill-mask",
    "ModernBertForSequenceClassification": "text-classification",
    "ModernBertForTokenClassification": "token-classification",
    "ModernBertForQuestionAnswering": "question-answering",
    "ModernBertForMultipleChoice": "multiple-choice",
}
PREFIX = "model."
IGNORED = (r"decoder\.weight", r".*rotary_emb\..*inv_freq")
"""The copy of the embedding that a tied decoder is (an untied one is read: `head` has a rule for
it), and frequencies, which follow from the config."""

FIELDS = {
    "vocab_size": "vocab_size", "hidden_size": "width", "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads", "intermediate_size": "hidden", "norm_eps": "epsilon",
    "max_position_embeddings": "max_length", "norm_bias": "norm_bias",
    "attention_bias": "attention_bias", "mlp_bias": "mlp_bias", "classifier_bias": "head_bias",
    "decoder_bias": "decoder_bias", "tie_word_embeddings": "tied",
    "embedding_dropout": "embed_dropout", "attention_dropout": "attention_dropout",
    "mlp_dropout": "mlp_dropout", "classifier_dropout": "head_dropout",
    "classifier_pooling": "pooling",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
ONLY = {
    "classifier_pooling": POOLINGS, "position_embedding_type": ("absolute", "rope", None),
    "rope_scaling": (None,), "partial_rotary_factor": (1, None), "is_decoder": (False, None),
    "add_cross_attention": (False, None),
}  # fmt: skip
"""Values that change the computation, with those that are implemented; files say "absolute" of a
position type that the reference never reads."""
OWN = (
    "layer_types", "global_attn_every_n_layers", "local_attention", "sliding_window", "head_dim",
    "rope_parameters", "global_rope_theta", "local_rope_theta", "rope_theta",
    "classifier_activation", "layer_norm_eps", "initializer_cutoff_factor",
    "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index",
    "reference_compile", "repad_logits_with_grad",
)  # fmt: skip
"""Fields read below, and those that no computation of the reference follows."""
TOKENS = {
    "pad_token_id": 50_283, "eos_token_id": 50_282, "bos_token_id": 50_281, "cls_token_id": 50_281,
    "sep_token_id": 50_282,
}  # fmt: skip
"""What transformers takes where a config.json is silent; no smaller vocabulary opens with them."""
GLOBAL, LOCAL = "full_attention", "sliding_attention"


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    known = check_values(values, Config, FIELDS, ONLY, OWN)
    for theirs, ours in (
        ("hidden_activation", "activation"),
        ("classifier_activation", "head_activation"),
    ):
        if theirs in values:
            known[ours] = to_activation(values[theirs])
    cfg = Config(**known)
    head_dim = values.get("head_dim")
    if head_dim not in (None, cfg.width // max(cfg.num_heads, 1)):
        raise InputError(f"config.json: head_dim {head_dim!r} is not hidden_size over heads")
    return Config(
        **known,
        **_read_rope(values),
        window=_read_window(values),
        global_layers=_read_layers(values, cfg.depth),
    )


def _read_window(values: Mapping[str, Any]) -> int:
    """Tokens to one side: half of `local_attention`, which counts both sides."""
    if values.get("sliding_window") is not None:
        return typed("sliding_window", values["sliding_window"], int)
    return typed("local_attention", values.get("local_attention", 2 * Config.window), int) // 2


def _read_layers(values: Mapping[str, Any], depth: int) -> tuple[int, ...] | None:
    """The global layers, of `layer_types` or the older number of layers from one to the next; None
    where it is every third."""
    kinds = values.get("layer_types")
    if kinds is None:
        every = typed(
            "global_attn_every_n_layers", values.get("global_attn_every_n_layers", 3), int
        )
        if every < 1:
            raise InputError(f"config.json: global_attn_every_n_layers is {every}")
        kinds = [LOCAL if i % every else GLOBAL for i in range(depth)]
    if not isinstance(kinds, list) or len(kinds) != depth or set(kinds) - {GLOBAL, LOCAL}:
        raise InputError(
            f"config.json: layer_types must name {depth} layers, each {GLOBAL} or {LOCAL}"
        )
    found = tuple(i for i, kind in enumerate(kinds) if kind == GLOBAL)
    return None if found == tuple(range(0, depth, 3)) else found


def _read_rope(values: Mapping[str, Any]) -> dict[str, Any]:
    """The two bases, of `rope_parameters` or the older flat fields."""
    given = values.get("rope_parameters") or {}
    if not isinstance(given, dict) or set(given) - {GLOBAL, LOCAL}:
        raise InputError(f"config.json: rope_parameters must be of {GLOBAL} and {LOCAL}")
    bases: dict[str, Any] = {}
    for kind, older in ((GLOBAL, "global_rope_theta"), (LOCAL, "local_rope_theta")):
        rope = given.get(kind) or {}
        name = rope.get("rope_type", rope.get("type", "default"))
        if name != "default" or rope.get("partial_rotary_factor", 1) != 1:
            raise InputError(f"config.json: rope_parameters {rope} are not implemented")
        base = rope.get("rope_theta", values.get(older))
        if base is None and kind == LOCAL and older in values:  # the global layers' then
            base = bases["rope_base"]
        ours = "rope_base" if kind == GLOBAL else "local_rope_base"
        bases[ours] = typed(older, getattr(Config, ours) if base is None else base, float)
        if bases[ours] <= 0:
            raise InputError(f"config.json: {older} is {base!r}; it must be above 0")
    return bases


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels; both the fields of
    release 5 and the older ones."""
    every = range(0, cfg.depth, 3) if cfg.global_layers is None else cfg.global_layers
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "modernbert",
        "hidden_activation": from_activation(cfg.activation),
        "classifier_activation": from_activation(cfg.head_activation),
        "local_attention": 2 * cfg.window,
        "layer_types": [GLOBAL if i in every else LOCAL for i in range(cfg.depth)],
        "rope_parameters": {
            GLOBAL: {"rope_type": "default", "rope_theta": cfg.rope_base},
            LOCAL: {"rope_type": "default", "rope_theta": cfg.local_rope_base},
        },
        "global_rope_theta": cfg.rope_base,
        "local_rope_theta": cfg.local_rope_base,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
        **{name: None for name, token in TOKENS.items() if token >= cfg.vocab_size},
    }


def backbone(cfg: Config) -> list[Rule]:
    """Everything but the head, without the prefix."""
    parts = ("query", "key", "value")
    attention = "layer{i}/attention"
    layer = [
        Rule("layers.{i}.attn.Wqkv.weight", tuple(f"{attention}/{n}/kernel" for n in parts),
             "(n o) i -> n i o"),
        *dense("layers.{i}.attn.Wo", f"{attention}/out", cfg.attention_bias),
        *norm("layers.{i}.mlp_norm", "layer{i}/mlp_norm", cfg.norm_bias),
        Rule("layers.{i}.mlp.Wi.weight", ("layer{i}/gate/kernel", "layer{i}/up/kernel"),
             "(n o) i -> n i o"),
        *dense("layers.{i}.mlp.Wo", "layer{i}/down", cfg.mlp_bias),
    ]  # fmt: skip
    if cfg.attention_bias:
        biases = tuple(f"{attention}/{n}/bias" for n in parts)
        layer.append(Rule("layers.{i}.attn.Wqkv.bias", biases, "(n o) -> n o"))
    if cfg.mlp_bias:
        biases = ("layer{i}/gate/bias", "layer{i}/up/bias")
        layer.append(Rule("layers.{i}.mlp.Wi.bias", biases, "(n o) -> n o"))
    first = norm("layers.{i}.attn_norm", "layer{i}/attention_norm", cfg.norm_bias)
    return [
        Rule("embeddings.tok_embeddings.weight", "embed/embedding"),
        *norm("embeddings.norm", "embed_norm", cfg.norm_bias),
        *repeat(layer, cfg.depth),
        *repeat(first, cfg.depth)[len(first) :],  # the first layer has none
        *norm("final_norm", "norm", cfg.norm_bias),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """The task's head; names in full."""
    if task == "feature-extraction":
        return []
    rules = [
        *dense("head.dense", "head", cfg.head_bias),
        *norm("head.norm", "head_norm", cfg.norm_bias),
    ]
    if task != "fill-mask":
        return rules + dense("classifier", "classifier")
    if not cfg.tied:
        return rules + dense("decoder", "decoder", cfg.decoder_bias)
    return rules + [Rule("decoder.bias", "decoder_bias")] * cfg.decoder_bias
