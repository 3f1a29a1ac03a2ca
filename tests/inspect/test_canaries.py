"""The compiler computes right numbers here, and the canaries notice where one does not."""

import dataclasses
import functools
import importlib
import importlib.metadata
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

import zoo
from zoo import known_bad, launch
from zoo.errors import RunError
from zoo.inspect import canaries


def test_this_compiler_is_sound_and_the_canaries_are_quick():
    before, work = time.monotonic(), time.process_time()
    assert canaries.failing() == []
    # On 2 cores of their own under 5 s; here others may be at work on them.
    assert time.process_time() - work < 10 or time.monotonic() - before < 10


def test_each_operation_meets_each_size():
    names = [canary.name for canary in canaries.canaries()]
    assert len(set(names)) == len(names)
    squared = {name for name in names if name.startswith("squared rows")}
    assert len(squared) == 8 and "squared rows float32 32769" in squared
    for what in ("product", "sum", "softmax", "layer norm", "convolution", "running sum"):
        sizes = sorted(int(n.removeprefix(what)) for n in names if n[len(what) + 1 :].isdigit()
                       and n.startswith(what))  # fmt: skip
        assert [round(np.log2(size)) for size in sizes] == [14, 15, 16]
        assert {size - 2 ** round(np.log2(size)) for size in sizes} == {-1, 0, 1}


def test_one_wrong_number_is_noticed_by_every_canary(monkeypatch):
    """The last number is off by a hundredth of the largest."""
    monkeypatch.setattr(jax, "jit", lambda function: function)
    for canary in canaries.canaries():
        expected = canary.expected(canary.given.astype(np.float64))
        wrong = np.array(expected).reshape(-1)
        wrong[-1] += 0.01 * np.abs(wrong).max()
        broken = functools.partial(np.reshape, wrong, expected.shape)
        (told,) = dataclasses.replace(
            canary, program=lambda _, broken=broken: broken(), op_by_op=False
        ).wrong()
        assert told.startswith(f"{canary.name}, compiled: 1 of")


def test_other_shapes_and_nan_are_wrong():
    def plain(program):
        given = np.ones(5, np.float32)
        return canaries.Canary("plain", program, lambda x: x, given, op_by_op=True).wrong()

    assert plain(lambda x: x) == []
    assert len(plain(lambda x: x * jnp.nan)) == len(plain(lambda x: x[:3])) == 2


@pytest.fixture
def job(monkeypatch):
    """A process that believes it is one of two."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    verbosity = logging.get_verbosity()
    monkeypatch.setattr("zoo.parallel.processes.start_processes", lambda: None)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    yield monkeypatch
    logging.set_verbosity(verbosity)


@pytest.mark.parametrize("mine, theirs", [(0, 0), (3, 3), (3, 0), (0, 3)])
def test_a_job_of_several_processes_stops_before_it_trains(job, mine, theirs):
    job.setattr(canaries, "failing", lambda: ["sum 3, compiled: 1 of 1 numbers are wrong"] * mine)
    job.setattr(canaries, "largest", lambda value: max(value, theirs))
    if not mine and not theirs:
        launch.configure(0, False)
        return
    told = "3 canaries fail; sum 3, compiled" if mine else "another process of this job"
    with pytest.raises(RunError, match=told):
        launch.configure(0, False)


def test_one_process_does_not_wait_for_canaries(monkeypatch):
    monkeypatch.setattr(canaries, "failing", lambda: pytest.fail("run"))
    canaries.require_sound()


@pytest.fixture
def versions(monkeypatch):
    """Lets packages have other versions."""
    real = importlib.metadata.version

    def pretend(**changed):
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name: changed.get(name) or real(name)
        )

    yield pretend
    monkeypatch.undo()
    importlib.reload(zoo)


@pytest.mark.parametrize("changed", [{"jaxlib": "0.10.2"}, {"jax": "0.10.2"}])
def test_importing_zoo_beside_a_bad_jax_warns_once(versions, changed):
    versions(**changed)
    with pytest.warns(RuntimeWarning, match=r"0\.10\.2 computes wrong numbers.*install") as told:
        importlib.reload(zoo)
    assert len(told) == 1


def test_importing_zoo_beside_a_good_jax_is_silent(versions):
    versions(jax="0.10.1", jaxlib="0.10.1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(zoo)
    assert known_bad.complaint() is None
