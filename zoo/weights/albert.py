"""ALBERT as transformers keeps it (`AlbertModel` and its heads)."""

from typing import Any

from zoo.errors import InputError
from zoo.models.albert import POOLED, Config
from zoo.weights import bert
from zoo.weights.configs import LARGEST, check_values, from_activation, to_activation, typed
from zoo.weights.mapping import Rule, dense, norm, repeat

MODEL_TYPES = ("albert",)
ARCHITECTURES = {
    "AlbertModel": "feature-extraction",
    "AlbertForMaskedLM": "fill-mask",
    "AlbertForSequenceClassification": "text-classification",
    "AlbertForTokenClassification": "token-classification",
    "AlbertForQuestionAnswering": "question-answering",
    "AlbertForMultipleChoice": "multiple-choice",
    "AlbertForPreTraining": "fill-mask",
}
"""The first name of each task is the one that is written."""
PREFIX = "albert."
IGNORED = (
    r"(albert\.)?embeddings\.position_ids",  # 0, 1, 2, ...
    r"(albert\.)?pooler\.(weight|bias)",  # where the head does not use it
    r"sop_classifier\.classifier\.(weight|bias)",  # pre-training's second head
    r"predictions\.(decoder\.(weight|bias)|bias)",  # copies of what they are tied to
)

FIELDS = bert.FIELDS | {
    "embedding_size": "embedding", "num_hidden_groups": "groups", "inner_group_num": "group_depth",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
DEFAULTS = {
    "hidden_size": 4096, "num_attention_heads": 64, "intermediate_size": 16_384,
    "hidden_act": "gelu_new",
}  # fmt: skip
"""What transformers takes where a config.json is silent, and the model has otherwise."""
OWN = (
    "classifier_dropout_prob",
    # Of the first release, whose other values transformers does not read either.
    "net_structure_type", "gap_size", "num_memory_blocks", "down_scale_factor", "layers_to_keep",
)  # fmt: skip


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    given = DEFAULTS | values
    known = check_values(given, Config, FIELDS, bert.ONLY, OWN)
    known["activation"] = to_activation(given["hidden_act"])
    rate = given.get("classifier_dropout_prob", 0.1)
    known["head_dropout"] = (
        known.get("dropout", 0.0) if rate is None else typed("classifier_dropout_prob", rate, float)
    )
    cfg = Config(**known)
    if cfg.depth * cfg.group_depth > LARGEST["depth"]:
        raise InputError(
            f"config.json: num_hidden_layers {cfg.depth} times inner_group_num {cfg.group_depth} "
            "cannot be"
        )
    return cfg


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels."""
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "albert", "hidden_act": from_activation(cfg.activation),
        "classifier_dropout_prob": cfg.head_dropout,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Everything but pooler and head, without the prefix."""
    layer, ours = "encoder.albert_layer_groups.{g}.albert_layers.{i}", "group{g}_layer{i}"
    rules = [
        *dense(f"{layer}.attention.query", f"{ours}/attention/query"),
        *dense(f"{layer}.attention.key", f"{ours}/attention/key"),
        *dense(f"{layer}.attention.value", f"{ours}/attention/value"),
        *dense(f"{layer}.attention.dense", f"{ours}/attention/out"),
        *norm(f"{layer}.attention.LayerNorm", f"{ours}/attention_norm"),
        *dense(f"{layer}.ffn", f"{ours}/up"),
        *dense(f"{layer}.ffn_output", f"{ours}/down"),
        *norm(f"{layer}.full_layer_layer_norm", f"{ours}/mlp_norm"),
    ]
    return [
        *bert.embeddings(),
        *dense("encoder.embedding_hidden_mapping_in", "project"),
        *repeat(repeat(rules, cfg.group_depth), cfg.groups, "g"),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """Pooler and head of a task; names without the prefix where they lie under it."""
    rules = dense("{prefix}pooler", "pooler") if task in POOLED else []
    if task == "feature-extraction":
        return rules
    if task == "question-answering":
        return dense("qa_outputs", "head")
    if task != "fill-mask":
        return rules + dense("classifier", "head")
    rules = dense("predictions.dense", "head/dense") + norm("predictions.LayerNorm", "head/norm")
    if cfg.tied:
        return [*rules, Rule("predictions.bias", "head/bias")]
    return rules + dense("predictions.decoder", "head/decoder")
