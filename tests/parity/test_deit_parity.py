"""DeiT beside transformers: outputs, bytes, gradients and steps of AdamW."""

import encoders
import numpy as np
import pytest
import vision

import zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

DEIT = encoders.Encoder(
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
    },
    heads={
        "DeiTForImageClassificationWithTeacher": {"num_labels": 5}, "DeiTModel": {},
        "DeiTForImageClassification": {"num_labels": 3},
    },
)  # fmt: skip
SIZES = {"plain": ((20, 8), (13, 15)), "odd": ((24, 16),), "deep": ((9, 12),)}
"""Of pictures whose positions are resized; patches that are not square they cannot resize."""


@pytest.mark.parametrize("config", encoders.quick(DEIT.configs, 1))
@pytest.mark.parametrize("head", DEIT.heads)
def test_outputs_and_bytes(tmp_path, head, config):
    changes = {"averaged": False} if "Teacher" in head else {}
    vision.compare_outputs_and_bytes(
        tmp_path, DEIT, head, config, SIZES.get(config, ()), changes, interpolate_pos_encoding=True
    )


@pytest.mark.parametrize("config", encoders.quick(DEIT.configs, 1))
def test_float64(tmp_path, config):
    vision.compare_float64(tmp_path, DEIT, "DeiTModel", config)


def test_both_heads_are_averaged(tmp_path):
    theirs = encoders.reference(DEIT, "DeiTForImageClassificationWithTeacher", "plain")
    theirs.save_pretrained(tmp_path)
    model, variables = zoo.from_pretrained(tmp_path)
    image = vision.pictures(theirs.config)
    (found,) = vision.ours(model, variables, image)
    mean, first, second = vision.run(theirs, image)
    vision.near([mean], [found])
    np.testing.assert_allclose(mean, (first + second) / 2, rtol=1e-6)


def test_gradients_and_three_steps(tmp_path):
    vision.compare_training(tmp_path, DEIT, "DeiTForImageClassificationWithTeacher", "odd")
