"""Clocks and time zones decide nothing; a run folder has one writer, and no dead one."""

import json
import os
import subprocess
import sys
import time

import pytest
from tiny_runs import assert_same_bits
from training.test_checkpoints import like, save, state_at

from zoo.errors import RunError
from zoo.training.checkpoints import Checkpoints
from zoo.training.lock import Lock

TEN_YEARS = 10 * 365.25 * 86400


def newest(folder):
    checkpoints = Checkpoints(folder, 2, pytest.fail)
    state, _ = checkpoints.restore(like())
    checkpoints.close()
    return state


@pytest.mark.parametrize("shift", [-TEN_YEARS, TEN_YEARS])
def test_the_order_of_steps_is_not_that_of_times(tmp_path, shift):
    """Files of the newest step are ten years older, or younger, than those before."""
    folder = tmp_path / "checkpoints"
    save(folder, [None, None, None])
    for path in [folder / "3", *(folder / "3").rglob("*")]:
        os.utime(path, (time.time() + shift,) * 2)
    assert_same_bits(newest(folder), state_at(3))


@pytest.mark.parametrize("shift", [-TEN_YEARS, TEN_YEARS])
@pytest.mark.parametrize("zone", ["UTC+12", "UTC-14"])
def test_a_clock_that_jumps_between_saves(tmp_path, monkeypatch, shift, zone):
    folder, now = tmp_path / "checkpoints", time.time
    save(folder, [None, None])
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now() + shift)
        patched.setenv("TZ", zone)
        time.tzset()
        checkpoints = Checkpoints(folder, 2, pytest.fail)
        for step in (3, 4):
            checkpoints.save(step, state_at(step), {}, None)
        checkpoints.close()
        assert checkpoints.steps() == [3, 4]
    time.tzset()
    assert_same_bits(newest(folder), state_at(4))


HOLDER = """
import sys, time
from pathlib import Path
from zoo.training.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def test_a_second_run_is_refused_at_once_and_a_dead_one_is_not_waited_for(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(RunError, match=f"another run writes in .*{holder.pid}"):
            Lock(tmp_path)
        assert time.monotonic() - began < 1
    finally:
        holder.kill()
        holder.communicate()
    with Lock(tmp_path):
        pass


@pytest.mark.parametrize("left", ["", "{", json.dumps({"host": "another", "pid": 2**22 - 1})])
def test_what_a_dead_run_left_behind_is_taken_over(tmp_path, left):
    (tmp_path / ".lock").write_text(left)
    if "another" in left:  # a host that may be alive, and is believed only for a while
        os.utime(tmp_path / ".lock", (time.time() - 3600,) * 2)
    with Lock(tmp_path):
        pass
