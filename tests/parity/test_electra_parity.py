"""ELECTRA beside transformers: outputs, bytes, gradients and steps of AdamW."""

import encoders
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

ELECTRA = encoders.Encoder(
    values=dict(
        vocab_size=37, embedding_size=14, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=3, intermediate_size=40, max_position_embeddings=19,
    ),
    configs={
        "plain": {},
        "odd": dict(
            hidden_act="gelu_new", layer_norm_eps=1e-3, type_vocab_size=3, embedding_size=18,
            hidden_size=18, num_attention_heads=1, intermediate_size=7, num_hidden_layers=1,
            tie_word_embeddings=False,
        ),
        "deep": dict(num_hidden_layers=5, hidden_act="relu", vocab_size=11, embedding_size=30),
        "long": dict(max_position_embeddings=40, hidden_act="silu", layer_norm_eps=0.5),
    },
    heads={
        "ElectraModel": {}, "ElectraForMaskedLM": {}, "ElectraForPreTraining": {},
        "ElectraForSequenceClassification": {"num_labels": 5},
        "ElectraForTokenClassification": {"num_labels": 3}, "ElectraForQuestionAnswering": {},
        "ElectraForMultipleChoice": {},
    },
    rates=(
        "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout",
        "summary_last_dropout",
    ),
)  # fmt: skip


@pytest.mark.parametrize("config", encoders.quick(ELECTRA.configs))
@pytest.mark.parametrize("head", ELECTRA.heads)
def test_outputs_and_bytes(tmp_path, head, config):
    encoders.compare_outputs_and_bytes(tmp_path, ELECTRA, head, config)


@pytest.mark.parametrize("config", encoders.quick(ELECTRA.configs))
def test_float64(tmp_path, config):
    encoders.compare_float64(tmp_path, ELECTRA, "ElectraForMaskedLM", config)


@pytest.mark.parametrize("rate", encoders.quick(ELECTRA.rates, 1))
@pytest.mark.parametrize("head", encoders.quick(ELECTRA.heads, 1))
def test_dropout(tmp_path, head, rate):
    encoders.compare_dropout(tmp_path, ELECTRA, head, rate)


def test_gradients_and_three_steps(tmp_path):
    encoders.compare_training(tmp_path, ELECTRA, "ElectraForSequenceClassification", "plain")
