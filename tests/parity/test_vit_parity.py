"""Vision Transformer beside transformers: outputs, bytes, gradients and steps of AdamW."""

import encoders
import pytest
import vision

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

VIT = encoders.Encoder(
    values=dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        image_size=12, patch_size=4,
    ),
    configs={
        "plain": {},
        "odd": dict(
            hidden_act="gelu_new", layer_norm_eps=1e-3, num_channels=1, hidden_size=18,
            num_attention_heads=1, intermediate_size=7, num_hidden_layers=1, qkv_bias=False,
            image_size=15, pooler_output_size=5, pooler_act="relu",
        ),
        "deep": dict(num_hidden_layers=5, hidden_act="relu", num_channels=4, image_size=4),
        "oblong": dict(image_size=[8, 20], patch_size=[4, 2], layer_norm_eps=0.5),
        "large": dict(image_size=64, patch_size=32, hidden_act="silu", num_attention_heads=6),
    },
    heads={"ViTModel": {}, "ViTForImageClassification": {"num_labels": 5}},
)  # fmt: skip
SIZES = {"plain": ((20, 8), (12, 28), (13, 15)), "odd": ((8, 8), (24, 16)), "deep": ((9, 12),)}
"""Of pictures whose positions are resized; patches that are not square they cannot resize."""


@pytest.mark.parametrize("config", encoders.quick(VIT.configs))
@pytest.mark.parametrize("head", VIT.heads)
def test_outputs_and_bytes(tmp_path, head, config):
    sizes = SIZES.get(config, ())
    vision.compare_outputs_and_bytes(
        tmp_path, VIT, head, config, sizes, interpolate_pos_encoding=True
    )


@pytest.mark.parametrize("config", encoders.quick(VIT.configs))
def test_float64(tmp_path, config):
    vision.compare_float64(tmp_path, VIT, "ViTModel", config)


def test_gradients_and_three_steps(tmp_path):
    vision.compare_training(tmp_path, VIT, "ViTForImageClassification", "odd")
