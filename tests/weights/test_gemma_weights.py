"""Transformers' Gemmas: frozen logits, configs read and written, what is refused."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models.gemma import SIZES, Config
from zoo.weights import gemma, mapping

GOLDEN = Path(__file__).parents[1] / "golden" / "gemma_transformers.npz"
TASK = "text-generation"


@functools.cache
def golden():
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def table(cfg, task=TASK):
    return mapping.under(gemma.PREFIX, gemma.backbone(cfg)) + gemma.head(cfg, task)


@pytest.mark.parametrize("name", ["gemma linear", "gemma2 caps", "gemma3"])
def test_logits_are_transformers(name):
    cfg = gemma.read_config(json.loads(str(golden()[f"{name}/config"])))
    start = f"{name}/weight/"
    weights = {
        key.removeprefix(start): np.float32(value)
        for key, value in golden().items()
        if key.startswith(start)
    }
    flat = mapping.read_all(table(cfg), weights.__getitem__)
    variables = {"params": unflatten_dict(flat, sep="/")}
    ids, mask = golden()["input_ids"], golden()["attention_mask"]
    logits = jax.jit(cfg.build(TASK).apply)(variables, ids, mask)
    want = golden()[f"{name}/logits"][mask == 1]
    assert np.abs(logits[mask == 1] - want).max() <= 2e-5 * want.std()

    back = mapping.write_all(table(cfg), flat)
    assert back.keys() == weights.keys()
    assert all(back[key].tobytes() == value.tobytes() for key, value in weights.items())


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(set(gemma.ARCHITECTURES.values())))
@pytest.mark.parametrize("name", SIZES)
def test_every_parameter_of_a_size_has_one_rule(name, task):
    model = SIZES[name].config.build(task)
    shapes = jax.eval_shape(model.init, jax.random.key(0), **model.cfg.inputs())["params"]
    ours = [path for rule in table(model.cfg, task) for path in mapping.names(rule.ours)]
    assert sorted(ours) == sorted(flatten_dict(shapes, sep="/"))


@pytest.mark.parametrize(
    "name, kind",
    [("gemma-2b", "gemma"), ("gemma-2-2b", "gemma2"), ("gemma-3-1b-pt", "gemma3_text")],
)
def test_a_written_config_reads_as_it_was(name, kind):
    cfg = dataclasses.replace(SIZES[name].config, num_classes=5)
    for task in sorted(set(gemma.ARCHITECTURES.values())):
        values = json.loads(json.dumps(gemma.write_config(cfg, task)))
        (architecture,) = values["architectures"]
        assert values["model_type"] == kind and gemma.ARCHITECTURES[architecture] == task
        assert gemma.read_config(values) == cfg


def test_published_configs_in_the_words_of_older_releases():
    shape = {"head_dim": 256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-06,
             "vocab_size": 256_000, "rope_theta": 10_000.0}  # fmt: skip
    first = {
        "model_type": "gemma", "hidden_act": "gelu", "hidden_size": 2048,
        "intermediate_size": 16_384, "num_attention_heads": 8, "num_hidden_layers": 18,
        "num_key_value_heads": 1,
    }  # fmt: skip
    assert gemma.read_config(shape | first) == SIZES["gemma-2b"].config
    third = {
        "model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": None, "final_logit_softcapping": None, "hidden_size": 1152,
        "intermediate_size": 6912, "max_position_embeddings": 32_768, "num_attention_heads": 4,
        "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256,
        "rope_local_base_freq": 10_000, "rope_scaling": None, "rope_theta": 1_000_000,
        "sliding_window": 512, "sliding_window_pattern": 6, "vocab_size": 262_144,
    }  # fmt: skip
    assert gemma.read_config(shape | third) == SIZES["gemma-3-1b-pt"].config
    assert gemma.read_config({"model_type": "gemma2"}) == SIZES["gemma-2-2b"].config


@pytest.mark.parametrize(
    "values, message",
    [
        ({"model_type": "gemma3"}, "model_type 'gemma3' is none of gemma, gemma2, gemma3_text"),
        ({"model_type": "gemma", "hidden_act": "xielu"}, "activation 'xielu'"),
        ({"model_type": "gemma2", "tie_word_embeddings": False}, "tie_word_embeddings false"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "bidirectional"),
        ({"model_type": "gemma3_text", "attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ({"model_type": "gemma2", "rope_scaling": {"type": "yarn"}}, "rope_type 'yarn'"),
        ({"model_type": "gemma2", "sliding_window": None}, "without sliding_window"),
        ({"model_type": "gemma2", "layer_types": ["full_attention"]}, "of 26 layers"),
    ],
)
def test_values_that_change_the_computation_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        gemma.read_config(values)


@pytest.mark.parametrize(
    "changes", [{"window": 4}, {"qk_norm": True}, {"score_cap": 2.0}, {"local_rope_base": 5.0}]
)
def test_a_config_that_no_gemma_of_transformers_computes(changes):
    with pytest.raises(InputError, match="no Gemma of transformers"):
        gemma.write_config(Config(**changes), TASK)
