"""ALBERT beside transformers: outputs, bytes, gradients and steps of AdamW."""

import encoders
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

ALBERT = encoders.Encoder(
    values=dict(
        vocab_size=37, embedding_size=14, hidden_size=24, num_hidden_layers=3,
        num_attention_heads=3, intermediate_size=40, max_position_embeddings=19,
    ),
    configs={
        "plain": {},
        "odd": dict(
            hidden_act="relu", layer_norm_eps=1e-3, type_vocab_size=3, embedding_size=18,
            hidden_size=18, num_attention_heads=1, intermediate_size=7, num_hidden_groups=2,
            inner_group_num=2, tie_word_embeddings=False,
        ),
        "deep": dict(num_hidden_layers=7, num_hidden_groups=5, hidden_act="gelu", vocab_size=11),
        "long": dict(max_position_embeddings=40, hidden_act="silu", layer_norm_eps=0.5),
    },
    heads={
        "AlbertModel": {}, "AlbertForMaskedLM": {},
        "AlbertForSequenceClassification": {"num_labels": 5},
        "AlbertForTokenClassification": {"num_labels": 3}, "AlbertForQuestionAnswering": {},
        "AlbertForMultipleChoice": {},
    },
    rates=("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob"),
    unused=("predictions.bias",),  # where the head is not tied
)  # fmt: skip


@pytest.mark.parametrize("config", encoders.quick(ALBERT.configs))
@pytest.mark.parametrize("head", ALBERT.heads)
def test_outputs_and_bytes(tmp_path, head, config):
    encoders.compare_outputs_and_bytes(tmp_path, ALBERT, head, config)


@pytest.mark.parametrize("config", encoders.quick(ALBERT.configs))
def test_float64(tmp_path, config):
    encoders.compare_float64(tmp_path, ALBERT, "AlbertForMaskedLM", config)


@pytest.mark.parametrize("rate", encoders.quick(ALBERT.rates, 1))
@pytest.mark.parametrize("head", encoders.quick(ALBERT.heads, 1))
def test_dropout(tmp_path, head, rate):
    encoders.compare_dropout(tmp_path, ALBERT, head, rate)


def test_gradients_and_three_steps(tmp_path):
    encoders.compare_training(tmp_path, ALBERT, "AlbertForSequenceClassification", "plain")
