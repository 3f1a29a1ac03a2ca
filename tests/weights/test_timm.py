"""Folders of timm: what its config says is used or refused, and what is written says the same."""

import json
import shutil

import golden_images
import golden_models
import jax
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)
from safetensors.numpy import load_file

import zoo
from zoo import pretrained
from zoo.errors import InputError
from zoo.models import registry
from zoo.weights import loading, timm

NAME = "timm/resnet18"
DEEP = ("densenet", "inception_v3")  # a second or two to trace


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder as timm writes it. Read only."""
    config, _, tensors, _ = golden_images.read(NAME)
    return golden_models.write_folder(tmp_path_factory.mktemp("saved") / "timm", config, tensors)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to change."""
    return shutil.copytree(saved, tmp_path / "timm")


def configure(folder, part=None, **fields):
    """Changes fields of config.json, or of one of its parts."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    (values[part] if part else values).update(fields)
    path.write_text(json.dumps(values))


def architectures():
    """All of timm's names that are known; of most tables the first for quick runs."""
    for family, table in timm.families().items():
        quick = 0 if family in DEEP else 1
        for number, name in enumerate(table.ARCHITECTURES):
            yield pytest.param(family, name, marks=[pytest.mark.full] * (number >= quick), id=name)


@pytest.mark.parametrize("family, architecture", list(architectures()))
def test_every_table_fills_every_parameter(family, architecture):
    table = timm.families()[family]
    cfg = table.ARCHITECTURES[architecture]
    assert registry.family(cfg) == family
    values = timm.write_config(table, cfg)
    assert table.ARCHITECTURES[values["architecture"]] == cfg  # some have two names
    assert timm.read_config(table, json.loads(json.dumps(values))) == cfg
    model = cfg.build()
    shapes = jax.eval_shape(lambda: registry.init(model, jax.random.key(0)))
    rules = loading.rules_of(table, cfg, model.task)
    ours = [path for rule in rules for path in loading.names(rule.ours)]
    assert sorted(ours) == sorted(loading.flatten(shapes))
    theirs = [path for rule in rules for path in loading.names(rule.theirs)]
    assert len(theirs) == len(set(theirs))


@pytest.mark.parametrize(
    "part, fields, told",
    [
        (None, {"architecture": "resnet50d"}, "'resnet50d' is not here; nearest: resnet50"),
        (None, {"architecture": ["resnet50"]}, "is not here"),
        (None, {"model_args": [1]}, "must be objects"),
        (None, {"pretrained_cfg": 3}, "must be objects"),
        ("model_args", {"stem_type": "deep"}, "stem_type 'deep' is not implemented, only ''"),
        ("model_args", {"avg_down": True}, "avg_down True"),
        ("model_args", {"output_stride": 8}, "output_stride 8 is not implemented, only 32"),
        ("model_args", {"aa_layer": "blurpool"}, "aa_layer 'blurpool' is not implemented"),
        ("model_args", {"drop_block_rate": 0.1}, "drop_block_rate 0.1"),
        ("model_args", {"act_layer": "mish"}, "mish"),
        ("model_args", {"norm_layer": "groupnorm"}, "norm_layer"),
        ("model_args", {"layers": 3}, "depths is of type"),
        ("model_args", {"layers": [1, 1, 1, 10**9]}, "which cannot be"),
        ("model_args", {"layers": [1, 1, 1]}, "differ in length"),
        ("model_args", {"layers": [1, 2, 1, 1]}, "10 missing: layer2.1.conv1.weight"),
        ("model_args", {"channels": "wide"}, "widths"),
        ("model_args", {"num_classes": True}, "num_classes"),
        ("model_args", {"in_chans": 2}, "stem/conv/kernel"),
        ("pretrained_cfg", {"label_offset": 1}, "label_offset 1"),
        ("pretrained_cfg", {"custom_load": "hf"}, "custom_load 'hf'"),
        ("pretrained_cfg", {"input_size": [3, -1, 4]}, "input_size"),
    ],
)
def test_arguments_are_never_ignored(folder, part, fields, told):
    configure(folder, part, **fields)
    with pytest.raises(InputError) as error:
        zoo.from_pretrained(folder)
    assert told in str(error.value)


def test_arguments_that_change_no_number(folder):
    configure(folder, "model_args", zero_init_last=False, stem_width=32, drop_path_rate=0.0,
              aa_layer=None, avg_down=False, drop_rate=0.25)  # fmt: skip
    assert pretrained.read_saved(folder).cfg.dropout == 0.25


def test_a_folder_of_the_days_before_model_args(saved, folder):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    old = {"architecture": "resnet18", "num_features": 6} | values["pretrained_cfg"]
    path.write_text(json.dumps(old))
    cfg = pretrained.read_saved(folder).cfg
    assert (cfg.num_classes, cfg.in_chans, cfg.depths) == (3, 1, (2, 2, 2, 2))


def test_names_of_classes(folder, tmp_path):
    configure(folder, label_names=["cat", "dog", "eel"])
    model, variables = zoo.from_pretrained(folder)
    assert model.cfg.labels == ("cat", "dog", "eel")
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    assert zoo.from_pretrained(tmp_path / "ours")[0].cfg == model.cfg
    configure(folder, label_names={"0": "cat", "2": "eel"})
    assert pretrained.read_saved(folder).cfg.labels == ()


def test_other_heads(saved, tmp_path):
    model, variables = zoo.from_pretrained(saved, task="feature-pyramid")
    assert "head" not in variables["params"]
    zoo.save_pretrained(tmp_path, model, variables, format="timm")
    assert pretrained.read_saved(tmp_path).task == "feature-extraction"
    with pytest.raises(InputError, match="transformers has no resnet for feature-pyramid"):
        zoo.save_pretrained(tmp_path, model, variables)


def test_a_model_and_its_processor_in_one_folder(saved, tmp_path):
    """Whichever is saved first."""
    model, variables = zoo.from_pretrained(saved)
    processor = zoo.load_processor(saved, mean=[0.4], std=[0.2], crop_pct=1.0)
    steps = [
        lambda folder: zoo.save_pretrained(folder, model, variables, format="timm"),
        lambda folder: processor.save(folder),
    ]
    for name, order in (("model first", steps), ("processor first", steps[::-1])):
        for save in order:
            save(tmp_path / name)
        again = zoo.load_processor(tmp_path / name)
        for key in timm.PICTURES:
            assert again.settings[key] == processor.settings[key]
        assert pretrained.read_saved(tmp_path / name).cfg == model.cfg
        source = json.loads((tmp_path / name / "config.json").read_text())["pretrained_cfg"]
        assert (source["first_conv"], source["classifier"]) == ("conv1", "fc")


def test_a_pyramid_that_lacks_what_timm_needs_is_not_written(tmp_path):
    config, _, tensors, _ = golden_images.read("timm/resmlp_12_224 features")
    golden_models.write_folder(tmp_path, config, tensors)
    with golden_images.smaller():
        model, variables = zoo.from_pretrained(tmp_path, task="feature-pyramid")
        assert "affine" not in variables["params"]
        with pytest.raises(InputError, match="no resmlp without norm.alpha, norm.beta; .*pyramid"):
            zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")


def test_images_of_other_channels(saved):
    weight = load_file(saved / "model.safetensors")["conv1.weight"].transpose(2, 3, 1, 0)
    _, three = zoo.from_pretrained(saved, in_chans=3)
    kernel = three["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_allclose(kernel, np.repeat(weight, 3, 2) / 3, rtol=1e-6)


def test_a_first_state_takes_the_statistics_too(saved):
    """As a run does that starts from a folder."""
    source = pretrained.read_saved(saved)
    model = source.config(num_classes=4, labels=()).build()
    before = jax.jit(lambda: registry.init(model, jax.random.key(1)))()
    after, fresh = pretrained.fill(source, model, before)
    assert fresh == ["head/bias", "head/kernel"]
    assert jax.tree.structure(after) == jax.tree.structure(before)
    theirs = load_file(saved / "model.safetensors")
    np.testing.assert_array_equal(
        after["batch_stats"]["stem"]["norm"]["var"], theirs["bn1.running_var"]
    )


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"folded": True}, "folded True"),
        ({"stem_width": 32}, "stem_width 32"),
        ({"stride_in_1x1": True}, "stride_in_1x1 True"),
        ({"widths": (64, 128), "depths": (1, 1)}, "widths"),
        ({"widths": (64, 128, 256, 514)}, "widths"),
    ],
)
def test_what_timm_has_not_is_not_written(changes, told):
    cfg = registry.replace(registry.find("resnet50").config, **changes)
    with pytest.raises(InputError, match="timm has no resnet with") as error:
        timm.write_config(timm.families()["resnet"], cfg)
    assert told in str(error.value)


def test_a_model_without_a_table(tmp_path):
    model = zoo.create_model("lenet5")
    with pytest.raises(InputError, match="cnn has no format of timm; .*resnet"):
        zoo.save_pretrained(tmp_path, model, {"params": {}}, format="timm")
    with pytest.raises(InputError, match="no format 'keras'; there are: transformers, timm"):
        zoo.save_pretrained(tmp_path, model, {"params": {}}, format="keras")
