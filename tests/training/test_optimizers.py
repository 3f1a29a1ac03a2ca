"""Optimizers take a step and schedules follow their formulas."""

import dataclasses
import math
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.config import Optimizer, Schedule
from zoo.errors import InputError
from zoo.training.optimizers import frozen, layer_rates, stop_gradients

NAMES = typing.get_args(typing.get_type_hints(Optimizer)["name"])


def descend(optimizer, steps, params, gradient):
    """The parameters after some steps of an optimizer."""
    rule = optimizer.build(steps)
    state = rule.init(params)

    @jax.jit
    def step(params, state):
        updates, state = rule.update(gradient(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params


def quadratic():
    """A well-conditioned problem with a hidden matrix, a head, a bias and an embedding."""
    rng = np.random.default_rng(0)
    shapes = {
        "dense1": {"kernel": (8, 6), "bias": (6,)},
        "head": {"kernel": (6, 3)},
        "table": {"embedding": (5, 4)},
    }
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        shapes, is_leaf=lambda x: isinstance(x, tuple),
    )  # fmt: skip


def loss(params):
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_reduces_a_quadratic(name):
    start = quadratic()
    end = descend(Optimizer(name=name, learning_rate=0.02), 60, start, jax.grad(loss))
    assert loss(end) < 0.5 * loss(start)
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(end), strict=True):
        assert np.all(np.isfinite(after))
        assert np.mean(np.asarray(before) != np.asarray(after)) > 0.8, "the numbers move"


def test_sgd_and_momentum_follow_their_formulas():
    start = {"w": {"kernel": jnp.asarray([2.0])}}
    gradient = jax.grad(loss)
    end = descend(Optimizer(name="sgd", learning_rate=0.1), 3, start, gradient)
    np.testing.assert_allclose(end["w"]["kernel"], 2 * 0.8**3, rtol=1e-6)
    end = descend(Optimizer(name="momentum", learning_rate=0.1, momentum=0.5), 2, start, gradient)
    first = 2 - 0.1 * 4
    np.testing.assert_allclose(end["w"]["kernel"], first - 0.1 * (2 * first + 0.5 * 4), rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "lion", "muon", "adafactor", "sgd", "momentum"])
def test_weight_decay_goes_by_name(name):
    """Without a gradient only decay moves a parameter."""
    start = quadratic() | {"norm": {"scale": jnp.ones((4, 4))}}
    nothing = lambda params: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
    optimizer = Optimizer(name=name, learning_rate=0.1, weight_decay=0.5)
    end = descend(optimizer, 1, start, nothing)
    moved = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for (path, before), after in zip(
            jax.tree_util.tree_leaves_with_path(start), jax.tree.leaves(end), strict=True
        )
        if not np.array_equal(before, after)
    }
    assert moved == {"dense1/kernel", "head/kernel", "table/embedding"}
    for path in (("dense1", "kernel"), ("table", "embedding")):
        before, after = (tree[path[0]][path[1]] for tree in (start, end))
        np.testing.assert_allclose(after, 0.95 * before, rtol=1e-5)  # 1 - rate * decay
    only = dataclasses.replace(optimizer, decay=("scale",))
    end = descend(only, 1, start, nothing)
    assert not np.array_equal(end["norm"]["scale"], start["norm"]["scale"])
    assert np.array_equal(end["head"]["kernel"], start["head"]["kernel"])


def test_adam_refuses_weight_decay():
    with pytest.raises(InputError, match="adamw"):
        Optimizer(name="adam", weight_decay=0.1).build(10)


@pytest.mark.parametrize("field", ["learning_rate", "weight_decay", "clip_norm"])
def test_negative_numbers_are_refused(field):
    with pytest.raises(InputError, match=field):
        dataclasses.replace(Optimizer(name="adamw"), **{field: -1.0}).build(10)


@pytest.mark.parametrize("norm", [0.5, 100.0])
def test_clipping_is_by_the_global_norm(norm):
    start = quadratic()
    gradient = jax.grad(loss)
    whole = float(optax.tree.norm(gradient(start)))
    end = descend(Optimizer(name="sgd", learning_rate=1.0, clip_norm=norm), 1, start, gradient)
    change = jax.tree.map(jnp.subtract, start, end)
    np.testing.assert_allclose(optax.tree.norm(change), min(norm, whole), rtol=1e-5)
    np.testing.assert_allclose(
        change["head"]["kernel"] * (whole / min(norm, whole)), gradient(start)["head"]["kernel"],
        rtol=1e-4,
    )  # fmt: skip


def closed_form(schedule: Schedule, rate: float, steps: int, n: int) -> float:
    """The rate after `n` updates, by the formulas of the docstrings."""
    if n < schedule.warmup_steps:
        return rate * n / schedule.warmup_steps
    end = schedule.decay_steps or steps
    done = min(max((n - schedule.warmup_steps) / max(end - schedule.warmup_steps, 1), 0), 1)
    low = schedule.final_fraction
    match schedule.name:
        case "constant":
            return rate
        case "cosine":
            return rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))
        case "linear":
            return rate * (1 - done * (1 - low))
        case "step":
            return rate * schedule.factor ** sum(n >= at for at in schedule.boundaries)
    raise AssertionError(schedule.name)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(),
        Schedule(warmup_steps=10),
        Schedule(name="cosine"),
        Schedule(name="cosine", warmup_steps=10, final_fraction=0.1),
        Schedule(name="cosine", warmup_steps=5, decay_steps=40),
        Schedule(name="linear", final_fraction=0.25),
        Schedule(name="linear", warmup_steps=20, decay_steps=50),
        Schedule(name="step", boundaries=(30, 60)),
        Schedule(name="step", boundaries=(30, 60), warmup_steps=10, factor=0.5),
        Schedule(name="cosine", warmup_steps=100),
    ],
)
def test_schedules_follow_their_formulas(schedule):
    rate = schedule.build(0.3, 100)
    for n in range(0, 121):
        wanted = closed_form(schedule, 0.3, 100, n)
        np.testing.assert_allclose(rate(n), wanted, rtol=1e-5, atol=1e-7, err_msg=f"update {n}")


def test_only_schedules_that_end_with_the_run_depend_on_its_length():
    for schedule in (Schedule(name="cosine"), Schedule(name="linear", warmup_steps=3)):
        assert schedule.depends_on_steps()
        fixed = dataclasses.replace(schedule, decay_steps=50)
        assert not fixed.depends_on_steps()
        assert float(fixed.build(1.0, 100)(30)) == float(fixed.build(1.0, 200)(30))
    for name in ("constant", "step"):
        assert not Schedule(name=name).depends_on_steps()


def test_muon_leaves_heads_embeddings_and_vectors_to_adam():
    params = quadratic()
    state = Optimizer(name="muon").build(10).init(params)
    text = jax.tree_util.tree_flatten_with_path(state)[0]
    adam = {jax.tree_util.keystr(path) for path, _ in text if "adam" in jax.tree_util.keystr(path)}
    assert any("head" in path for path in adam)
    assert any("embedding" in path for path in adam)
    assert not any("dense1" in path and "kernel" in path for path in adam)


def layered():
    """Names as an encoder has them, values of every sign, negative zeros among them."""
    rng = np.random.default_rng(1)
    tree = {
        "embed": {"embedding": (5, 4)},
        "position": {"embedding": (3, 4)},
        "layer0": {"attention": {"query": {"kernel": (4, 4)}}, "up": {"kernel": (4, 4)}},
        "layer1": {"attention": {"query": {"kernel": (4, 4)}}, "up": {"kernel": (4, 4)}},
        "norm": {"scale": (4,)},
        "head": {"kernel": (4, 2), "bias": (2,)},
    }
    tree = jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32), tree,
        is_leaf=lambda x: isinstance(x, tuple),
    )  # fmt: skip
    tree["embed"]["embedding"][0] = -0.0
    return jax.tree.map(jnp.asarray, tree)


def leaves(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.mark.parametrize("name", NAMES)
def test_frozen_leaves_keep_their_bits_and_have_no_state(name):
    start = layered()
    optimizer = Optimizer(
        name=name, learning_rate=0.1, clip_norm=1.0, freeze=("embed", "*/query/*"),
        weight_decay=0.0 if name == "adam" else 0.1,
    )  # fmt: skip
    end = descend(optimizer, 3, start, jax.grad(loss))
    still = {path for path, leaf in leaves(frozen(start, optimizer.freeze)).items() if leaf}
    assert still == {
        "embed/embedding", "layer0/attention/query/kernel", "layer1/attention/query/kernel"
    }  # fmt: skip
    for path, before in leaves(start).items():
        same = before.tobytes() == leaves(end)[path].tobytes()
        assert same == (path in still), path
    state = leaves(optimizer.build(3).init(start))
    assert not any(path.endswith(tuple(still)) for path in state)
    shapes = [leaf.shape for leaf in state.values()]
    assert (5, 4) not in shapes


def test_frozen_leaves_do_not_count_in_the_norm_that_clips():
    start = layered()
    gradient = jax.tree.map(jnp.ones_like, start)
    optimizer = Optimizer(
        name="sgd", learning_rate=1.0, clip_norm=1.0, freeze=("embed", "position", "layer*", "norm")
    )
    end = descend(optimizer, 1, start, lambda _: gradient)
    change = np.concatenate([np.ravel(start["head"][k] - end["head"][k]) for k in start["head"]])
    np.testing.assert_allclose(np.linalg.norm(change), 1, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_frozen_starts_late_and_anew(name):
    start = layered()
    optimizer = Optimizer(
        name=name, learning_rate=0.1, freeze=("*", "!head"), freeze_steps=2,
        schedule=Schedule(name="step", boundaries=(3,)),
    )  # fmt: skip
    still = {path for path, leaf in leaves(frozen(start, optimizer.freeze)).items() if leaf}
    middle, end = (descend(optimizer, count, start, jax.grad(loss)) for count in (2, 4))
    alone = dataclasses.replace(
        optimizer, freeze=("head",), freeze_steps=0,
        schedule=Schedule(name="step", boundaries=(1,)),
    )  # fmt: skip
    late = leaves(descend(alone, 2, start, jax.grad(loss)))
    for path, before in leaves(start).items():
        same = before.tobytes() == leaves(middle)[path].tobytes()
        assert same == (path in still), path
        if path in still:  # the second half is a run of two steps of its own
            np.testing.assert_allclose(leaves(end)[path], late[path], rtol=1e-6, atol=1e-7)


def test_clipping_sees_the_gradients_that_count():
    start = layered()
    gradient = jax.tree.map(jnp.ones_like, start)
    optimizer = Optimizer(
        name="sgd", learning_rate=1.0, clip_norm=1.0, freeze=("*", "!head"), freeze_steps=1
    )
    first, second = (descend(optimizer, count, start, lambda _: gradient) for count in (1, 2))
    for before, after in ((start, first), (first, second)):
        change = [np.ravel(b - leaves(after)[path]) for path, b in leaves(before).items()]
        np.testing.assert_allclose(np.linalg.norm(np.concatenate(change)), 1, rtol=1e-4)


def test_late_starts_need_something_frozen():
    for wrong in ({"freeze_steps": 3}, {"freeze_steps": -1, "freeze": ("head",)}):
        with pytest.raises(InputError, match="freeze_steps"):
            Optimizer(**wrong).build(9)


def test_patterns_that_fit_nothing_or_everything_are_refused():
    start = layered()
    with pytest.raises(InputError, match="no parameter fits decoder, layer7; the model has embed,"):
        Optimizer(freeze=("embed", "layer7", "decoder")).build(1).init(start)
    with pytest.raises(InputError, match="nothing is left to train"):
        Optimizer(freeze=("*",)).build(1).init(start)
    assert not frozen(start, ("layer1",))["layer0"]["up"]["kernel"]


def test_no_gradient_is_computed_for_frozen_leaves():
    start = layered()
    gradient = jax.grad(lambda params: loss(stop_gradients(params, ("embed", "layer[01]"))))(start)
    moved = {path for path, leaf in leaves(gradient).items() if leaf.any()}
    assert moved == {"position/embedding", "norm/scale", "head/kernel", "head/bias"}


def test_layers_learn_the_slower_the_deeper_they_lie():
    start = layered()
    factors = {path: float(leaf) for path, leaf in leaves(layer_rates(start, 0.5)).items()}
    assert factors == {
        "embed/embedding": 0.125, "position/embedding": 0.125,
        "layer0/attention/query/kernel": 0.25, "layer0/up/kernel": 0.25,
        "layer1/attention/query/kernel": 0.5, "layer1/up/kernel": 0.5,
        "norm/scale": 1, "head/kernel": 1, "head/bias": 1,
    }  # fmt: skip
    gradient = jax.tree.map(jnp.ones_like, start)
    optimizer = Optimizer(name="sgd", learning_rate=0.1, layer_decay=0.5)
    end = descend(optimizer, 1, start, lambda _: gradient)
    for path, before in leaves(start).items():
        np.testing.assert_allclose(before - leaves(end)[path], 0.1 * factors[path], rtol=1e-4)
    with pytest.raises(InputError, match="no parts named layer0"):
        descend(optimizer, 1, quadratic(), jax.grad(loss))
    for wrong in (0.0, 1.5, -1.0):
        with pytest.raises(InputError, match="layer_decay"):
            dataclasses.replace(optimizer, layer_decay=wrong).build(1)
