"""Summaries against closed forms."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import zoo
from zoo.errors import InputError


def test_a_small_network_by_hand():
    summary = zoo.summary("mlp-8-10-5-1", batch=4)
    assert (summary.parameters, summary.parameter_bytes) == (151, 604)
    assert summary.flops == 4 * 2 * (8 * 10 + 10 * 5 + 5)
    modules = {module.path: module for module in summary.modules}
    assert modules[""].parameters == 151 and modules[""].flops == summary.flops
    assert modules["dense1"].kind == "Dense" and modules["dense1"].parameters == 90
    assert modules["dense2"].flops == 4 * 2 * 50
    assert modules["head"].output == "float32[4,1]"


def test_vgg16_has_its_published_size_and_multiply_adds():
    summary = zoo.summary("vgg16")
    assert summary.parameters == 138_357_544
    assert summary.flops == 2 * 15_470_264_320  # 15.47 G multiply-adds: torchvision's 15.47
    assert summary.activation_bytes > 4 * 2 * 64 * 224 * 224


def test_activation_bytes_grow_with_the_batch_and_leave_parameters_out():
    one, four = (zoo.summary("lenet5", batch=batch).activation_bytes for batch in (1, 4))
    assert four == pytest.approx(4 * one, rel=0.01)


def test_the_table_names_modules_and_totals():
    text = str(zoo.summary("lenet5"))
    assert "lenet5: image float32[1,28,28,1]" in text
    assert "conv2" in text and "2,416" in text and "61,706 (241 KiB)" in text
    assert max(map(len, text.splitlines())) <= 100


def test_modules_inside_modules_loops_and_repeated_methods_count_fully():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.Dense(3, name="inner")(x), None

    class Config:
        def inputs(self, batch):
            return {"x": jax.ShapeDtypeStruct((batch, 3), jnp.float32)}

    class Net(nn.Module):
        cfg: Config

        @nn.compact
        def __call__(self, x, train=False):
            blocks = nn.scan(
                Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=5
            )
            x, _ = blocks(name="blocks")(x, None)
            table = nn.Embed(7, 3, name="table")
            return table.attend(x)

    summary = zoo.summary(Net(Config()))
    modules = {module.path: module for module in summary.modules}
    assert modules["blocks"].flops == modules["blocks/inner"].flops == 5 * 2 * 9
    assert modules["blocks/inner"].parameters == 5 * 12
    assert modules["table"].flops == 2 * 21
    assert summary.flops == 90 + 42


def test_statistics_are_counted_apart():
    summary = zoo.summary("cnn-8x8-digits")
    assert (summary.parameters, summary.statistics) == (230_266, 2 * (48 + 48 + 96 * 3))
    norm = next(module for module in summary.modules if module.path == "norm1")
    assert (norm.parameters, norm.statistics, norm.bytes) == (96, 96, 4 * 192)
    assert norm.output_bytes == 4 * 8 * 8 * 48
    text = str(summary)
    assert "statistics        768" in text and max(map(len, text.splitlines())) <= 100


def test_any_input_size_and_any_depth():
    half = zoo.summary("vgg16", shapes={"image": (1, 112, 224, 3)})
    assert half.inputs == "image float32[1,112,224,3]"
    whole = {m.path: m for m in zoo.summary("vgg16").modules}
    for module in half.modules:
        if module.path.startswith("conv"):
            assert 2 * module.flops == whole[module.path].flops
    model = zoo.create_model("transformer-base", depth=1)
    summary = zoo.summary(model, shapes={"input_ids": (2, 5)})  # one for all that are alike
    assert "decoder_input_ids int32[2,5]" in summary.inputs
    paths = [module.path for module in summary.modules]
    assert "encoder0/attention/query" in paths
    assert {m.path for m in summary.down_to(1).modules} == {p for p in paths if "/" not in p}
    assert [m.path for m in summary.down_to(0).modules] == [""]
    assert summary.down_to(None) is summary and summary.down_to(1).flops == summary.flops
    for wrong, message in (({"pixels": (1, 2)}, "no input pixels; it has: image"),):
        with pytest.raises(InputError, match=message):
            zoo.summary("vgg16", shapes=wrong)


def test_a_summary_is_plain_data():
    summary = zoo.summary("lenet5")
    value = json.loads(json.dumps(dataclasses.asdict(summary)))
    assert value["parameters"] == 61_706
    assert [m["path"] for m in value["modules"]][:2] == ["", "conv1"]


def test_unknown_model_is_one_error():
    with pytest.raises(InputError, match="nearest: .*lenet5"):
        zoo.summary("lenet-5")
