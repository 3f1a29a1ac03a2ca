"""DistilBERT beside transformers: outputs, bytes, gradients and steps of AdamW."""

import encoders
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

DISTILBERT = encoders.Encoder(
    values=dict(
        vocab_size=37, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=19,
    ),
    configs={
        "plain": {},
        "odd": dict(
            activation="gelu_new", dim=18, n_heads=1, hidden_dim=7, n_layers=1,
            tie_word_embeddings=False,
        ),
        "deep": dict(n_layers=5, activation="relu", vocab_size=11, n_heads=6),
        "long": dict(max_position_embeddings=40, activation="silu", sinusoidal_pos_embds=True),
    },
    heads={
        "DistilBertModel": {}, "DistilBertForMaskedLM": {},
        "DistilBertForSequenceClassification": {"num_labels": 5},
        "DistilBertForTokenClassification": {"num_labels": 3}, "DistilBertForQuestionAnswering": {},
        "DistilBertForMultipleChoice": {},
    },
    rates=("dropout", "attention_dropout", "seq_classif_dropout", "qa_dropout"),
)  # fmt: skip


@pytest.mark.parametrize("config", encoders.quick(DISTILBERT.configs))
@pytest.mark.parametrize("head", DISTILBERT.heads)
def test_outputs_and_bytes(tmp_path, head, config):
    encoders.compare_outputs_and_bytes(tmp_path, DISTILBERT, head, config)


@pytest.mark.parametrize("config", encoders.quick(DISTILBERT.configs))
def test_float64(tmp_path, config):
    encoders.compare_float64(tmp_path, DISTILBERT, "DistilBertForMaskedLM", config)


@pytest.mark.parametrize("rate", encoders.quick(DISTILBERT.rates, 1))
@pytest.mark.parametrize("head", encoders.quick(DISTILBERT.heads, 1))
def test_dropout(tmp_path, head, rate):
    encoders.compare_dropout(tmp_path, DISTILBERT, head, rate)


def test_gradients_and_three_steps(tmp_path):
    encoders.compare_training(tmp_path, DISTILBERT, "DistilBertForSequenceClassification", "plain")
