"""ViT, DeiT and DINOv2: published configs read, written and refused; positions made to fit."""

import json

import draw
import numpy as np
import pytest

import zoo
from zoo import pretrained
from zoo.errors import InputError
from zoo.models import deit as deit_model
from zoo.models import dinov2 as dinov2_model
from zoo.models import vit as vit_model
from zoo.weights import deit, dinov2, timm, vit
from zoo.weights.positions import Positions

BASE = dict(
    architectures=["ViTForImageClassification"], attention_probs_dropout_prob=0.0,
    hidden_act="gelu", hidden_dropout_prob=0.0, hidden_size=768, image_size=224,
    initializer_range=0.02, intermediate_size=3072, layer_norm_eps=1e-12, model_type="vit",
    num_attention_heads=12, num_channels=3, num_hidden_layers=12, patch_size=16, qkv_bias=True,
)  # fmt: skip
DEIT = BASE | dict(model_type="deit", architectures=["DeiTForImageClassificationWithTeacher"])
DINO = dict(
    apply_layernorm=True, architectures=["Dinov2Model"], attention_probs_dropout_prob=0.0,
    drop_path_rate=0.0, hidden_act="gelu", hidden_dropout_prob=0.0, hidden_size=384,
    image_size=518, initializer_range=0.02, layer_norm_eps=1e-6, layerscale_value=1.0, mlp_ratio=4,
    model_type="dinov2", num_attention_heads=6, num_channels=3, num_hidden_layers=12,
    out_features=["stage12"], out_indices=[12], patch_size=14, qkv_bias=True,
    reshape_hidden_states=True, stage_names=["stem", "stage1"], use_swiglu_ffn=False,
)  # fmt: skip
FAMILIES = {"vit": (vit, BASE), "deit": (deit, DEIT), "dinov2": (dinov2, DINO)}
TIMM = {"architecture": "vit_small_patch16_224", "num_classes": 7, "pretrained_cfg": {}}


def test_published_configs():
    size = vit_model.SIZES["vit_base_patch16_224"].config
    theirs = dict(epsilon=1e-12, num_classes=2, antialias=False)
    assert vit.read_config(BASE) == zoo.models.registry.replace(size, **theirs)
    size = deit_model.SIZES["deit_base_distilled_patch16_224"].config
    assert deit.read_config(DEIT) == zoo.models.registry.replace(size, **theirs)
    size = dinov2_model.SIZES["dinov2-small"].config
    assert dinov2.read_config(DINO) == zoo.models.registry.replace(size, num_classes=2)
    assert dinov2.read_config({"mlp_ratio": 2.0, "hidden_size": 12}).hidden == 24


@pytest.mark.parametrize("name", FAMILIES)
def test_silence_is_their_default(name):
    """What their library leaves out of a config.json."""
    family, values = FAMILIES[name]
    left_out = {key: values[key] for key in ("architectures", "model_type")}
    if name == "dinov2":
        left_out |= {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518}
    assert family.read_config(left_out) == family.read_config(values)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_written_config_reads_as_it_was(name):
    family, values = FAMILIES[name]
    odd = {
        "vit": dict(image_size=[32, 48], patch_size=[8, 16], intermediate_size=100),
        "deit": dict(num_channels=1, qkv_bias=False, hidden_act="gelu_new"),
        "dinov2": dict(use_swiglu_ffn=True, drop_path_rate=0.1, use_mask_token=False, mlp_ratio=2),
    }
    pooled = dict(pooler_act="relu", pooler_output_size=5) if name != "dinov2" else {}
    for architecture, task in family.ARCHITECTURES.items():
        for more in ({}, odd[name], pooled):
            cfg = family.read_config(values | more | {"architectures": [architecture]})
            written = json.loads(json.dumps(family.write_config(cfg, task)))
            assert written["architectures"] == [architecture]
            assert family.read_config(written) == cfg


@pytest.mark.parametrize("family, config", [(vit, vit_model), (deit, deit_model)])
def test_a_model_without_pooler(family, config):
    """Which their class tells by an argument alone."""
    written = family.write_config(config.Config(), "feature-extraction")
    assert written["add_pooling_layer"] is False and family.read_config(written).pooler == ""


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("vit", {"image_size": [2, 3, 4]}, "image_size is .2, 3, 4.; it must be a number of pix"),
        ("deit", {"patch_size": 0}, "patch_size is 0; it must be"),
        ("vit", {"patch_size": True}, "patch_size is True"),
        ("dinov2", {"image_size": 10**9}, "image_size is 1000000000"),
        ("vit", {"hidden_act": "mish"}, "activation 'mish' is not implemented"),
        ("vit", {"pooler_act": "mish", "architectures": ["ViTModel"]}, "pooler_act 'mish'"),
        ("vit", {"pooler_output_size": -3, "architectures": ["ViTModel"]}, "size is -3, no number"),
        ("deit", {"qkv_bias": 1}, "qkv_bias is 1; it must be of type bool"),
        ("dinov2", {"mlp_ratio": "4"}, "mlp_ratio is '4'; it must be of type float"),
        ("dinov2", {"num_hidden_layers": 0}, "num_hidden_layers is 0, which cannot be"),
    ],
)
def test_what_cannot_be_is_refused(name, changes, message):
    family, values = FAMILIES[name]
    with pytest.raises(InputError, match=message):
        family.read_config(values | changes)


def test_what_transformers_does_not_have_is_refused():
    with pytest.raises(InputError, match="classifies with global_pool 'avg', only with 'token'"):
        vit.write_config(vit_model.Config(global_pool="avg"), "image-classification")
    with pytest.raises(InputError, match="not hidden 10 with width 8"):
        dinov2.write_config(dinov2_model.Config(width=8, hidden=10), "feature-extraction")


def test_arguments_of_timm():
    def read(**arguments):
        values = TIMM | {"model_args": arguments}
        return timm.read_config(timm.families()["vit"], values)

    small = vit_model.SIZES["vit_small_patch16_224"].config
    assert read() == zoo.models.registry.replace(small, num_classes=7)
    found = read(
        mlp_ratio=2.5, embed_dim=10, img_size=[32, 48], patch_size=[8, 8], init_values=None
    )
    assert (found.width, found.hidden, found.image_size, found.patch_size) == (10, 25, (32, 48), 8)
    assert read(mlp_ratio=4, embed_dim=10).hidden == 0
    for arguments, message in (
        ({"init_values": 1e-5}, "timm's argument init_values 1e-05 is not implemented"),
        ({"class_token": False}, "class_token False is not implemented, only True"),
        ({"proj_drop_rate": 0.1}, "proj_drop_rate 0.1 is not implemented, only 0"),
        ({"fc_norm": True}, "fc_norm True is not implemented"),
        ({"mlp_ratio": 0}, "mlp_ratio is 0, no ratio"),
        ({"embed_dim": "8"}, "width is of type int, not '8'"),
    ):
        with pytest.raises(InputError, match=message):
            read(**arguments)


def test_arguments_of_timm_for_dinov2():
    family = timm.families()["dinov2"]

    def read(architecture="vit_giant_patch14_dinov2", **arguments):
        values = TIMM | {"architecture": architecture, "model_args": arguments}
        return timm.read_config(family, values)

    assert dinov2_model.gated_features(4 * read().width) == 4096
    found = read(
        embed_dim=24, num_heads=3, mlp_ratio=2.0, init_values=0.1, drop_rate=0.2, drop_path_rate=0.3
    )
    assert (found.hidden, found.layer_scale, found.head_dropout) == (36, 0.1, 0.2)
    for cfg in (found, read(), read(global_pool="avg"), read("vit_small_patch14_dinov2")):
        assert (
            timm.read_config(family, json.loads(json.dumps(timm.write_config(family, cfg)))) == cfg
        )
    for arguments, message in (
        ({"mlp_ratio": 0.5, "embed_dim": 50}, "gives 25 features in gated layers; only multiples"),
        ({"act_layer": "relu"}, "gated layers have act_layer 'silu', not 'relu'"),
        ({"reg_tokens": 4}, "reg_tokens 4 is not implemented, only 0"),
        ({"global_pool": "max"}, "no global_pool 'max'"),
    ):
        with pytest.raises(InputError, match=message):
            timm.write_config(family, read(**arguments).build().cfg)
    both = dinov2_model.Config(mask_token=False)
    with pytest.raises(InputError, match="save it for feature-extraction"):
        timm.write_config(family, both)
    with pytest.raises(InputError, match="looks at the class token beside the mean"):
        dinov2.write_config(read(), "image-classification")


@pytest.mark.parametrize("width, hidden", [(10, 25), (49, 1), (192, 500), (30, 81), (768, 3000)])
def test_the_ratio_of_timm_gives_the_same_features(width, hidden):
    cfg = vit_model.Config(width=width, num_heads=1, hidden=hidden)
    written = json.loads(json.dumps(timm.write_config(timm.families()["vit"], cfg)))
    assert timm.read_config(timm.families()["vit"], written).hidden == hidden


def test_a_fine_tuned_model_takes_other_images(tmp_path):
    """Of another size, with other channels and other classes, as fine-tuning fills its model."""
    small = dict(width=8, depth=1, num_heads=2)
    cfg = vit_model.Config(image_size=4, patch_size=2, num_classes=3, **small)
    variables = draw.variables(cfg.build(), **cfg.inputs())
    zoo.save_pretrained(tmp_path, cfg.build(), variables)
    other = vit_model.Config(image_size=(6, 2), patch_size=2, in_chans=1, num_classes=5, **small)
    fresh = draw.variables(other.build(), **other.inputs(), seed=1)
    found, left = pretrained.fill(pretrained.read_saved(tmp_path), other.build(), fresh)
    assert left == ["head/bias", "head/kernel"]
    old, new = variables["params"]["tokens"], found["params"]["tokens"]
    kernel = old["patches"]["kernel"].sum(2, keepdims=True)
    np.testing.assert_allclose(new["patches"]["kernel"], kernel, atol=1e-6)
    np.testing.assert_array_equal(new["positions"][0], old["positions"][0])
    assert new["positions"].shape == (4, 8)
    np.testing.assert_array_equal(new["class_token"], old["class_token"])


def test_positions_fit_another_grid():
    table = np.random.default_rng(0).normal(size=(1, 2 + 6, 4)).astype(np.float32)
    rule = Positions("pos", "p", "1 t d -> t d", special=2, grid=(4, 2), saved=(2, 3))
    (found,) = rule.read([table])
    assert rule.shapes([table.shape]) == [found.shape] == [(10, 4)]
    np.testing.assert_array_equal(found[:2], table[0, :2])
    (same,) = Positions("pos", "p", "1 t d -> t d", special=2, grid=(4, 2)).read([table])
    np.testing.assert_array_equal(same, table[0])
    wrong = Positions("pos", "p", "1 t d -> t d", special=2, grid=(4, 2), saved=(2, 4))
    assert wrong.shapes([table.shape]) == [(8, 4)]  # which does not fit the model, and is told
