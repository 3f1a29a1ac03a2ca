"""Inception-v3: maps and their sizes, the second classifier, what folding gives."""

import dataclasses

import jax
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
from zoo.errors import InputError
from zoo.models import inception_v3
from zoo.nn.conv_norm import fold
from zoo.parallel.mesh import MeshShape, make_mesh, state_shardings

KEY = jax.random.key(0)
TINY = inception_v3.Config((32,), (64,), 1, divisor=16, num_classes=3, image_size=75)


def image(height=75, width=75):
    return np.random.default_rng(1).normal(size=(2, height, width, 3)).astype(np.float32)


def test_a_pyramid_has_two_maps_of_the_stem_and_one_of_every_stage():
    maps = jax.eval_shape(
        lambda x: TINY.build("feature-pyramid").init_with_output(KEY, x)[0], image(75, 299)
    )
    assert [x.shape for x in maps] == [
        (2, 35, 147, 4), (2, 15, 71, 12), (2, 7, 35, 16), (2, 3, 17, 48), (2, 1, 8, 128),
    ]  # fmt: skip


def test_a_second_classifier():
    cfg = dataclasses.replace(TINY, aux_logits=True, image_size=299)
    found, variables = jax.eval_shape(
        lambda x: cfg.build().init_with_output(KEY, x), image(299, 299)
    )
    assert found.logits.shape == found.aux_logits.shape == (2, 3)
    assert set(variables["params"]["aux"]) == {"conv1", "conv2", "head"}
    mesh = make_mesh(MeshShape(tensor=2), jax.devices()[:2])
    shardings = state_shardings(variables, mesh, inception_v3.TENSOR_PARALLEL)["params"]
    assert shardings["stage1_block0"]["five2"]["conv"]["kernel"].spec[2] == "tensor"
    with pytest.raises(InputError, match="298x298 .* with aux_logits: the smallest are 299x299"):
        dataclasses.replace(cfg, image_size=298).build()
    assert dataclasses.replace(cfg, num_classes=0, image_size=75).build().cfg.aux_logits


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"pool_widths": ()}, "every stage needs a block"),
        ({"inner_widths": (0,)}, "at least 1"),
        ({"divisor": 0}, "at least 1"),
        ({"num_classes": -1}, "num_classes must be at least 0"),
        ({"global_pool": "median"}, "'median'"),
        ({"global_pool": ""}, "needs num_classes and global_pool"),
        ({"image_size": 74}, "74x74 are too small for this network: the smallest are 75x75"),
    ],
)
def test_what_cannot_be_built(changes, told):
    with pytest.raises(InputError, match=told):
        dataclasses.replace(TINY, **changes).build()


@pytest.mark.slow
def test_folded_norms_give_the_same_outputs():
    model = TINY.build()
    variables = zoo.init(model, KEY)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: x + rng.uniform(0.1, 0.5, x.shape).astype(x.dtype), variables
    )
    other = dataclasses.replace(TINY, folded=True).build()
    wanted = jax.jit(model.apply)(variables, image())
    found = jax.jit(other.apply)(fold(variables, TINY.epsilon), image())
    assert np.abs(found - wanted).max() <= 2e-5 * np.std(wanted)
