"""CLIP: published configs read, written and refused; towers and heads taken from a whole model."""

import json

import draw
import jax
import numpy as np
import pytest

import zoo
from zoo.errors import InputError
from zoo.models import clip as models
from zoo.models.registry import replace
from zoo.weights import clip

GENERATION = dict(
    add_cross_attention=False, bad_words_ids=None, do_sample=False, length_penalty=1.0,
    max_length=20, num_beam_groups=1, num_beams=1, num_return_sequences=1, pruned_heads={},
    repetition_penalty=1.0, temperature=1.0, top_k=50, top_p=1.0, typical_p=1.0, dropout=0.0,
)  # fmt: skip
BASE = dict(
    architectures=["CLIPModel"], initializer_factor=1.0, logit_scale_init_value=2.6592,
    model_type="clip", projection_dim=512, torch_dtype="float32",
    text_config=GENERATION | dict(
        bos_token_id=0, eos_token_id=2, pad_token_id=1, hidden_act="quick_gelu", hidden_size=512,
        intermediate_size=2048, layer_norm_eps=1e-05, max_position_embeddings=77,
        num_attention_heads=8, num_hidden_layers=12, projection_dim=512, vocab_size=49408,
        attention_dropout=0.0, model_type="clip_text_model",
    ),
    vision_config=GENERATION | dict(
        hidden_act="quick_gelu", hidden_size=768, image_size=224, intermediate_size=3072,
        layer_norm_eps=1e-05, num_attention_heads=12, num_channels=3, num_hidden_layers=12,
        patch_size=32, projection_dim=512, model_type="clip_vision_model",
    ),
    text_config_dict=None, vision_config_dict=None,
)  # fmt: skip
TINY = models.Config(
    image_size=8, patch_size=4, vision_width=8, vision_depth=1, vision_num_heads=2,
    vision_hidden=12, vocab_size=20, max_length=9, text_width=6, text_depth=1, text_num_heads=2,
    text_hidden=10, projection_width=5, num_classes=3,
)  # fmt: skip


def test_published_configs():
    base = models.SIZES["clip-vit-base-patch32"].config
    assert clip.read_config(BASE) == replace(base, num_classes=2)
    silent = {"model_type": "clip", "architectures": ["CLIPModel"]}
    assert clip.read_config(silent) == replace(base, num_classes=2, eos_token_id=49_407)
    large = BASE | {
        "projection_dim": 768,
        "text_config_dict": {
            "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
            "num_hidden_layers": 12, "projection_dim": 768,
        },
        "vision_config_dict": {
            "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
            "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
        },
    }  # fmt: skip
    size = models.SIZES["clip-vit-large-patch14"].config
    # What a ..._dict leaves out is their default, whatever stands in the other place.
    assert clip.read_config(large) == replace(size, num_classes=2, eos_token_id=49_407)


def test_a_written_config_reads_as_it_was():
    odd = replace(
        TINY, num_classes=2, image_size=12, patch_size=(2, 3), eos_token_id=7, text_epsilon=0.1,
        vision_activation="gelu_tanh", text_attention_dropout=0.1, logit_scale=1.0,
    )  # fmt: skip
    for cfg in (replace(TINY, num_classes=2), odd):
        for architecture, task in clip.ARCHITECTURES.items():
            written = json.loads(json.dumps(clip.write_config(cfg, task)))
            assert written["architectures"] == [architecture]
            again = clip.read_config(written)
            assert clip.write_config(again, task) == clip.write_config(cfg, task)
            assert ("Text" in architecture or "Vision" in architecture) or again == cfg


@pytest.mark.parametrize(
    "part, changes, message",
    [
        ("text_config", {"eos_token_id": [1, 2]}, r"eos_token_id is \[1, 2\]; it must be one tok"),
        ("text_config", {"eos_token_id": None}, "eos_token_id is None"),
        ("text_config", {"hidden_act": "mish"}, "activation 'mish' is not implemented"),
        ("vision_config", {"hidden_act": "mish"}, "activation 'mish' is not implemented"),
        ("vision_config", {"image_size": "224"}, "image_size is '224'; it must be a number of"),
        ("vision_config", {"num_hidden_layers": 0}, "num_hidden_layers is 0, which cannot be"),
        ("text_config", {"attention_dropout": "none"}, "must be of type float"),
        ("", {"vision_config": [1]}, r"vision_config is \[1\]; it must be an object"),
        ("", {"projection_dim": None}, "projection_dim is None; it must be of type int"),
    ],
)
def test_what_cannot_be_is_refused(part, changes, message):
    values = BASE | ({part: BASE[part] | changes} if part else changes)
    with pytest.raises(InputError, match=message):
        clip.read_config(values)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of both towers, and its variables."""
    folder, model = tmp_path_factory.mktemp("clip"), TINY.build()
    shapes = TINY.inputs()
    variables = draw.variables(model, **shapes)
    zoo.save_pretrained(folder, model, variables)
    return folder, variables


@pytest.mark.parametrize("task", models.TASKS[1:5])
def test_a_tower_alone(saved, tmp_path, task):
    """Taken from the folder of both, saved, and opened again; the other tower is not there."""
    folder, variables = saved
    model, found = zoo.from_pretrained(folder, task=task)
    for leaf, whole in (("vision", "image"), ("text", "text")):
        assert (leaf in found["params"]) == task.startswith(whole)
    zoo.save_pretrained(tmp_path, model, found)
    again, reread = zoo.from_pretrained(tmp_path)
    assert again.task == task
    jax.tree.map(np.testing.assert_array_equal, found, reread)
    other = "text-encoder" if task.startswith("image") else "image-encoder"
    with pytest.raises(InputError, match=r"\d+ missing: (text|vision)_model"):
        zoo.from_pretrained(tmp_path, task=other)
    if "encoder" in task:
        projected = task.replace("encoder", "feature-extraction")
        with pytest.warns(UserWarning, match="has no .*_projection/kernel; initialised"):
            zoo.from_pretrained(tmp_path, task=projected)


def test_a_classifier_on_a_folder_of_both(saved, tmp_path):
    folder, variables = saved
    with pytest.warns(UserWarning, match="has no head/bias, head/kernel; initialised, to be tr"):
        model, found = zoo.from_pretrained(
            folder, task="image-classification", num_classes=4, image_size=(12, 8)
        )
    assert found["params"]["head"]["kernel"].shape == (8, 4)
    assert found["params"]["vision"]["tokens"]["positions"].shape == (1 + 3 * 2, 8)
    assert "norm" not in found["params"]["vision"]
    zoo.save_pretrained(tmp_path, model, found)
    again, reread = zoo.from_pretrained(tmp_path)
    assert again.cfg.num_classes == 4 and again.task == "image-classification"
    jax.tree.map(np.testing.assert_array_equal, found, reread)
