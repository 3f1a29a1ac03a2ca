"""MLP-Mixer, gMLP and ResMLP in timm's format: arguments used or refused, sizes it has not."""

import json

import golden_images
import golden_models
import pytest

import zoo
from zoo import pretrained
from zoo.errors import InputError
from zoo.models import gmlp, mlp_mixer, registry, resmlp
from zoo.weights import timm


@pytest.fixture
def changed(tmp_path):
    """A function that gives a frozen model's folder with other arguments."""

    def change(name, **arguments):
        config, _, tensors, _ = golden_images.read(f"timm/{name}")
        config["model_args"] |= arguments
        return golden_models.write_folder(tmp_path / "timm", config, tensors)

    with golden_images.smaller():
        yield change


@pytest.mark.parametrize(
    "name, arguments, told",
    [
        ("mixer_s16_224", {"stem_norm": True}, "stem_norm True is not implemented, only False"),
        ("mixer_s16_224", {"embed_dim": 12}, "embed_dim 12 is not implemented"),
        ("mixer_s16_224", {"mlp_ratio": 0.01}, "mlp_ratio is 0.01, no ratio"),
        ("mixer_s16_224", {"mlp_ratio": "wide"}, "mlp_ratio is 'wide', no ratio"),
        ("mixer_s16_224", {"mlp_ratio": [1, 2, 3]}, "no two ratios"),
        ("mixer_s16_224", {"act_layer": "relu"}, "act_layer 'relu' is not implemented"),
        ("mixer_s16_224", {"img_size": 38}, "blocks.0.mlp_tokens.fc1.weight"),
        ("gmlp_s16_224 every patch", {"global_pool": "token"}, "no global_pool 'token'"),
        ("gmlp_s16_224 every patch", {"mlp_ratio": 4}, "mlp_ratio 4 is not implemented"),
        ("resmlp_12_224 features", {"num_blocks": 1}, "num_blocks 1 is not implemented"),
    ],
)
def test_what_is_refused(changed, name, arguments, told):
    with pytest.raises(InputError) as error:
        zoo.from_pretrained(changed(name, **arguments))
    assert told in str(error.value)


def test_what_is_read(changed):
    rates = {"drop_rate": 0.1, "proj_drop_rate": 0.2, "drop_path_rate": 0.3, "nlhb": True}
    cfg = pretrained.read_saved(changed("mixer_s16_224", **rates)).cfg
    assert (cfg.head_dropout, cfg.dropout, cfg.drop_path) == (0.1, 0.2, 0.3)
    assert (cfg.image_size, cfg.hidden) == ((19, 26), (9, 14))
    cfg = pretrained.read_saved(changed("mixer_s16_224", mlp_ratio=4)).cfg
    assert cfg.hidden == (24, 0)


@pytest.mark.parametrize(
    "cfg, told",
    [
        (mlp_mixer.Config(width=20), "timm has no mlp_mixer with width 20"),
        (gmlp.Config(hidden=6), "timm has no gmlp with hidden 6"),
        (resmlp.Config(depth=5, layer_scale=0.1), "timm has no resmlp with depth 5"),
    ],
)
def test_sizes_that_timm_has_not_are_not_written(cfg, told):
    with pytest.raises(InputError, match=told):
        timm.write_config(timm.families()[registry.family(cfg)], cfg)


def test_factors_are_read_and_not_started():
    cfg = resmlp.Config(depth=24, layer_scale=0.5, dropout=0.1)
    values = json.loads(json.dumps(timm.write_config(timm.families()["resmlp"], cfg)))
    assert values["architecture"] == "resmlp_24_224"
    assert values["model_args"] == {"proj_drop_rate": 0.1, "num_classes": 1000, "in_chans": 3}
