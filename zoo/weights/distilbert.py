"""DistilBERT as transformers keeps it (`DistilBertModel` and its heads)."""

from typing import Any

from zoo.models.distilbert import Config
from zoo.weights.configs import check_values, from_activation, to_activation
from zoo.weights.mapping import Rule, dense, norm, repeat

MODEL_TYPES = ("distilbert",)
ARCHITECTURES = {
    "DistilBertModel": "feature-extraction",
    "DistilBertForMaskedLM": "fill-mask",
    "DistilBertForSequenceClassification": "text-classification",
    "DistilBertForTokenClassification": "token-classification",
    "DistilBertForQuestionAnswering": "question-answering",
    "DistilBertForMultipleChoice": "multiple-choice",
}
PREFIX = "distilbert."
IGNORED = (
    r"(distilbert\.)?embeddings\.position_ids",  # 0, 1, 2, ...
    r"vocab_projector\.weight",  # a copy of what it is tied to
)

FIELDS = {
    "vocab_size": "vocab_size", "dim": "width", "n_layers": "depth", "n_heads": "num_heads",
    "hidden_dim": "hidden", "max_position_embeddings": "max_length", "dropout": "dropout",
    "attention_dropout": "attention_dropout", "seq_classif_dropout": "head_dropout",
    "qa_dropout": "answer_dropout", "tie_word_embeddings": "tied",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
ALIASES = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
"""Names that transformers takes for those above."""
OWN = ("activation", "sinusoidal_pos_embds")
"""Read below; and how the position table starts, which the weights tell."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    given = {ALIASES.get(name, name): value for name, value in values.items()}
    known = check_values(given, Config, FIELDS, {}, OWN)
    return Config(**known, activation=to_activation(given.get("activation", "gelu")))


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels."""
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "distilbert", "activation": from_activation(cfg.activation),
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Everything but the head, without the prefix."""
    layer = "transformer.layer.{i}"
    rules = [
        Rule("embeddings.word_embeddings.weight", "embed/embedding"),
        Rule("embeddings.position_embeddings.weight", "embeddings/positions/embedding"),
        *norm("embeddings.LayerNorm", "embeddings/norm"),
    ]
    return rules + repeat(
        [
            *dense(f"{layer}.attention.q_lin", "layer{i}/attention/query"),
            *dense(f"{layer}.attention.k_lin", "layer{i}/attention/key"),
            *dense(f"{layer}.attention.v_lin", "layer{i}/attention/value"),
            *dense(f"{layer}.attention.out_lin", "layer{i}/attention/out"),
            *norm(f"{layer}.sa_layer_norm", "layer{i}/attention_norm"),
            *dense(f"{layer}.ffn.lin1", "layer{i}/up"),
            *dense(f"{layer}.ffn.lin2", "layer{i}/down"),
            *norm(f"{layer}.output_layer_norm", "layer{i}/mlp_norm"),
        ],
        cfg.depth,
    )


def head(cfg: Config, task: str) -> list[Rule]:
    """The head of a task."""
    if task == "feature-extraction":
        return []
    if task == "question-answering":
        return dense("qa_outputs", "head")
    if task == "token-classification":
        return dense("classifier", "head")
    if task != "fill-mask":
        return dense("pre_classifier", "pre_head") + dense("classifier", "head")
    rules = dense("vocab_transform", "head/dense") + norm("vocab_layer_norm", "head/norm")
    if cfg.tied:
        return [*rules, Rule("vocab_projector.bias", "head/bias")]
    return rules + dense("vocab_projector", "head/decoder")
