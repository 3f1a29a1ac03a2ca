"""`reproducible`: one result, bit for bit, on any number of devices."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_runs import (
    again,
    assert_same_bits,
    bench,
    features_run,
    images_run,
    losses_of,
    metrics_of,
    sequences_run,
    tokens_run,
)

from zoo import tasks
from zoo.config import Optimizer
from zoo.data import Dates
from zoo.errors import InputError
from zoo.models import mlp, transformer
from zoo.parallel.reproducible import Reproducible

CLIPPED = Optimizer(name="adamw", learning_rate=1e-2, weight_decay=0.1, clip_norm=0.5)


def translation(folder):
    model = transformer.Config(
        vocab_size=45, width=16, depth=1, num_heads=2, hidden=16, max_length=64
    )
    return features_run(
        folder, model=model, data=Dates(count=80), task=tasks.Translation(bleu=False), eval_every=12
    )


RUNS = {
    "dense": lambda folder: features_run(folder, on_nonfinite="skip"),
    "convolution": lambda folder: images_run(
        folder, accumulate=2, average=0.9, optimizer=CLIPPED, balance=True
    ),
    "recurrent": sequences_run,
    "transformer": tokens_run,
    "translation": translation,
}


@pytest.mark.parametrize(
    "name",
    [
        *(
            pytest.param(n, marks=pytest.mark.slow if n == "dense" else pytest.mark.full)
            for n in ("dense", "convolution", "recurrent", "transformer")
        ),
        pytest.param("translation", marks=pytest.mark.full),
    ],
)
def test_any_number_of_devices_gives_the_same_bits(tmp_path, name):
    run = dataclasses.replace(RUNS[name](tmp_path), steps=6, eval_every=3, reproducible=4)
    found = {}
    for devices, parallel in ((1, "jit"), (2, "pmap"), (4, "jit"), (4, "pmap")):
        workdir = str(tmp_path / f"{parallel}{devices}")
        result = again(run, devices=devices, parallel=parallel, workdir=workdir)
        found[devices, parallel] = (
            result, metrics_of(dataclasses.replace(run, workdir=workdir))
        )  # fmt: skip
    wanted = found[1, "jit"]
    assert wanted[0]["step"] == 6
    for mode, got in found.items():
        assert got == wanted, mode


@pytest.mark.slow
def test_a_run_may_change_its_devices_at_any_resume(tmp_path):
    run = images_run(tmp_path, reproducible=4, steps=9, average=0.9, save_every=3)
    whole = again(run, workdir=str(tmp_path / "whole"))
    for steps, devices in ((3, 4), (6, 1), (9, 2)):
        cut = again(run, steps=steps, devices=devices)
    assert cut["params_digest"] == whole["params_digest"]
    assert losses_of(run) == losses_of(dataclasses.replace(run, workdir=str(tmp_path / "whole")))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradient_is_that_of_the_whole_batch(tmp_path, accumulate):
    model = mlp.Config(input_shape=(4,), widths=(8,), num_classes=3)
    plain = bench(features_run(tmp_path, model=model))
    run = features_run(tmp_path, model=model, reproducible=4, accumulate=accumulate, devices=2)
    exact = bench(run, accumulate=accumulate)
    batch = exact.stream[0]
    leading = accumulate > 1
    if leading:
        batch = {k: v.reshape(accumulate, -1, *v.shape[1:]) for k, v in batch.items()}
    state, metrics = exact.compiled()(
        exact.fresh(), exact.parallel.place_batch(batch, int(leading))
    )
    _, (wanted,) = plain.steps(plain.fresh(), 0, 1)
    np.testing.assert_allclose(metrics["loss"], wanted["loss"], rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], wanted["gradient_norm"], rtol=1e-6)
    assert all(len(leaf.addressable_shards) == 2 for leaf in jax.tree.leaves(state))


def test_dropout_differs_between_virtual_shards(tmp_path):
    parts = bench(features_run(tmp_path, reproducible=2, steps=1))
    row = {name: np.repeat(leaf[:1], 8, axis=0) for name, leaf in parts.stream[0].items()}
    state, step = parts.fresh(), parts.step
    first, second = (
        jax.jit(step.shard)(state, row, jax.random.fold_in(step.key(state), number))
        for number in (0, 1)
    )
    assert float(first[0].loss) != float(second[0].loss)
    again_ = jax.jit(step.shard)(state, row, jax.random.fold_in(step.key(state), 0))
    assert_same_bits(first, again_)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"reproducible": 3}, "power of two, got 3"),
        ({"reproducible": 2, "devices": 4}, "4 devices do not divide 2 virtual shards"),
        ({"reproducible": 4, "devices": 3}, "3 devices do not divide 4"),
        ({"reproducible": 16}, "batch_size 8 does not divide over 16 virtual shards"),
        ({"reproducible": 4, "accumulate": 4}, "batch_size 2 does not divide over 4 virtual"),
        ({"reproducible": 4, "steps_per_dispatch": 8}, "steps_per_dispatch is 1"),
        ({"reproducible": -1}, "reproducible must be at least 0"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changes, message):
    from zoo.config import check

    run = features_run(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        check(run)
        again(run)


def test_a_mesh_that_cuts_the_state_is_refused(tmp_path):
    from zoo.config import MeshShape

    run = features_run(tmp_path, reproducible=4, devices=2, mesh=MeshShape(fsdp=2))
    with pytest.raises(InputError, match="takes no other mesh"):
        again(run)


def test_a_loss_of_the_whole_batch_is_refused(tmp_path):
    class Contrastive(tasks.Classification):
        global_batch = True

    run = features_run(tmp_path, reproducible=2, task=Contrastive())
    with pytest.raises(InputError, match="Contrastive needs the whole batch"):
        again(run)


def test_sums_are_of_neighbours_first(tmp_path):
    """1 + eps/2 - 1 tells the order: ((a + b) + (c + d)), whatever the devices."""
    values = np.float32([1.0, 2**-24, 2**-24, -1.0])

    class Step:
        def key(self, state):
            return jax.random.key(0)

        def shard(self, state, batch, key):
            return batch["x"].sum(), {}

        def update(self, state, total, extra):
            return state, {"total": total}

    for devices in (1, 2, 4):
        for mapped in (False, True):
            parallel = Reproducible(jax.devices()[:devices], 4, mapped)
            train = parallel.train(Step(), None)
            state = parallel.place_state({"w": np.zeros(2, np.float32)})
            _, metrics = train(state, parallel.place_batch({"x": values}))
            expected = (values[0] + values[1]) + (values[2] + values[3])
            assert float(metrics["total"]) == float(expected)
