"""RoBERTa and XLM-RoBERTa beside transformers: outputs, bytes, gradients and steps of AdamW."""

import dataclasses

import encoders
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

ROBERTA = encoders.Encoder(
    values=dict(
        vocab_size=23, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=19,
    ),
    configs={
        "plain": {},
        "odd": dict(
            hidden_act="gelu_new", layer_norm_eps=1e-3, type_vocab_size=1, hidden_size=18,
            num_attention_heads=1, intermediate_size=7, num_hidden_layers=1, pad_token_id=0,
            tie_word_embeddings=False,
        ),
        "deep": dict(num_hidden_layers=5, hidden_act="relu", vocab_size=11, pad_token_id=7),
        "long": dict(max_position_embeddings=40, hidden_act="silu", layer_norm_eps=0.5),
    },
    heads={
        "RobertaModel": {}, "RobertaForMaskedLM": {},
        "RobertaForSequenceClassification": {"num_labels": 5},
        "RobertaForTokenClassification": {"num_labels": 3}, "RobertaForQuestionAnswering": {},
        "RobertaForMultipleChoice": {},
    },
    rates=("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    unused=("lm_head.bias",),  # where the head is not tied
)  # fmt: skip
XLM = dataclasses.replace(ROBERTA, heads={f"XLM{k}": v for k, v in ROBERTA.heads.items()})


@pytest.mark.parametrize("config", encoders.quick(ROBERTA.configs))
@pytest.mark.parametrize("head", ROBERTA.heads)
def test_outputs_and_bytes(tmp_path, head, config):
    encoders.compare_outputs_and_bytes(tmp_path, ROBERTA, head, config)


@pytest.mark.full
@pytest.mark.parametrize("head", XLM.heads)
def test_outputs_and_bytes_of_xlm(tmp_path, head):
    encoders.compare_outputs_and_bytes(tmp_path, XLM, head, "plain")


@pytest.mark.parametrize("config", encoders.quick(ROBERTA.configs))
def test_float64(tmp_path, config):
    encoders.compare_float64(tmp_path, ROBERTA, "RobertaForMaskedLM", config)


@pytest.mark.parametrize("rate", encoders.quick(ROBERTA.rates, 1))
@pytest.mark.parametrize("head", encoders.quick(ROBERTA.heads, 1))
def test_dropout(tmp_path, head, rate):
    encoders.compare_dropout(tmp_path, ROBERTA, head, rate)


def test_gradients_and_three_steps(tmp_path):
    encoders.compare_training(tmp_path, ROBERTA, "RobertaForSequenceClassification", "plain")
