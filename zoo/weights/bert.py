"""BERT as transformers keeps it (`BertModel` and its heads)."""

from typing import Any

from zoo.models.bert import POOLED, Config
from zoo.weights.configs import check_values, from_activation, head_dropout, to_activation
from zoo.weights.mapping import Rule, dense, norm, repeat

MODEL_TYPES = ("bert",)
ARCHITECTURES = {
    "BertModel": "feature-extraction",
    "BertForMaskedLM": "fill-mask",
    "BertForSequenceClassification": "text-classification",
    "BertForTokenClassification": "token-classification",
    "BertForQuestionAnswering": "question-answering",
    "BertForMultipleChoice": "multiple-choice",
    "BertForNextSentencePrediction": "next-sentence-prediction",
    "BertForPreTraining": "fill-mask",
}
"""The first name of each task is the one that is written."""
PREFIX = "bert."
LEGACY = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
"""Names in files of the TensorFlow days."""
IGNORED = (
    r"(bert\.)?embeddings\.position_ids",  # 0, 1, 2, ...
    r"(bert\.)?pooler\.dense\.(weight|bias)",  # where the head does not use it
    r"cls\.seq_relationship\.(weight|bias)",  # pre-training's second head
    r"cls\.predictions\.(decoder\.(weight|bias)|bias)",  # copies of what they are tied to
)

FIELDS = {
    "vocab_size": "vocab_size", "hidden_size": "width", "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads", "intermediate_size": "hidden", "layer_norm_eps": "epsilon",
    "max_position_embeddings": "max_length", "type_vocab_size": "token_types",
    "hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout",
    "tie_word_embeddings": "tied",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
ONLY = {
    "position_embedding_type": ("absolute", None), "is_decoder": (False, None),
    "add_cross_attention": (False, None),
}  # fmt: skip
"""Values that change the computation, with those that are implemented."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    known = check_values(values, Config, FIELDS, ONLY)
    if "hidden_act" in values:
        known["activation"] = to_activation(values["hidden_act"])
    known["head_dropout"] = head_dropout(values, known)
    return Config(**known)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels."""
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "bert", "hidden_act": from_activation(cfg.activation),
        "classifier_dropout": cfg.head_dropout,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Everything but pooler and head, without the prefix."""
    return embeddings() + layers(cfg.depth)


def embeddings() -> list[Rule]:
    """Tokens, positions, token types and their norm."""
    return [
        Rule("embeddings.word_embeddings.weight", "embed/embedding"),
        Rule("embeddings.position_embeddings.weight", "embeddings/positions/embedding"),
        Rule("embeddings.token_type_embeddings.weight", "embeddings/types/embedding"),
        *norm("embeddings.LayerNorm", "embeddings/norm"),
    ]


def layers(depth: int) -> list[Rule]:
    """The layers, as the kin of BERT have them too."""
    layer = "encoder.layer.{i}"
    return repeat(
        [
            *dense(f"{layer}.attention.self.query", "layer{i}/attention/query"),
            *dense(f"{layer}.attention.self.key", "layer{i}/attention/key"),
            *dense(f"{layer}.attention.self.value", "layer{i}/attention/value"),
            *dense(f"{layer}.attention.output.dense", "layer{i}/attention/out"),
            *norm(f"{layer}.attention.output.LayerNorm", "layer{i}/attention_norm"),
            *dense(f"{layer}.intermediate.dense", "layer{i}/up"),
            *dense(f"{layer}.output.dense", "layer{i}/down"),
            *norm(f"{layer}.output.LayerNorm", "layer{i}/mlp_norm"),
        ],
        depth,
    )


def head(cfg: Config, task: str) -> list[Rule]:
    """Pooler and head of a task; names without the prefix where they lie under it."""
    rules = dense("{prefix}pooler.dense", "pooler") if task in POOLED else []
    if task == "feature-extraction":
        return rules
    if task == "next-sentence-prediction":
        return rules + dense("cls.seq_relationship", "head")
    if task == "question-answering":
        return dense("qa_outputs", "head")
    if task != "fill-mask":
        return rules + dense("classifier", "head")
    rules = [
        *dense("cls.predictions.transform.dense", "head/dense"),
        *norm("cls.predictions.transform.LayerNorm", "head/norm"),
    ]
    if cfg.tied:
        return [*rules, Rule("cls.predictions.bias", "head/bias")]
    return rules + dense("cls.predictions.decoder", "head/decoder")
