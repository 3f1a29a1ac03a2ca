"""RoBERTa and XLM-RoBERTa as transformers keeps them."""

from typing import Any

from zoo.errors import InputError
from zoo.models.roberta import POOLED, Config
from zoo.weights import bert
from zoo.weights.configs import (
    LARGEST,
    check_values,
    from_activation,
    head_dropout,
    to_activation,
    typed,
)
from zoo.weights.mapping import Rule, dense, norm

MODEL_TYPES = ("roberta", "xlm-roberta")
"""The second is written as the first, which computes the same."""
HEADS = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
}
ARCHITECTURES = {
    kind + head: task for kind in ("Roberta", "XLMRoberta") for head, task in HEADS.items()
}
PREFIX = "roberta."
LEGACY = bert.LEGACY
IGNORED = (
    r"(roberta\.)?embeddings\.position_ids",  # 0, 1, 2, ...
    r"(roberta\.)?pooler\.dense\.(weight|bias)",  # where the head does not use it
    r"lm_head\.(decoder\.(weight|bias)|bias)",  # copies of what they are tied to
)

FIELDS = {
    theirs: ours for theirs, ours in bert.FIELDS.items() if theirs != "max_position_embeddings"
}
"""Their name and ours, where the value is the same."""
DEFAULTS = {
    "vocab_size": 50_265, "max_position_embeddings": 512, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12, "pad_token_id": 1,
}  # fmt: skip
"""What transformers takes where a config.json is silent, and the model has otherwise."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    given = DEFAULTS | values
    known = check_values(given, Config, FIELDS, bert.ONLY, ("max_position_embeddings",))
    known["activation"] = to_activation(given.get("hidden_act", "gelu"))
    known["head_dropout"] = head_dropout(given, known)
    known["pad_id"] = pad = typed("pad_token_id", given["pad_token_id"], int)
    rows = typed("max_position_embeddings", given["max_position_embeddings"], int)
    if pad < 0 or not pad + 1 < rows <= LARGEST["max_length"]:
        raise InputError(
            f"config.json: max_position_embeddings {rows} and pad_token_id {pad} cannot be: "
            "positions of tokens begin after that of padding"
        )
    return Config(**known, max_length=rows - pad - 1)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels."""
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "roberta", "hidden_act": from_activation(cfg.activation),
        "classifier_dropout": cfg.head_dropout, "pad_token_id": cfg.pad_id,
        "max_position_embeddings": cfg.max_length + cfg.pad_id + 1,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Everything but pooler and head, without the prefix."""
    return bert.embeddings() + bert.layers(cfg.depth)


def head(cfg: Config, task: str) -> list[Rule]:
    """Pooler and head of a task; names without the prefix where they lie under it."""
    rules = dense("{prefix}pooler.dense", "pooler") if task in POOLED else []
    if task == "feature-extraction":
        return rules
    if task == "question-answering":
        return dense("qa_outputs", "head")
    if task == "text-classification":
        return dense("classifier.dense", "head/dense") + dense("classifier.out_proj", "head/out")
    if task != "fill-mask":
        return rules + dense("classifier", "head")
    rules = dense("lm_head.dense", "head/dense") + norm("lm_head.layer_norm", "head/norm")
    if cfg.tied:
        return [*rules, Rule("lm_head.bias", "head/bias")]
    return rules + dense("lm_head.decoder", "head/decoder")
