"""A run runs again to the same bits; where it does not, step, leaf and cause are told."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from golden_runs import check_golden
from test_resume import StopAt
from tiny_runs import (
    CLASSES,
    again,
    features_run,
    images_run,
    metrics_of,
    sequences_run,
    tokens_run,
)

from zoo import replay, runs
from zoo.compare import compare_runs
from zoo.data import Stream
from zoo.parallel.compile import Jit
from zoo.parallel.mesh import MeshShape
from zoo.training import loop
from zoo.training.receipt import read_receipt
from zoo.training.sums import leaf_sums
from zoo.training.trace import read_trace

LEAVES = ["dense1/bias", "dense1/kernel", "head/bias", "head/kernel"]


def replayed(run, steps="", module=None):
    return replay.replay(replay.plan(Path(run.workdir), steps), module)


@pytest.mark.parametrize(
    "make, changes",
    [
        (features_run, {"steps_per_dispatch": 4, "log_every": 3}),
        (images_run, {"average": 0.9, "parallel": "pmap"}),
        pytest.param(sequences_run, {"accumulate": 2}, marks=pytest.mark.slow),
        pytest.param(tokens_run, {"log_every": 5}, marks=pytest.mark.slow),
        pytest.param(images_run, {"reproducible": 4, "devices": 2}, marks=pytest.mark.slow),
    ],
    ids=["mlp", "cnn", "rnn", "transformer", "reproducible"],
)
def test_a_run_replays_to_the_same_bits(tmp_path, make, changes, request):
    run = make(tmp_path, **changes)
    result = again(run)
    check_golden(request.node.callspec.id, run, result)
    recorded = read_trace(Path(run.workdir))
    logged = sorted({*range(0, 13, run.log_every), 12})
    assert list(recorded.lines) == logged
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}
    found = replayed(run)
    assert found.identical and found.steps == logged and found.causes == []
    assert str(found) == f"identical through step 12 ({len(logged)} steps compared)"
    after = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}
    assert after == before


def test_the_trace_holds_the_loss_and_the_parameters(tmp_path):
    run = features_run(tmp_path)
    again(run)
    recorded = read_trace(Path(run.workdir))
    assert recorded.leaves == dict(
        zip(LEAVES, ["float32[8]", "float32[4,8]", "float32[3]", "float32[8,3]"], strict=True)
    )
    for line in metrics_of(run):
        if "loss" in line:
            bits = recorded.lines[line["step"]].loss
            assert np.uint32(int(bits, 16)).view(np.float32) == np.float32(line["loss"])
    sums = leaf_sums(runs.open_run(run.workdir).variables["params"])
    assert recorded.lines[12].sums == "".join(f"{value:08x}" for value in sums.tolist())


def test_part_of_a_run(finished):
    found = replayed(finished, "9:11")
    assert found.identical and found.steps == [8, 9, 10, 11], "from the checkpoint of step 8"
    found = replayed(finished, ":2")
    assert found.identical and found.steps == [0, 1, 2]


@pytest.mark.slow
def test_a_run_that_was_stopped_and_moved(tmp_path):
    """Begun on one device, resumed on two under pmap, then on one: replayed on the same."""
    run = features_run(tmp_path)
    for changes in ({}, {"devices": 2, "parallel": "pmap"}):
        with pytest.raises(loop.Stopped):
            loop.train(dataclasses.replace(run, **changes), StopAt(5))
    again(run)
    starts = read_receipt(Path(run.workdir))["starts"]
    assert [start["devices"]["used"] for start in starts] == [1, 2, 1]
    planned = replay.plan(Path(run.workdir), "")
    assert [(part.last, part.devices) for part in planned.parts] == [(5, 1), (10, 2), (12, 1)]
    found = replay.replay(planned)
    assert found.identical and found.steps == list(range(13))
    found = replayed(run, "11:")
    assert found.identical and found.steps == [10, 11, 12]


@pytest.mark.slow
def test_a_run_whose_state_is_cut_up(tmp_path, finished):
    """Parameters in shards have the sums of whole ones."""
    run = features_run(tmp_path, steps=2, devices=2, mesh=MeshShape(data=1, fsdp=2))
    again(run)
    recorded, whole = (read_trace(Path(each.workdir)) for each in (run, finished))
    assert recorded.lines[0] == whole.lines[0]
    assert replayed(run).identical


# Ten and more planted causes: what is changed behind the run's back, the first step and leaf that
# must differ, and the cause that must be named first.
def configured(**fields):
    def plant(run):
        path = Path(run.workdir) / "config.json"
        values = json.loads(path.read_text())
        for name, value in fields.items():
            part, _, rest = name.partition("__")
            if rest:
                assert values[part][rest] != value
                values[part][rest] = value
            else:
                assert values[part] != value
                values[part] = value
        path.write_text(json.dumps(values))

    return plant


def flipped_bit(run):
    path = Path(run.workdir) / "trace.jsonl"
    lines = path.read_text().splitlines()
    assert '"step": 7,' in lines[8]
    line = json.loads(lines[8])
    digit = 8 * 2 + 3  # of the third leaf
    flipped = f"{int(line['sums'][digit], 16) ^ 4:x}"
    line["sums"] = line["sums"][:digit] + flipped + line["sums"][digit + 1 :]
    path.write_text("\n".join([*lines[:8], json.dumps(line), *lines[9:]]) + "\n")


PLANTED = {
    "seed": (configured(seed=1), 0, "dense1/kernel", "seed: 0 -> 1"),
    "type of the parameters": (
        configured(param_dtype="bfloat16"), 0, "dense1/bias", 'param_dtype: "float32" ->',
    ),
    "type of the computation": (
        configured(dtype="bfloat16"), 1, "dense1/bias", 'dtype: "float32" -> "bfloat16"',
    ),
    "learning rate": (
        configured(optimizer__learning_rate=0.02), 1, "dense1/bias",
        "optimizer.learning_rate: 0.01 -> 0.02",
    ),
    "optimizer": (
        configured(optimizer__name="sgd"), 1, "dense1/bias", 'optimizer.name: "adam" -> "sgd"',
    ),
    "batch size": (configured(batch_size=4), 1, "dense1/bias", "batch_size: 8 -> 4"),
    "dropout": (
        configured(model__dropout=0.5), 1, "dense1/bias", "model.dropout: 0.25 -> 0.5",
    ),
    "width": (
        configured(model__widths=[9]), 0, "dense1/bias", "model.widths: [8] -> [9]",
    ),
    "flipped bit": (
        flipped_bit, 7, "head/bias",
        "the record of step 7 is damaged, for both agree again at step 8",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_cause_is_found(trained, name):
    plant, step, leaf, cause = PLANTED[name]
    plant(trained)
    found = replayed(trained)
    assert found.difference is not None
    assert (found.difference.step, found.difference.leaf) == (step, leaf)
    text = str(found)
    assert f"first difference at step {step}" in text
    assert step == 0 or f"identical through step {step - 1}" in text
    assert f"  likely cause: {cause}" in text


def test_another_row_is_found(tmp_path):
    """The label of the example that step 5 reads first, and no step before."""
    run = features_run(tmp_path)
    again(run)
    row = int(Stream(run.data.open().splits["train"], 8, seed=0).indices(4)[0])
    arrays = dict(np.load(run.data.path))
    arrays["y_train"][row] = (arrays["y_train"][row] + 1) % CLASSES
    np.savez(run.data.path, **arrays)
    found = replayed(run)
    assert found.difference is not None
    assert (found.difference.step, found.difference.leaf) == (5, "dense1/bias")
    assert found.causes[0].startswith("the data: other records, labels or splits")
    found = replayed(run, "9:")
    assert found.causes, "from a checkpoint as well"


def test_another_number_of_steps_per_dispatch_is_told(trained):
    """Whether it changes bits depends on the program; the cause is told either way."""
    configured(steps_per_dispatch=4)(trained)
    found = replayed(trained)
    assert found.causes == ["steps_per_dispatch: 1 -> 4"]
    assert "steps_per_dispatch: 1 -> 4" in str(found)


def test_a_fault_of_the_memory(tmp_path, monkeypatch):
    """One bit of one parameter flips between two steps; no receipt tells of it."""
    run = features_run(tmp_path)
    with pytest.raises(loop.Stopped):
        loop.train(run, StopAt(5))

    def flips(self, state):
        kernel = np.array(state.params["head"]["kernel"])
        kernel.view(np.uint32)[3, 1] ^= 1 << 20
        state.params["head"]["kernel"] = kernel
        return place(self, state)

    place = Jit.place_state
    with monkeypatch.context() as patched:
        patched.setattr(Jit, "place_state", flips)
        again(run)
    found = replayed(run)
    assert found.difference is not None and found.difference.step == 6
    assert found.causes == [] and "likely cause: nothing that a receipt tells" in str(found)


@pytest.mark.slow
def test_two_runs_are_compared(tmp_path):
    """The same run on one device and on two, and with another interval of logging."""
    run = images_run(tmp_path)
    again(run)
    changes = {"two": {"devices": 2}, "same": {"log_every": 5}}
    for name, fields in changes.items():
        again(run, workdir=str(tmp_path / name), **fields)
    found = compare_runs(Path(run.workdir), tmp_path / "same")
    assert found.identical and found.steps == [0, 5, 10, 12] and found.causes == []
    found = compare_runs(Path(run.workdir), tmp_path / "two")
    assert found.difference is not None and found.difference.step == 1
    assert found.causes[0] == "devices.used: 1 -> 2"


@pytest.mark.slow
def test_a_changed_flag_is_found(finished, monkeypatch):
    with jax.threefry_partitionable(False):
        found = replayed(finished)
    assert found.difference is not None
    assert (found.difference.step, found.difference.leaf) == (0, "dense1/kernel")
    assert found.causes == ["settings.jax_threefry_partitionable: true -> false"]
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    found = replayed(finished)
    assert found.identical, "read when jax started; told all the same"
    assert found.causes == ['flags.XLA_FLAGS: null -> "--xla_cpu_enable_fast_math=true"']
