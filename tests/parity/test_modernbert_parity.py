"""ModernBERT beside transformers: outputs, bytes, gradients and steps of AdamW."""

import encoders
import numpy as np
import pytest

import zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

MODERN = encoders.Encoder(
    values=dict(
        vocab_size=37, hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=14, max_position_embeddings=19, local_attention=8, norm_eps=1e-2,
        pad_token_id=0, bos_token_id=None, eos_token_id=None, cls_token_id=None,
        sep_token_id=None,
    ),
    configs={
        "plain": {},
        "odd": dict(
            norm_bias=True, attention_bias=True, mlp_bias=True, decoder_bias=False,
            classifier_bias=True, classifier_activation="relu", hidden_activation="silu",
            classifier_pooling="mean", tie_word_embeddings=False, num_attention_heads=2,
            layer_types=["sliding_attention", "full_attention"], local_attention=9,
            num_hidden_layers=2,
        ),
        "older": dict(
            global_attn_every_n_layers=2, global_rope_theta=30.0, local_rope_theta=7.0,
            num_hidden_layers=5, hidden_activation="gelu_new", norm_eps=0.3,
        ),
        "local": dict(
            layer_types=["sliding_attention"] * 3, mlp_bias=True,
            num_attention_heads=12, classifier_activation="tanh", local_attention=12,
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
                "full_attention": {"rope_type": "default", "rope_theta": 3.0},
            },
        ),
        "untied": dict(
            tie_word_embeddings=False, classifier_pooling="mean", num_hidden_layers=1,
            norm_bias=True, intermediate_size=33, hidden_activation="relu",
        ),
    },
    heads={
        "ModernBertModel": {}, "ModernBertForMaskedLM": {},
        "ModernBertForSequenceClassification": {"num_labels": 5},
        "ModernBertForTokenClassification": {"num_labels": 3},
        "ModernBertForQuestionAnswering": {}, "ModernBertForMultipleChoice": {},
    },
)  # fmt: skip


@pytest.mark.parametrize("config", encoders.quick(MODERN.configs))
@pytest.mark.parametrize("head", MODERN.heads)
def test_outputs_and_bytes(tmp_path, head, config):
    encoders.compare_outputs_and_bytes(tmp_path, MODERN, head, config)


@pytest.mark.parametrize(
    "window, side",
    [(0, "right"), (3, "left"), *(pytest.param(*odd, marks=pytest.mark.full) for odd in
     [(0, "left"), (3, "right"), (4, "left"), (4, "right"), (30, "left")])],
)  # fmt: skip
def test_windows(tmp_path, window, side):
    """Where a window holds nothing but padding, the reference gives that token the mean of all."""
    theirs = encoders.reference(MODERN, "ModernBertForMaskedLM", "plain")
    theirs.config.local_attention = window
    theirs.set_attn_implementation("eager")
    theirs.save_pretrained(tmp_path)
    model, variables = zoo.from_pretrained(tmp_path)
    assert model.cfg.window == window // 2
    given = encoders.batch("", theirs.config)
    lengths = np.array([[11], [4], [1]])
    place = np.arange(11)
    real = place >= 11 - lengths if side == "left" else place < lengths
    given["attention_mask"] = real.astype(np.int64)
    (wanted,), (found,) = encoders.run(theirs, given), encoders.ours(model, variables, given)
    assert np.abs(wanted - found)[real].max() <= 2e-5 * wanted[real].std()


@pytest.mark.parametrize(
    "head",
    [
        "ModernBertForSequenceClassification",
        pytest.param("ModernBertForTokenClassification", marks=pytest.mark.full),
    ],
)
def test_gradients_and_three_steps(tmp_path, head):
    """In float32: the reference turns queries and keys, and takes softmax, in no more."""
    encoders.compare_training(tmp_path, MODERN, head, "plain", float64=False)
