"""DINOv2 beside transformers: outputs, bytes, gradients and steps of AdamW."""

import encoders
import jax
import numpy as np
import pytest
import torch
import vision

import zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

DINOV2 = encoders.Encoder(
    values=dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2, image_size=12,
        patch_size=4,
    ),
    configs={
        "plain": {},
        "gated": dict(
            use_swiglu_ffn=True, layer_norm_eps=1e-3, num_channels=1, hidden_size=18,
            num_attention_heads=1, mlp_ratio=3, num_hidden_layers=1, qkv_bias=False,
            image_size=15, layerscale_value=1e-2,
        ),
        "deep": dict(
            num_hidden_layers=5, hidden_act="relu", num_channels=4, image_size=4, mlp_ratio=1,
            use_mask_token=False,
        ),
        "oblong": dict(image_size=8, patch_size=[4, 2], layer_norm_eps=0.5),
        "wide": dict(use_swiglu_ffn=True, mlp_ratio=4, hidden_size=20, num_attention_heads=5),
    },
    heads={"Dinov2Model": {}, "Dinov2ForImageClassification": {"num_labels": 5}},
)  # fmt: skip
SIZES = {
    "plain": ((20, 8), (12, 28), (13, 15)), "gated": ((8, 8), (24, 16)), "deep": ((9, 12),),
    "wide": ((40, 44),),
}  # fmt: skip
"""Of pictures whose positions are resized."""


@pytest.mark.parametrize("config", encoders.quick(DINOV2.configs))
@pytest.mark.parametrize("head", DINOV2.heads)
def test_outputs_and_bytes(tmp_path, head, config):
    vision.compare_outputs_and_bytes(tmp_path, DINOV2, head, config, SIZES.get(config, ()))


@pytest.mark.parametrize("config", encoders.quick(DINOV2.configs))
def test_float64(tmp_path, config):
    vision.compare_float64(tmp_path, DINOV2, "Dinov2ForImageClassification", config)


def test_hidden_patches(tmp_path):
    theirs = encoders.reference(DINOV2, "Dinov2Model", "plain")
    theirs.save_pretrained(tmp_path)
    model, variables = zoo.from_pretrained(tmp_path)
    image = vision.pictures(theirs.config)
    hidden = np.random.default_rng(3).random((len(image), 9)) < 0.4
    found = jax.jit(model.apply)(variables, image, hidden)
    wanted = vision.run(theirs, image, bool_masked_pos=torch.tensor(hidden))
    vision.near(wanted, [found.last_hidden_state, found.pooler_output])


def test_gradients_and_three_steps(tmp_path):
    vision.compare_training(tmp_path, DINOV2, "Dinov2ForImageClassification", "gated")
