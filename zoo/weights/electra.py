"""ELECTRA, discriminator and generator, as transformers keeps it (`ElectraModel` and its heads)."""

from typing import Any

from zoo.models.electra import Config
from zoo.weights import bert
from zoo.weights.configs import check_values, from_activation, head_dropout, to_activation
from zoo.weights.mapping import Rule, dense, norm

MODEL_TYPES = ("electra",)
ARCHITECTURES = {
    "ElectraModel": "feature-extraction",
    "ElectraForMaskedLM": "fill-mask",
    "ElectraForPreTraining": "replaced-token-detection",
    "ElectraForSequenceClassification": "text-classification",
    "ElectraForTokenClassification": "token-classification",
    "ElectraForQuestionAnswering": "question-answering",
    "ElectraForMultipleChoice": "multiple-choice",
}
PREFIX = "electra."
LEGACY = bert.LEGACY
IGNORED = (
    r"(electra\.)?embeddings\.position_ids",  # 0, 1, 2, ...
    r"generator_lm_head\.weight",  # a copy of what it is tied to
)

FIELDS = bert.FIELDS | {"embedding_size": "embedding", "summary_last_dropout": "choice_dropout"}
"""Their name and ours, where the value is the same."""
ONLY = bert.ONLY | {
    "summary_type": ("first",), "summary_use_proj": (True,), "summary_activation": ("gelu",),
    "summary_proj_to_labels": (False, None), "summary_first_dropout": (0, None),
}  # fmt: skip
"""Values that change the computation, with those that are implemented."""
DEFAULTS = {
    "embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024,
}  # fmt: skip
"""What transformers takes where a config.json is silent, and the model has otherwise."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    known = check_values(DEFAULTS | values, Config, FIELDS, ONLY)
    known["activation"] = to_activation(values.get("hidden_act", "gelu"))
    known["head_dropout"] = head_dropout(values, known)
    return Config(**known)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels."""
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "electra", "hidden_act": from_activation(cfg.activation),
        "classifier_dropout": cfg.head_dropout,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Everything but the head, without the prefix."""
    project = dense("embeddings_project", "project") * (cfg.embedding != cfg.width)
    return bert.embeddings() + project + bert.layers(cfg.depth)


def head(cfg: Config, task: str) -> list[Rule]:
    """The head of a task."""
    if task == "feature-extraction":
        return []
    if task == "replaced-token-detection":
        first, last = (
            "discriminator_predictions.dense",
            "discriminator_predictions.dense_prediction",
        )
        return dense(first, "pre_head") + dense(last, "head")
    if task == "text-classification":
        return dense("classifier.dense", "head/dense") + dense("classifier.out_proj", "head/out")
    if task == "token-classification":
        return dense("classifier", "head")
    if task == "question-answering":
        return dense("qa_outputs", "head")
    if task == "multiple-choice":
        return dense("sequence_summary.summary", "pre_head") + dense("classifier", "head")
    rules = [
        *dense("generator_predictions.dense", "head/dense"),
        *norm("generator_predictions.LayerNorm", "head/norm"),
    ]
    if cfg.tied:
        return [*rules, Rule("generator_lm_head.bias", "head/bias")]
    return rules + dense("generator_lm_head", "head/decoder")
