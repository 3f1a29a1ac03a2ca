"""Models by name: finding, changing and initialising them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.errors import InputError
from zoo.models import registry


def test_names_are_sorted_and_filtered():
    names = zoo.list_models()
    assert names == sorted(names) and "lenet5" in names and "mlp-8-10-5-1" in names
    assert zoo.list_models("vgg16*") == ["vgg16", "vgg16_bn"]
    assert "lenet5" not in zoo.list_models(task="tabular-classification")
    assert zoo.list_models("lenet*", task="image-classification") == ["lenet5"]


def test_create_model_replaces_fields_and_dtypes():
    model = zoo.create_model("lenet5", num_classes=3, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    assert (model.cfg.num_classes, model.dtype) == (3, jnp.bfloat16)
    shapes = jax.eval_shape(lambda key: zoo.init(model, key), jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("lenet", {}, "unknown model 'lenet'; nearest: .*lenet5"),
        ("lenet5", {"num_class": 3}, "cnn has no field 'num_class'; nearest: .*num_classes"),
        ("lenet5", {"num_classes": "3"}, "cnn's num_classes is of type int, not '3'"),
        ("lenet5", {"num_classes": True}, "cnn's num_classes is of type int, not True"),
        ("lenet5", {"num_classes": 3.0}, "cnn's num_classes is of type int, not 3.0"),
        ("mlp-8-10-5-1", {"widths": [3]}, r"mlp's widths is of type tuple\[int, ...\], not \[3\]"),
        ("mlp-8-10-5-1", {"widths": (3, 1.5)}, "mlp's widths"),
        ("mlp-8-10-5-1", {"activation": "rellu"}, "nearest: .*relu"),
        ("mlp-8-10-5-1", {"widths": (0,)}, "at least 1"),
        ("lenet5", {"task": "fill-mask"}, "this model has: image-classification"),
    ],
)
def test_mistakes_name_what_is_near(name, changes, message):
    with pytest.raises(InputError, match=message):
        zoo.create_model(name, **changes)


def test_an_int_is_accepted_where_a_float_belongs():
    assert zoo.create_model("mlp-8-10-5-1", dropout=0).cfg.dropout == 0


def test_family_and_class_of_a_config():
    config = registry.find("lenet5").config
    assert registry.family(config) == "cnn"
    assert registry.config_class("cnn") is type(config)
    assert registry.module_of(config).SIZES["lenet5"].config == config
    with pytest.raises(InputError, match="unknown architecture 'cn'; nearest: .*cnn"):
        registry.config_class("cn")


def test_init_depends_on_the_key_alone_and_inputs_override_the_example():
    model = zoo.create_model("mlp-8-10-5-1")
    one, same, other = (zoo.init(model, jax.random.key(i)) for i in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    kernels = (tree["params"]["dense1"]["kernel"] for tree in (one, other))
    assert not np.array_equal(*kernels)
    wider = jax.eval_shape(lambda key: zoo.init(model, key, jnp.ones((1, 20))), jax.random.key(0))
    assert wider["params"]["dense1"]["kernel"].shape == (20, 10)


@pytest.mark.parametrize("field, traced", [(2, 1), (np.arange(2), 2)])
def test_a_model_that_can_be_told_from_others_is_compiled_once(field, traced):
    calls = []

    class Own(nn.Module):
        field: Any

        @nn.compact
        def __call__(self, x):
            calls.append(x.shape)
            return nn.Dense(2, name="dense")(x)

    for seed in range(2):
        variables = registry.init(Own(field), jax.random.key(seed), np.ones((1, 3), np.float32))
        assert variables["params"]["dense"]["kernel"].shape == (3, 2)
    assert calls == [(1, 3)] * traced


def test_unknown_verb_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'create'"):
        _ = zoo.create
    assert set(zoo.__all__) <= set(dir(zoo))
