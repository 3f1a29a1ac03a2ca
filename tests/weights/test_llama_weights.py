"""Transformers' Llama family: frozen logits, configs read and written, what is refused."""

import dataclasses
import functools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models.llama import SIZES, Config
from zoo.weights import llama, mapping

GOLDEN = Path(__file__).parents[1] / "golden" / "llama_transformers.npz"
TASK = "text-generation"
LLAMA = {"model_type": "llama", "hidden_size": 12, "num_attention_heads": 3}


@functools.cache
def golden():
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def table(cfg, task=TASK):
    return mapping.under(llama.PREFIX, llama.backbone(cfg)) + llama.head(cfg, task)


@pytest.mark.parametrize("name", ["llama llama3", "mistral yarn", "qwen2 window", "qwen3 biases"])
def test_logits_are_transformers(name):
    cfg = llama.read_config(json.loads(str(golden()[f"{name}/config"])))
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


@pytest.mark.parametrize("task", sorted(set(llama.ARCHITECTURES.values())))
@pytest.mark.parametrize("name", SIZES)
def test_every_parameter_of_a_size_has_one_rule(name, task):
    config = SIZES[name].config  # two layers tell of all
    model = dataclasses.replace(config, depth=2).build(task)
    shapes = jax.eval_shape(model.init, jax.random.key(0), **model.cfg.inputs())["params"]
    ours = [path for rule in table(model.cfg, task) for path in mapping.names(rule.ours)]
    assert sorted(ours) == sorted(flatten_dict(shapes, sep="/"))


@pytest.mark.parametrize(
    "name, kind",
    [("Llama-2-7b", "Llama"), ("Llama-3.2-1B", "Llama"), ("SmolLM2-135M", "Llama"),
     ("Mistral-7B-v0.1", "Mistral"), ("Qwen2.5-0.5B", "Qwen2"), ("Qwen3-0.6B", "Qwen3")],
)  # fmt: skip
def test_a_written_config_reads_as_it_was(name, kind):
    cfg = dataclasses.replace(SIZES[name].config, num_classes=5)
    for head, task in (("ForCausalLM", TASK), ("Model", "feature-extraction"),
                       ("ForSequenceClassification", "text-classification")):  # fmt: skip
        values = json.loads(json.dumps(llama.write_config(cfg, task)))
        assert values["architectures"] == [kind + head] and values["model_type"] == kind.lower()
        assert llama.ARCHITECTURES[kind + head] == task
        assert llama.read_config(values) == cfg


def test_published_configs_old_and_new():
    """What the hub's files say, in the words of several releases of transformers."""
    scaling = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
               "original_max_position_embeddings": 8192}  # fmt: skip
    llama32 = {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 128_000, "eos_token_id": 128_001, "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
        "max_position_embeddings": 131_072, "mlp_bias": False, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 128_256,
    }  # fmt: skip
    old = {"rope_scaling": scaling | {"rope_type": "llama3"}, "rope_theta": 500_000.0}
    new = {"rope_parameters": scaling | {"rope_type": "llama3", "rope_theta": 500_000.0}}
    for rope in (old, new):
        assert llama.read_config(llama32 | rope) == SIZES["Llama-3.2-1B"].config
    qwen = {
        "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 32_768,
        "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1_000_000.0, "sliding_window": 32_768, "tie_word_embeddings": True,
        "use_sliding_window": False, "vocab_size": 151_936,
    }  # fmt: skip
    assert llama.read_config(qwen) == SIZES["Qwen2.5-0.5B"].config


def test_what_a_config_leaves_out():
    assert llama.read_config({"model_type": "llama"}) == Config(max_length=2048, epsilon=1e-6)
    assert llama.read_config({"model_type": "mistral"}).window == 4096
    assert llama.read_config({"model_type": "mistral", "sliding_window": None}).window is None
    assert llama.read_config({"model_type": "qwen3"}).head_dim == 128
    sliding = {"use_sliding_window": True, "num_hidden_layers": 4}
    cfg = llama.read_config({"model_type": "qwen2", "max_window_layers": 3} | sliding)
    assert (cfg.window, cfg.full_layers) == (4096, (0, 1, 2))
    assert llama.read_config({"model_type": "qwen2"} | sliding).window is None  # 28 layers first
    assert llama.read_config(LLAMA | {"id2label": {"0": "a", "1": "b", "2": "c"}}).num_classes == 3


@pytest.mark.parametrize(
    "values, message",
    [
        ({"model_type": "phi"}, "model_type 'phi' is none of llama, mistral, qwen2, qwen3"),
        ({"hidden_act": "xielu"}, "hidden_act 'xielu'"),
        ({"rope_scaling": {"type": "longrope"}}, "rope_type 'longrope'"),
        ({"rope_scaling": {"type": "linear"}}, "rope_type 'linear' without factor"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2}}, "without low and high"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        ({"partial_rotary_factor": 0.25}, "partial_rotary_factor 0.25"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "truncate": False}}, "truncate"),
        ({"rope_parameters": {"full_attention": {}}}, "of full_attention alone"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_act": "mish", "partial_rotary_factor": 0.5}, "mish.*; partial_rotary_factor"),
        ({"model_type": "qwen2", "use_sliding_window": True, "layer_types": ["chunked_attention"],
          "num_hidden_layers": 1}, "chunked_attention"),
    ],
)  # fmt: skip
def test_values_that_change_the_computation_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        llama.read_config(LLAMA | values)


@pytest.mark.parametrize(
    "changes", [{"mlp_bias": True, "qk_norm": True}, {"qkv_bias": True, "mlp_bias": True},
                {"window": 8, "full_layers": (0,)}, {"activation": "elu"}],
)  # fmt: skip
def test_a_config_that_no_model_type_computes(changes):
    with pytest.raises(InputError, match="transformers"):
        llama.write_config(Config(**changes), TASK)


def test_what_a_file_may_hold_besides():
    for name in ("model.layers.3.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq",
                 "lm_head.weight"):  # fmt: skip
        assert any(re.fullmatch(pattern, name) for pattern in llama.IGNORED)
    assert not any(re.fullmatch(pattern, "score.weight") for pattern in llama.IGNORED)
