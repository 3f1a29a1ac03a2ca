"""GPT-NeoX, OPT and Mixtral: published configs read, written and refused."""

import json

import pytest

from zoo.errors import InputError
from zoo.models import gpt_neox as gpt_neox_model
from zoo.models import mixtral as mixtral_model
from zoo.models import opt as opt_model
from zoo.weights import gpt_neox, mixtral, opt

PYTHIA = dict(
    architectures=["GPTNeoXForCausalLM"], bos_token_id=0, eos_token_id=0, hidden_act="gelu",
    hidden_size=512, initializer_range=0.02, intermediate_size=2048, layer_norm_eps=1e-5,
    max_position_embeddings=2048, model_type="gpt_neox", num_attention_heads=8,
    num_hidden_layers=6, rotary_emb_base=10000, rotary_pct=0.25, tie_word_embeddings=False,
    torch_dtype="float16", use_cache=True, use_parallel_residual=True, vocab_size=50304,
)  # fmt: skip
OPT = dict(
    _name_or_path="opt-125m", _remove_final_layer_norm=False, activation_dropout=0.0,
    activation_function="relu", architectures=["OPTForCausalLM"], attention_dropout=0.0,
    bos_token_id=2, do_layer_norm_before=True, dropout=0.1, eos_token_id=2, ffn_dim=3072,
    hidden_size=768, init_std=0.02, layerdrop=0.0, max_position_embeddings=2048,
    model_type="opt", num_attention_heads=12, num_hidden_layers=12, pad_token_id=1,
    prefix="</s>", torch_dtype="float16", use_cache=True, vocab_size=50272,
    word_embed_proj_dim=768,
)  # fmt: skip
MIXTRAL = dict(
    architectures=["MixtralForCausalLM"], attention_dropout=0.0, bos_token_id=1, eos_token_id=2,
    hidden_act="silu", hidden_size=4096, initializer_range=0.02, intermediate_size=14336,
    max_position_embeddings=32768, model_type="mixtral", num_attention_heads=32,
    num_experts_per_tok=2, num_hidden_layers=32, num_key_value_heads=8, num_local_experts=8,
    output_router_logits=False, rms_norm_eps=1e-5, rope_theta=1000000.0,
    router_aux_loss_coef=0.02, sliding_window=None, tie_word_embeddings=False,
    torch_dtype="bfloat16", use_cache=True, vocab_size=32000,
)  # fmt: skip
FAMILIES = {"gpt_neox": (gpt_neox, PYTHIA), "opt": (opt, OPT), "mixtral": (mixtral, MIXTRAL)}


def test_published_configs():
    assert gpt_neox.read_config(PYTHIA) == gpt_neox_model.SIZES["pythia-70m"].config
    assert opt.read_config(OPT) == opt_model.SIZES["opt-125m"].config
    assert mixtral.read_config(MIXTRAL) == mixtral_model.SIZES["Mixtral-8x7B-v0.1"].config


@pytest.mark.parametrize("name", FAMILIES)
def test_a_written_config_reads_as_it_was(name):
    family, values = FAMILIES[name]
    changes = {
        "gpt_neox": dict(rope_parameters={"rope_type": "dynamic", "factor": 2.0}, rotary_pct=0.5,
                         use_parallel_residual=False, attention_bias=False),
        "opt": dict(word_embed_proj_dim=512, do_layer_norm_before=False, enable_bias=False),
        "mixtral": dict(sliding_window=5, head_dim=6, num_local_experts=3,
                        rope_scaling={"type": "linear", "factor": 3.0}),
    }  # fmt: skip
    for more in ({}, changes[name]):
        cfg = family.read_config(values | more)
        for architecture, task in family.ARCHITECTURES.items():
            written = json.loads(json.dumps(family.write_config(cfg, task)))
            assert written["architectures"] == [architecture]
            assert family.read_config(written) == cfg


@pytest.mark.parametrize(
    "changes",
    [
        dict(rotary_pct=0.5, rotary_emb_base=500),
        dict(rope_parameters={"rope_theta": 500, "partial_rotary_factor": 0.5}),
        dict(rope_parameters={"rope_type": "default"}, rotary_pct=0.5, rotary_emb_base=500),
        dict(rotary_pct=0.5, partial_rotary_factor=0.5, rotary_emb_base=500, rope_theta=500),
    ],
)
def test_rotary_positions_in_old_and_new_words(changes):
    values = {k: v for k, v in PYTHIA.items() if not k.startswith("rotary")}
    cfg = gpt_neox.read_config(values | changes)
    assert (cfg.rotary_part, cfg.rope_base, cfg.rope_scaling) == (0.5, 500.0, "default")
    silent = gpt_neox.read_config(values)
    assert (silent.rotary_part, silent.rope_base) == (0.25, 10_000.0)


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("gpt_neox", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 beside 0.25"),
        ("gpt_neox", {"rope_theta": 3}, "rope_theta 3 beside 10000"),
        ("gpt_neox", {"rope_scaling": {"type": "longrope"}}, "rope_type 'longrope'"),
        ("gpt_neox", {"hidden_act": "mish"}, "activation 'mish' is not implemented"),
        ("gpt_neox", {"attention_bias": 1}, "attention_bias is 1; it must be of type bool"),
        ("gpt_neox", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("opt", {"layerdrop": 0.1}, "layerdrop 0.1 is not implemented"),
        ("opt", {"ffn_dim": 0}, "ffn_dim is 0, which cannot be"),
        ("opt", {"_remove_final_layer_norm": "no"}, "_remove_final_layer_norm 'no'"),
        ("opt", {"activation_function": "mish"}, "'mish' is not implemented"),
        ("mixtral", {"sliding_window": "4"}, "sliding_window is '4'"),
        ("mixtral", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ("mixtral", {"rope_parameters": {"full_attention": {}}}, "full_attention alone"),
        ("mixtral", {"num_local_experts": True}, "num_local_experts is True"),
    ],
)
def test_what_is_refused(name, changes, message):
    family, values = FAMILIES[name]
    with pytest.raises(InputError, match=message):
        family.read_config(values | changes)


def test_a_loss_that_the_model_does_not_add_is_told():
    with pytest.warns(UserWarning, match="not used: output_router_logits"):
        mixtral.read_config(MIXTRAL | {"output_router_logits": True})
