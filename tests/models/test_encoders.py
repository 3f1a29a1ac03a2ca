"""What BERT and its kin promise beside what holds for every model."""

import functools

import draw
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models import albert, bert, distilbert, electra, roberta

SMALL = dict(vocab_size=11, width=8, depth=2, num_heads=2, hidden=12, max_length=9)
CONFIGS = {
    "bert": bert.Config(**SMALL),
    "roberta": roberta.Config(**SMALL),
    "distilbert": distilbert.Config(**SMALL),
    "electra": electra.Config(**SMALL, embedding=6),
    "albert": albert.Config(**SMALL, embedding=6, groups=2),
}
IDS = np.random.default_rng(0).integers(2, 11, (3, 7))


@functools.cache
def made(name, task="token-classification"):
    model = CONFIGS[name].build(task)
    return model, draw.variables(model, **CONFIGS[name].inputs())


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_nothing(name):
    model, variables = made(name)
    apply = jax.jit(model.apply)
    alone = apply(variables, IDS)
    mask = np.pad(np.ones_like(IDS), ((0, 0), (0, 2)))
    padded = apply(variables, np.pad(IDS, ((0, 0), (0, 2)), constant_values=1), mask)
    np.testing.assert_allclose(padded[:, :7], alone, atol=1e-5)
    mask[1] = 0  # a row of padding alone
    found = apply(variables, np.pad(IDS, ((0, 0), (0, 2)), constant_values=1), mask)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[::2], padded[::2])


@pytest.mark.parametrize("name", CONFIGS)
def test_choices_are_rows(name):
    model, variables = made(name, "multiple-choice")
    questions = np.stack([IDS, IDS[::-1]])
    found = model.apply(variables, questions)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[0], model.apply(variables, IDS), atol=1e-6)
    np.testing.assert_allclose(found[1], found[0, ::-1], atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_cannot_be_is_refused(name):
    model, variables = made(name)
    with pytest.raises(InputError, match="10 tokens is longer than the model's 9 positions"):
        model.apply(variables, np.ones((1, 10), int))
    with pytest.raises(InputError, match=r"rank 2, not \(1, 3, 7\)"):
        model.apply(variables, IDS[None])
    with pytest.raises(InputError, match="3 heads do not divide a width of 8"):
        type(CONFIGS[name])(**SMALL | {"num_heads": 3}).build()
    with pytest.raises(InputError, match="unknown activation"):
        type(CONFIGS[name])(**SMALL, activation="swoosh").build()


def test_roberta_counts_positions_without_padding():
    ids = jnp.array([[5, 6, 1, 7], [1, 1, 5, 6], [1, 1, 1, 1]])
    found = roberta.positions(ids, pad_id=1)
    np.testing.assert_array_equal(found, [[2, 3, 1, 4], [1, 1, 2, 3], [1, 1, 1, 1]])
    with pytest.raises(InputError, match="pad_id 11 is no id of 11 tokens"):
        roberta.Config(**SMALL, pad_id=11).build()


def test_roberta_padded_on_the_left_is_the_same():
    model, variables = made("roberta")
    mask = np.pad(np.ones_like(IDS), ((0, 0), (2, 0)))
    padded = model.apply(variables, np.pad(IDS, ((0, 0), (2, 0)), constant_values=1), mask)
    np.testing.assert_allclose(padded[:, 2:], model.apply(variables, IDS), atol=1e-5)


def test_albert_shares_layers():
    def names(**changes):
        cfg = albert.Config(**SMALL | changes)
        shapes = jax.eval_shape(cfg.build().init, jax.random.key(0), **cfg.inputs())
        return {name for name in shapes["params"] if name.startswith("group")}

    assert names(depth=1) == names(depth=5) == {"group0_layer0"}
    assert names(depth=5, groups=2) == {"group0_layer0", "group1_layer0"}
    assert names(group_depth=2) == {"group0_layer0", "group0_layer1"}
    with pytest.raises(InputError, match="3 groups of 1 layers do not serve a depth of 2"):
        names(groups=3)


def test_electra_has_no_projection_where_widths_are_equal():
    cfg = electra.Config(**SMALL, embedding=8)
    shapes = jax.eval_shape(cfg.build().init, jax.random.key(0), **cfg.inputs())
    assert "project" not in shapes["params"] and "project" in made("electra")[1]["params"]
