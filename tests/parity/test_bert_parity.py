"""BERT beside transformers: outputs, bytes, gradients and steps of AdamW."""

import encoders
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

BERT = encoders.Encoder(
    values=dict(
        vocab_size=37, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=19,
    ),
    configs={
        "plain": {},
        "odd": dict(
            hidden_act="gelu_new", layer_norm_eps=1e-3, type_vocab_size=3, hidden_size=18,
            num_attention_heads=1, intermediate_size=7, num_hidden_layers=1,
            tie_word_embeddings=False,
        ),
        "deep": dict(num_hidden_layers=5, hidden_act="relu", vocab_size=11, num_attention_heads=6),
        "long": dict(max_position_embeddings=40, hidden_act="silu", layer_norm_eps=0.5),
    },
    heads={
        "BertModel": {}, "BertForMaskedLM": {}, "BertForSequenceClassification": {"num_labels": 5},
        "BertForTokenClassification": {"num_labels": 3}, "BertForQuestionAnswering": {},
        "BertForMultipleChoice": {}, "BertForNextSentencePrediction": {},
    },
    rates=("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    unused=("cls.predictions.bias",),  # where the head is not tied
)  # fmt: skip


@pytest.mark.parametrize("config", encoders.quick(BERT.configs))
@pytest.mark.parametrize("head", BERT.heads)
def test_outputs_and_bytes(tmp_path, head, config):
    encoders.compare_outputs_and_bytes(tmp_path, BERT, head, config)


@pytest.mark.parametrize("config", encoders.quick(BERT.configs))
def test_float64(tmp_path, config):
    encoders.compare_float64(tmp_path, BERT, "BertForMaskedLM", config)


@pytest.mark.parametrize("rate", encoders.quick(BERT.rates, 1))
@pytest.mark.parametrize("head", encoders.quick(BERT.heads, 1))
def test_dropout(tmp_path, head, rate):
    encoders.compare_dropout(tmp_path, BERT, head, rate)


def test_gradients_and_three_steps(tmp_path):
    encoders.compare_training(tmp_path, BERT, "BertForSequenceClassification", "plain")
