"""ModernBERT's config.json, in its older form and in that of transformers 5."""

import dataclasses
import json

import golden_models
import pytest
from safetensors.numpy import load_file

import zoo
from zoo.errors import InputError
from zoo.models.modernbert import Config
from zoo.weights import modernbert

PUBLISHED = {
    "architectures": ["ModernBertForMaskedLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 50281, "classifier_activation": "gelu", "classifier_bias": False,
    "classifier_dropout": 0.0, "classifier_pooling": "mean", "cls_token_id": 50281,
    "decoder_bias": True, "deterministic_flash_attn": False, "embedding_dropout": 0.0,
    "eos_token_id": 50282, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
    "gradient_checkpointing": False, "hidden_activation": "gelu", "hidden_size": 768,
    "initializer_cutoff_factor": 2.0, "initializer_range": 0.02, "intermediate_size": 1152,
    "layer_norm_eps": 1e-05, "local_attention": 128, "local_rope_theta": 10000.0,
    "max_position_embeddings": 8192, "mlp_bias": False, "mlp_dropout": 0.0,
    "model_type": "modernbert", "norm_bias": False, "norm_eps": 1e-05,
    "num_attention_heads": 12, "num_hidden_layers": 22, "pad_token_id": 50283,
    "position_embedding_type": "absolute", "reference_compile": None,
    "repad_logits_with_grad": False, "sep_token_id": 50282, "sparse_pred_ignore_index": -100,
    "sparse_prediction": False, "torch_dtype": "float32", "vocab_size": 50368,
}  # fmt: skip
"""As it comes with ModernBERT-base."""


def test_the_published_config():
    assert modernbert.read_config(PUBLISHED) == Config(pooling="mean")
    assert modernbert.read_config({}) == Config()


def test_layers_windows_and_bases_of_both_forms():
    def read(**changes):
        cfg = modernbert.read_config(PUBLISHED | {"num_hidden_layers": 4} | changes)
        written = json.loads(json.dumps(modernbert.write_config(cfg, "fill-mask")))
        assert modernbert.read_config(written) == cfg
        return cfg

    kinds = ["sliding_attention", "full_attention"] * 2
    assert read().global_layers is None
    assert read(global_attn_every_n_layers=2).global_layers == (0, 2)
    assert read(global_attn_every_n_layers=1).global_layers == (0, 1, 2, 3)
    assert read(layer_types=kinds).global_layers == (1, 3)
    assert read(local_attention=7).window == 3 and read(sliding_window=5).window == 5
    assert read(local_attention=1).window == 0
    older = read(global_rope_theta=5.0, local_rope_theta=None)
    assert (older.rope_base, older.local_rope_base) == (5.0, 5.0)
    newer = read(rope_parameters={
        "full_attention": {"rope_type": "default", "rope_theta": 7}, "sliding_attention": None,
    })  # fmt: skip
    assert (newer.rope_base, newer.local_rope_base) == (7.0, 10_000.0)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"layer_types": ["full_attention"]}, "layer_types must name 22 layers"),
        ({"layer_types": ["chunked_attention"] * 22}, "layer_types"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers is 0"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "yarn.*not implemented"),
        ({"rope_parameters": {"rope_theta": 3.0}}, "rope_parameters must be of full_attention"),
        ({"global_rope_theta": -2.0}, "must be above 0"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"head_dim": 32}, "head_dim 32"),
        ({"classifier_pooling": "max"}, "classifier_pooling 'max'"),
        ({"hidden_activation": "mish"}, "activation 'mish'"),
        ({"classifier_activation": 3}, "activation 3"),
        ({"local_attention": "128"}, "local_attention is '128'"),
        ({"norm_bias": 1}, "norm_bias is 1"),
        ({"is_decoder": True}, "is_decoder"),
    ],
)
def test_values_that_are_not_implemented_are_refused(changes, told):
    with pytest.raises(InputError, match=told):
        modernbert.read_config(PUBLISHED | changes)


def test_token_ids_beyond_a_small_vocabulary_are_not_left_to_the_default():
    written = modernbert.write_config(dataclasses.replace(Config(), vocab_size=50_282), "fill-mask")
    assert written["pad_token_id"] is None and written["eos_token_id"] is None
    assert "cls_token_id" not in written
    assert "pad_token_id" not in modernbert.write_config(Config(), "fill-mask")


def test_a_pretrained_model_becomes_a_classifier(tmp_path):
    """The dense layer and norm before the decoder are those before a classifier."""
    config, _, tensors, _ = golden_models.read("ModernBertForMaskedLM")
    folder = golden_models.write_folder(tmp_path / "theirs", config, tensors)
    with pytest.warns(UserWarning, match=r"has no classifier/bias, classifier/kernel; initialised"):
        model, variables = zoo.from_pretrained(
            folder, task="text-classification", labels=("bad", "so so", "good"), num_classes=3
        )
    zoo.save_pretrained(tmp_path / "ours", model, variables)
    written = load_file(tmp_path / "ours/model.safetensors")
    assert written.keys() - tensors.keys() == {"classifier.weight", "classifier.bias"}
    assert (written["head.dense.weight"] == tensors["head.dense.weight"]).all()
    again, _ = zoo.from_pretrained(tmp_path / "ours")
    assert again.cfg.labels == ("bad", "so so", "good") and again.cfg == model.cfg
