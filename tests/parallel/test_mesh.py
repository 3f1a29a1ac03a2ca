"""Sharding rules and the environment of several processes."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from zoo.errors import InputError
from zoo.parallel import processes
from zoo.parallel.compile import Jit, check_divisible, local_rows
from zoo.parallel.mesh import MeshShape, make_mesh, select_devices, state_shardings

TABLE = ((r"dense\d+/kernel", P(None, "tensor")), (r"head/kernel", P("tensor", None)))


def tree(**shapes):
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def specs(state, shape, table=()):
    mesh = make_mesh(shape, jax.devices())
    shardings = state_shardings(state, mesh, table)
    return jax.tree.map(lambda sharding: sharding.spec, shardings)


def test_a_mesh_of_data_alone_copies_everything():
    state = {"dense1": tree(kernel=(8, 6), bias=(6,))}
    found = specs(state, MeshShape(), TABLE)["dense1"]
    assert found == {"kernel": P(None, None), "bias": P(None)}


def test_fsdp_cuts_the_largest_axis_that_divides():
    state = tree(a=(4, 8), b=(8, 4), c=(6, 7), d=(), e=(12, 3), f=(16,))
    assert specs(state, MeshShape(fsdp=4)) == {
        "a": P(None, "fsdp"), "b": P("fsdp", None), "c": P(None, None), "d": P(),
        "e": P("fsdp", None), "f": P("fsdp"),
    }  # fmt: skip


def test_optimizer_moments_follow_their_parameter():
    params = {"dense1": tree(kernel=(8, 8)), "head": tree(kernel=(8, 3))}
    state = {"params": params, "opt_state": ({"mu": params, "nu": params}, tree(count=()))}
    found = specs(state, MeshShape(fsdp=2, tensor=2), TABLE)
    for part in (found["params"], *found["opt_state"][0].values()):
        assert part["dense1"]["kernel"] == P("fsdp", "tensor")
        assert part["head"]["kernel"] == P("tensor", None)


def test_a_rule_that_matches_nothing_is_an_error():
    state = {"dense1": tree(kernel=(8, 8))}
    with pytest.raises(InputError, match="match no parameter: head/kernel"):
        specs(state, MeshShape(tensor=4), TABLE)


def test_a_rule_matches_whole_names_only():
    state = {"mydense1": tree(kernel=(8, 8)), "head": tree(kernel=(8, 8))}
    with pytest.raises(InputError, match=r"dense\\d\+/kernel"):
        specs(state, MeshShape(tensor=4), TABLE)


def test_numbers_that_do_not_divide():
    parallel = Jit(make_mesh(MeshShape(), jax.devices()))
    check_divisible("batch_size", 8, parallel)
    with pytest.raises(InputError, match="batch_size 6 does not divide over 4 devices"):
        check_divisible("batch_size", 6, parallel)
    assert local_rows(8) == (0, 8)
    assert len(select_devices(0)) == 4 and len(select_devices(3)) == 3


def test_the_axis_is_named_only_where_the_batch_alone_is_cut():
    def axis(shape, count=4):
        return Jit(make_mesh(shape, jax.devices()[:count])).axis

    assert axis(MeshShape()) == "data"
    assert axis(MeshShape(), 1) is None
    assert axis(MeshShape(fsdp=2)) is None
    assert axis(MeshShape(tensor=4)) is None


@pytest.mark.parametrize(
    "given, told",
    [
        ({"JAX_NUM_PROCESSES": "2"}, "but not JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID"),
        (
            dict(zip(processes.VARIABLES, ("localhost:1", "two", "0"), strict=True)),
            "must be whole numbers",
        ),
    ],
)
def test_half_an_environment_is_an_error(monkeypatch, given, told):
    for name in processes.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=told):
        processes.start_processes()


def test_alone_there_is_nothing_to_start(monkeypatch):
    for name in (*processes.VARIABLES, "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    processes.start_processes()
    assert jax.process_count() == 1
    assert processes.largest(7) == 7
    processes.wait_for_all("nobody")
