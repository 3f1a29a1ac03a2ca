"""Configs of BERT's kin: what is read, what is refused, and what fine-tuning starts from."""

import golden_models
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
from zoo.errors import InputError
from zoo.weights import albert, distilbert, electra, roberta


@pytest.mark.parametrize(
    "table,values,message",
    [
        (roberta, {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        (roberta, {"is_decoder": True}, "is_decoder True is not implemented"),
        (roberta, {"pad_token_id": None}, "pad_token_id is None; it must be of type int"),
        (roberta, {"pad_token_id": -1}, "positions of tokens begin after that of padding"),
        (roberta, {"max_position_embeddings": 2}, "positions of tokens begin after"),
        (roberta, {"hidden_act": "swoosh"}, "activation 'swoosh' is not implemented"),
        (distilbert, {"activation": "swoosh"}, "activation 'swoosh' is not implemented"),
        (distilbert, {"hidden_size": "wide"}, "dim is 'wide'; it must be of type int"),
        (electra, {"summary_type": "mean"}, "summary_type 'mean' is not implemented"),
        (electra, {"summary_use_proj": False}, "summary_use_proj False is not implemented"),
        (electra, {"summary_activation": "tanh"}, "summary_activation 'tanh' is not implemented"),
        (albert, {"inner_group_num": 0}, "inner_group_num is 0, which cannot be"),
        (albert, {"inner_group_num": 5000}, "12 times inner_group_num 5000 cannot be"),
    ],
)
def test_what_is_not_implemented_is_refused(table, values, message):
    with pytest.raises(InputError, match=message):
        table.read_config(values)


@pytest.mark.parametrize("table", [roberta, distilbert, electra, albert])
def test_a_config_that_says_nothing_is_that_of_transformers(table):
    cfg = table.read_config({})
    assert table.read_config(table.write_config(cfg, "fill-mask")) == cfg


def test_what_transformers_takes_where_a_config_is_silent():
    cfg = roberta.read_config({})
    assert (cfg.max_length, cfg.epsilon, cfg.token_types) == (510, 1e-12, 2)
    assert roberta.read_config({"max_position_embeddings": 514}).max_length == 512
    assert electra.read_config({}).width == 256 and albert.read_config({}).num_heads == 64
    old = {"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 3}
    cfg = distilbert.read_config(old)
    assert (cfg.width, cfg.num_heads, cfg.depth) == (12, 2, 3)


def test_a_classifier_of_more_classes_keeps_the_layer_below_it(tmp_path):
    config, given, tensors, _ = golden_models.read("RobertaForSequenceClassification")
    golden_models.write_folder(tmp_path, config, tensors)
    with pytest.warns(UserWarning, match=r"has no head/out/bias, head/out/kernel; initialised"):
        model, variables = zoo.from_pretrained(tmp_path, num_classes=4)
    head = variables["params"]["head"]
    assert head["out"]["kernel"].shape == (6, 4)
    np.testing.assert_array_equal(head["dense"]["kernel"], tensors["classifier.dense.weight"].T)
    assert model.apply(variables, **given).shape == (2, 4)


def test_the_model_below_a_head_starts_another(tmp_path):
    config, given, tensors, _ = golden_models.read("ElectraForPreTraining")
    golden_models.write_folder(tmp_path, config, tensors)
    with pytest.warns(UserWarning, match="head/dense/bias"):
        model, variables = zoo.from_pretrained(tmp_path, "text-classification", num_classes=3)
    assert model.apply(variables, **given).shape == (2, 3)
