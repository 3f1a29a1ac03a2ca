"""The trace: sums that see every bit, on any devices, and a file that survives what happens."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from zoo.errors import InputError
from zoo.training.sums import leaf_sums
from zoo.training.trace import Line, Recorded, Trace, read_trace

LEAVES = {"a": "float32[3]", "b": "float32[]"}


def sum_by_hand(array):
    """The definition, in whole numbers of any size."""
    array = np.asarray(array)
    bits = array.view(f"u{min(array.itemsize, 4)}").reshape(-1).tolist()
    total = 0
    for position, value in enumerate(bits):
        value ^= value >> 16
        mixed = position * 0x9E3779B1 % 2**32
        total += value * ((mixed ^ (mixed >> 15)) | 1)
    return total % 2**32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "int8", "bool"])
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4)])
def test_the_sum_is_the_defined_one(dtype, shape):
    values = np.random.default_rng(0).normal(size=shape) * 100
    leaf = jnp.asarray(values).astype(dtype)
    assert leaf_sums({"a": leaf}).tolist() == [sum_by_hand(leaf)]
    assert leaf_sums({"a": leaf}).dtype == jnp.uint32


def test_every_bit_and_every_exchange_is_seen():
    rng = np.random.default_rng(1)
    leaf = rng.normal(size=(6, 4)).astype(np.float32)
    sums = jax.jit(leaf_sums)
    whole = int(sums({"a": leaf})[0])
    for bit in range(32):
        changed = leaf.copy()
        changed.view(np.uint32)[rng.integers(6), rng.integers(4)] ^= np.uint32(1 << bit)
        assert int(sums({"a": changed})[0]) != whole
    for _ in range(20):
        changed = leaf.copy().reshape(-1)
        i, j = rng.choice(24, 2, replace=False)
        changed[[i, j]] = changed[[j, i]]
        assert int(sums({"a": changed.reshape(6, 4)})[0]) != whole
    assert int(sums({"a": -leaf})[0]) != whole, "all signs, an even number of them"


def test_no_device_or_cut_changes_them():
    rng = np.random.default_rng(2)
    params = {"a": rng.normal(size=(8, 12)).astype(np.float32), "b": np.arange(4.0, dtype="f4")}
    whole = jax.jit(leaf_sums)(params).tolist()
    mesh = jax.make_mesh((2, 2), ("x", "y"))
    for spec in (P(), P("x"), P(None, "y"), P("y", "x")):
        cut = {"a": jax.device_put(params["a"], NamedSharding(mesh, spec)),
               "b": jax.device_put(params["b"], NamedSharding(mesh, P("x")))}  # fmt: skip
        assert jax.jit(leaf_sums)(cut).tolist() == whole


def write(folder, lines, first=0):
    trace = Trace(folder, first, LEAVES)
    for step, loss in lines:
        trace.write(step, loss, np.array([step, 2**32 - 1], np.uint32))
    trace.close()


def test_what_is_written_is_read(tmp_path):
    write(tmp_path, [(0, None), (4, np.float32(1.5))])
    recorded = read_trace(tmp_path)
    assert recorded == Recorded(
        LEAVES, {0: Line("", "00000000ffffffff"), 4: Line("3fc00000", "00000004ffffffff")}
    )
    assert recorded.lines[4].sum_of(1) == "ffffffff"


def test_a_resume_cuts_it_back(tmp_path):
    write(tmp_path, [(0, None), (4, 1.0), (8, 2.0)])
    write(tmp_path, [(8, 3.0)], first=4)
    recorded = read_trace(tmp_path)
    assert list(recorded.lines) == [0, 4, 8]
    assert recorded.lines[8].loss == "40400000"


def test_a_line_cut_off_is_left_out_and_a_damaged_trace_begun_anew(tmp_path):
    write(tmp_path, [(0, None), (4, 1.0)])
    path = tmp_path / "trace.jsonl"
    path.write_text(path.read_text() + '{"step": 8, "lo')
    assert list(read_trace(tmp_path).lines) == [0, 4]
    write(tmp_path, [(8, 1.0)], first=4)
    assert list(read_trace(tmp_path).lines) == [0, 4, 8]
    path.write_text(path.read_text().replace('"step": 4', '"stop": 4'))
    trace = Trace(tmp_path, 8, LEAVES)
    trace.close()
    assert trace.empty
    assert (tmp_path / "trace.damaged.jsonl").is_file()


DAMAGE = {
    "no object": "[]", "no sums": json.dumps({"step": 9, "loss": ""}), "not JSON": '{"step": 9',
    "too few sums": json.dumps({"step": 9, "loss": "", "sums": "00000000"}),
    "not hex": json.dumps({"step": 9, "loss": "xyzxyzxy", "sums": "0" * 16}),
    "a step before": json.dumps({"step": 2, "loss": "", "sums": "0" * 16}),
    "no step": json.dumps({"step": "9", "loss": "", "sums": "0" * 16}),
    "deep": "[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_damage_is_named_by_its_line(tmp_path, damage):
    write(tmp_path, [(0, None), (4, 1.0)])
    path = tmp_path / "trace.jsonl"
    path.write_text(path.read_text() + DAMAGE[damage] + "\n")
    with pytest.raises(InputError, match=r"trace.jsonl, line 4 is damaged"):
        read_trace(tmp_path)


def test_no_trace_and_an_empty_one(tmp_path):
    with pytest.raises(InputError, match="has no trace.jsonl"):
        read_trace(tmp_path)
    (tmp_path / "trace.jsonl").write_text("")
    with pytest.raises(InputError, match="is empty"):
        read_trace(tmp_path)
