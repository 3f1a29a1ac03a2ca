"""One meaning under jit and pmap, on any number of devices, with any mesh."""

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_runs import again, assert_same_bits, bench, features_run, images_run, losses_of

from zoo.config import MeshShape, Optimizer
from zoo.errors import InputError
from zoo.training.feed import microbatches

OPTIMIZER = Optimizer(name="momentum", learning_rate=0.05)
DEVICES = [1, 2, 4]


@pytest.fixture(scope="session")
def trajectory(tmp_path_factory):
    """`(make, steps, **changes) -> (last state, losses)`, each computed once."""
    folder = tmp_path_factory.mktemp("trajectories")
    known = {}

    def compute(make, steps, **changes):
        key = (make, *sorted(changes.items()))
        if key not in known:
            parts = bench(make(folder, optimizer=OPTIMIZER, average=0.9, **changes), average=0.9)
            state, metrics = parts.steps(parts.fresh(), 0, steps)
            known[key] = jax.device_get(state), np.array([found["loss"] for found in metrics])
        return known[key]

    return compute


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("make", [features_run, images_run])
def test_jit_and_pmap_have_the_same_bits(trajectory, make, devices):
    steps = 30 if make is features_run else 5
    jit, jit_losses = trajectory(make, steps, parallel="jit", devices=devices)
    pmap, pmap_losses = trajectory(make, steps, parallel="pmap", devices=devices)
    assert_same_bits(jit, pmap)
    assert jit_losses.tolist() == pmap_losses.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("make", [features_run, images_run])
def test_the_same_bits_with_microbatches_and_several_steps_a_dispatch(tmp_path, make):
    states = []
    for parallel in ("jit", "pmap"):
        run = make(tmp_path, parallel=parallel, devices=2, accumulate=2)
        parts = bench(run, accumulate=2)
        many = parts.parallel.train(parts.step.many, parts.shapes, 2)
        batch = microbatches(parts.stream.chunk(0, 3), 2, 1)
        placed = parts.parallel.place_batch(batch, 2)
        state, _ = many(parts.fresh(), placed, np.int32(0), np.int32(2))
        state, _ = many(state, placed, np.int32(2), np.int32(3))
        states.append(state)
    assert int(states[0].step) == 3
    assert_same_bits(*states)


@pytest.mark.parametrize("devices", [2, 4])
def test_losses_do_not_depend_on_the_number_of_devices(trajectory, devices):
    """Dropout included; without batch norm."""
    _, wanted = trajectory(features_run, 30, parallel="jit", devices=1)
    assert len(set(wanted.tolist())) == 30
    _, got = trajectory(features_run, 30, parallel="jit", devices=devices)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize("devices", [2, 4])
def test_batch_norm_is_over_the_whole_batch(trajectory, devices):
    _, wanted = trajectory(images_run, 5, parallel="jit", devices=1)
    _, got = trajectory(images_run, 5, parallel="jit", devices=devices)
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


@pytest.mark.parametrize("mesh", [MeshShape(fsdp=4), MeshShape(tensor=2), MeshShape(1, 2, 2)])
def test_a_mesh_that_cuts_the_state_gives_the_same_losses(tmp_path, trajectory, mesh):
    _, wanted = trajectory(features_run, 30, parallel="jit", devices=1)
    _, got = trajectory(features_run, 30, devices=4, mesh=mesh)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    kernel = bench(features_run(tmp_path, devices=4, mesh=mesh)).fresh().params["dense1"]["kernel"]
    assert kernel.addressable_data(0).size == kernel.size // (mesh.fsdp * mesh.tensor)


def test_batch_norm_under_a_mesh(trajectory):
    _, wanted = trajectory(images_run, 5, parallel="jit", devices=1)
    _, got = trajectory(images_run, 5, devices=4, mesh=MeshShape(fsdp=2))
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


@pytest.mark.slow
def test_a_checkpoint_goes_from_any_mode_to_any_other(tmp_path):
    run = features_run(tmp_path, optimizer=OPTIMIZER, average=0.9, steps=20, eval_every=20)
    again(run, workdir=str(tmp_path / "whole"))
    wanted = losses_of(dataclasses.replace(run, workdir=str(tmp_path / "whole")))
    modes = [
        {"parallel": "jit", "devices": 1}, {"parallel": "pmap", "devices": 4},
        {"devices": 4, "mesh": MeshShape(fsdp=2, tensor=2)}, {"parallel": "pmap", "devices": 2},
        {"parallel": "jit", "devices": 4},
    ]  # fmt: skip
    for number, mode in enumerate(modes, start=1):
        result = again(run, steps=4 * number, **mode)
        assert result["step"] == 4 * number
    np.testing.assert_allclose(losses_of(run), wanted, rtol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_continued_under_jit_or_pmap_has_the_same_bits(tmp_path):
    run = images_run(
        tmp_path, optimizer=OPTIMIZER, average=0.9, devices=2, steps=4, eval_every=4
    )  # fmt: skip
    again(run)
    copy = shutil.copytree(run.workdir, tmp_path / "copy")
    ours = again(run, steps=8)
    theirs = again(run, steps=8, parallel="pmap", workdir=str(copy))
    assert ours == theirs
    whole = again(run, steps=8, workdir=str(tmp_path / "whole"))
    assert whole["params_digest"] == ours["params_digest"]


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
@pytest.mark.parametrize("changes", [{"batch_size": 6}, {"batch_size": 8, "accumulate": 4}])
def test_a_batch_that_does_not_divide_is_refused(tmp_path, parallel, changes):
    run = features_run(tmp_path, parallel=parallel, devices=4, **changes)
    with pytest.raises(InputError, match="does not divide over 4 devices"):
        again(run)
    assert not (Path(run.workdir) / "config.json").exists()


def test_impossible_devices_and_meshes_are_refused(tmp_path):
    with pytest.raises(InputError, match="devices: 9 asked for, 4 cpu"):
        again(features_run(tmp_path, devices=9))
    with pytest.raises(InputError, match="is not the number of devices, 4"):
        again(features_run(tmp_path, devices=4, mesh=MeshShape(data=3)))
    with pytest.raises(InputError, match="is not the number of devices, 4"):
        again(features_run(tmp_path, devices=4, mesh=MeshShape(fsdp=3)))
    with pytest.raises(InputError, match="at least 1"):
        again(features_run(tmp_path, mesh=MeshShape(fsdp=0)))
    with pytest.raises(InputError, match="a mesh needs jit"):
        again(features_run(tmp_path, devices=4, parallel="pmap", mesh=MeshShape(fsdp=2)))


def test_every_row_reaches_a_device_once(tmp_path):
    """place_batch cuts rows in order, whatever axes stand before them."""
    for parallel in ("jit", "pmap"):
        parts = bench(features_run(tmp_path, parallel=parallel, devices=4))
        for leading, shape in ((0, (8, 3)), (1, (5, 8, 3)), (2, (5, 2, 8, 3))):
            rows = np.arange(np.prod(shape)).reshape(shape)
            placed = parts.parallel.place_batch({"x": rows}, leading)["x"]
            if parallel == "pmap":
                pieces = list(placed)
            else:
                shards = sorted(placed.addressable_shards, key=lambda shard: shard.device.id)
                pieces = [np.asarray(shard.data) for shard in shards]
            assert len(pieces) == 4
            np.testing.assert_array_equal(np.concatenate(pieces, axis=leading), rows)


def test_the_state_is_consumed(tmp_path):
    parts = bench(features_run(tmp_path))
    state = parts.fresh()
    parts.compiled()(state, parts.parallel.place_batch(parts.stream[0]))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
