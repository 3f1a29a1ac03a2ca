"""The training step: sums, accumulation, non-finite updates, averaging, types, compilations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)
from tiny_runs import arrays_of, assert_same_bits, bench, features_run, images_run

from zoo.config import Optimizer
from zoo.models import mlp
from zoo.training.feed import microbatches
from zoo.training.optimizers import averaging_decay
from zoo.training.step import Sums, slow_in_loops, steps_per_dispatch

PLAIN = mlp.Config(input_shape=(4,), widths=(8,), num_classes=3)
SGD = Optimizer(name="sgd", learning_rate=0.1)


def weighted(batch, rng):
    """The batch with ragged weights, some of them zero."""
    weight = rng.uniform(0.1, 2.0, len(batch["label"])).astype(np.float32)
    weight[rng.integers(0, len(weight), 2)] = 0
    return batch | {"weight": weight}


@pytest.mark.parametrize("parts, unroll", [(2, False), (8, False), (4, True)])
def test_accumulation_is_one_batch(tmp_path, parts, unroll):
    run = features_run(tmp_path, model=PLAIN, optimizer=SGD, batch_size=16)
    whole = bench(run)
    batch = weighted(whole.stream[0], np.random.default_rng(parts))
    one, metrics = jax.jit(whole.step)(whole.fresh(), batch)
    cut = dataclasses.replace(whole.step, accumulate=parts, unroll=unroll)
    many, others = jax.jit(cut)(whole.fresh(), microbatches(batch, parts))
    for path, leaf in arrays_of(one.params).items():
        np.testing.assert_allclose(leaf, arrays_of(many.params)[path], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(metrics["loss"], others["loss"], rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], others["gradient_norm"], rtol=1e-6)


def test_rows_of_weight_zero_change_nothing(tmp_path):
    parts = bench(features_run(tmp_path, model=PLAIN, optimizer=SGD))
    batch = parts.stream[0]
    one, metrics = jax.jit(parts.step)(parts.fresh(), batch)
    padded = {key: np.concatenate([array, array[:3] * 0 + 1]) for key, array in batch.items()}
    padded["weight"] = np.r_[np.ones(8), np.zeros(3)].astype(np.float32)
    two, others = jax.jit(parts.step)(parts.fresh(), padded)
    np.testing.assert_allclose(metrics["loss"], others["loss"], rtol=1e-6)
    for path, leaf in arrays_of(one.params).items():
        np.testing.assert_allclose(leaf, arrays_of(two.params)[path], rtol=1e-6, atol=1e-7)


def poisoned(batch):
    """A batch whose loss is NaN."""
    image = batch["image"].copy()
    image[1] = np.nan
    return batch | {"image": image}


@pytest.mark.parametrize("skip", [False, True])
def test_a_nan_leaves_everything_as_it_was(tmp_path, skip):
    parts = bench(images_run(tmp_path, average=0.9), average=0.9, skip_nonfinite=skip)
    step = jax.jit(parts.step)
    before, _ = step(parts.fresh(), parts.stream[0])
    after, metrics = step(before, poisoned(parts.stream[1]))
    assert not np.isfinite(metrics["loss"])
    for name in ("params", "opt_state", "extra", "average"):
        assert_same_bits(getattr(before, name), getattr(after, name))
    if skip:
        assert (int(after.step), int(after.skipped), int(after.failed)) == (2, 1, -1)
        later, metrics = step(after, parts.stream[2])
        assert np.isfinite(metrics["loss"])
        assert not np.array_equal(*[arrays_of(s.params)["head/kernel"] for s in (later, after)])
    else:
        assert (int(after.step), int(after.skipped), int(after.failed)) == (1, 0, 1)
        frozen, metrics = step(after, parts.stream[2])  # finite, but too late
        assert_same_bits(after, frozen)
        assert int(metrics["failed"]) == 1


def test_a_skipped_step_does_not_move_the_schedule(tmp_path):
    schedule = dataclasses.replace(features_run(tmp_path).optimizer.schedule, warmup_steps=10)
    optimizer = dataclasses.replace(SGD, schedule=schedule)
    parts = bench(images_run(tmp_path, optimizer=optimizer), skip_nonfinite=True)
    step, state = jax.jit(parts.step), parts.fresh()
    rates = []
    for n in range(4):
        batch = parts.stream[n]
        state, metrics = step(state, poisoned(batch) if n == 1 else batch)
        rates.append(float(metrics["learning_rate"]))
    np.testing.assert_allclose(rates, [0.0, 0.01, 0.01, 0.02], rtol=1e-6)


def test_a_gradient_that_is_not_finite_counts_as_failure(tmp_path):
    """The loss is finite, its derivative is not: sqrt at zero."""

    class Task:
        def loss(self, apply, variables, batch, rngs, train):
            total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(variables["params"]))
            return jnp.sqrt(jnp.abs(total * 0)), jnp.float32(1), {"updates": {}}

    parts = bench(features_run(tmp_path, model=PLAIN, optimizer=SGD))
    state, metrics = jax.jit(dataclasses.replace(parts.step, task=Task()))(
        parts.fresh(), parts.stream[0]
    )
    assert np.isfinite(metrics["loss"])
    assert int(state.failed) == 0


def test_the_average_follows_its_formula(tmp_path):
    run = features_run(tmp_path, model=PLAIN, optimizer=SGD, average=0.5)
    parts = bench(run, average=0.5)
    state = parts.fresh()
    expected = arrays_of(state.params)
    function = jax.jit(parts.step)
    for n in range(5):
        state, _ = function(state, parts.stream[n])
        decay = min(0.5, (1 + n) / (10 + n))
        new = arrays_of(state.params)
        expected = {k: decay * v + (1 - decay) * new[k] for k, v in expected.items()}
    for path, leaf in arrays_of(state.average).items():
        np.testing.assert_allclose(leaf, expected[path], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(averaging_decay(0.999, 10**6), 0.999, rtol=1e-6)


@pytest.mark.parametrize("make", [features_run, images_run])
def test_types_stay_and_the_step_compiles_once(tmp_path, make):
    parts = bench(make(tmp_path, average=0.9), average=0.9)
    traces = 0

    def counted(state, batch):
        nonlocal traces
        traces += 1
        return parts.step(state, batch)

    step, state = parts.parallel.train(counted, parts.shapes), parts.fresh()
    kinds = {k: (v.dtype, v.shape) for k, v in arrays_of(state).items()}
    for n in range(3):
        state, _ = step(state, parts.stream[n])
        assert {k: (v.dtype, v.shape) for k, v in arrays_of(state).items()} == kinds
        assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    assert traces == 1
    assert step._cache_size() == 1
    assert all(kind != np.float64 for kind, _ in kinds.values())


def test_bfloat16_computes_and_float32_keeps(tmp_path):
    parts = bench(images_run(tmp_path, dtype="bfloat16"))
    program = str(jax.make_jaxpr(parts.step)(parts.shapes, parts.stream[0]))
    assert "bf16[" in program
    state, found = parts.steps(parts.fresh(), 0, 3)
    for path, leaf in arrays_of((state.params, state.opt_state, state.extra)).items():
        assert leaf.dtype in (np.float32, np.int32), path
    exact, wanted = bench(images_run(tmp_path)).steps(bench(images_run(tmp_path)).fresh(), 0, 3)
    np.testing.assert_allclose(found[-1]["loss"], wanted[-1]["loss"], rtol=0.05)
    assert found[-1]["loss"] != wanted[-1]["loss"]


def test_bfloat16_parameters_stay_bfloat16(tmp_path):
    run = features_run(tmp_path, dtype="bfloat16", param_dtype="bfloat16")
    state, found = bench(run).steps(bench(run).fresh(), 0, 2)
    assert {leaf.dtype.name for leaf in arrays_of(state.params).values()} == {"bfloat16"}
    assert np.isfinite(found[-1]["loss"])


def test_a_gradient_whose_square_no_float16_holds_is_finite(tmp_path):
    parts = bench(features_run(tmp_path, param_dtype="float16"))
    before = parts.fresh()
    gradient = jax.tree.map(lambda leaf: jnp.full_like(leaf, 300), before.params)
    sums = Sums(gradient, jnp.float32(1), jnp.float32(1))
    state, metrics = jax.jit(parts.step.update)(before, sums, before.extra)
    count = sum(leaf.size for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose(metrics["gradient_norm"], 300 * np.sqrt(count), rtol=1e-5)
    assert int(state.failed) == -1


def test_key_and_batch_change_with_the_step(tmp_path):
    """Dropout draws anew at every step, and the same at the same step."""
    parts = bench(features_run(tmp_path))
    step = jax.jit(parts.step)
    batch, state = parts.stream[0], parts.fresh()
    losses = [float(step(state.replace(step=jnp.int32(n)), batch)[1]["loss"]) for n in (0, 1, 2, 0)]
    assert len(set(losses)) == 3
    assert losses[0] == losses[3]
    other = float(step(state.replace(seed=jnp.uint32(1)), batch)[1]["loss"])
    assert other not in losses


@pytest.mark.parametrize("cuts", [(4,), (1, 3), (3, 1), (2, 2), (1, 1, 1, 1)])
def test_many_steps_cut_anywhere_have_the_same_bits(tmp_path, cuts):
    parts = bench(features_run(tmp_path, average=0.9), average=0.9)
    many = parts.parallel.train(parts.step.many, parts.shapes)
    batches = parts.parallel.place_batch(parts.stream.chunk(0, 4), 1)
    uncut, last = many(parts.fresh(), batches, np.int32(0), np.int32(4))
    state, first = parts.fresh(), 0
    for count in cuts:
        state, metrics = many(state, batches, np.int32(first), np.int32(first + count))
        first += count
    assert_same_bits(uncut, state)
    assert_same_bits(last, metrics)
    assert many._cache_size() == 1


def test_many_steps_are_single_steps(tmp_path):
    parts = bench(features_run(tmp_path))
    many, _ = jax.jit(parts.step.many)(
        parts.fresh(), parts.stream.chunk(0, 4), np.int32(0), np.int32(4)
    )
    single, _ = parts.steps(parts.fresh(), 0, 4)
    for path, leaf in arrays_of(many.params).items():
        np.testing.assert_allclose(leaf, arrays_of(single.params)[path], rtol=1e-5, atol=1e-7)
    assert int(many.step) == int(single.step) == 4


def test_small_dense_steps_share_a_dispatch_and_convolutions_never(tmp_path):
    dense, conv = bench(features_run(tmp_path)), bench(images_run(tmp_path))
    assert steps_per_dispatch(dense.step, dense.shapes, dense.stream[0]) > 1
    assert steps_per_dispatch(conv.step, conv.shapes, conv.stream[0]) == 1
    assert slow_in_loops(conv.step, conv.shapes, conv.stream[0])
    assert not slow_in_loops(dense.step, dense.shapes, dense.stream[0])
    wide = mlp.Config(input_shape=(4,), widths=(2048, 4096), num_classes=3)
    large = bench(features_run(tmp_path, model=wide))
    assert steps_per_dispatch(large.step, large.shapes, large.stream[0]) == 1
    wide_input = {name: np.repeat(leaf, 10**5, 0) for name, leaf in dense.stream[0].items()}
    assert steps_per_dispatch(dense.step, dense.shapes, wide_input) == 1


def test_the_reported_norm_is_of_the_mean_gradient(tmp_path):
    parts = bench(features_run(tmp_path, model=PLAIN, optimizer=SGD))
    before = parts.fresh()
    after, metrics = jax.jit(parts.step)(before, parts.stream[0])
    gradient = jax.tree.map(lambda a, b: (a - b) / 0.1, before.params, after.params)
    np.testing.assert_allclose(metrics["gradient_norm"], optax.tree.norm(gradient), rtol=1e-4)
