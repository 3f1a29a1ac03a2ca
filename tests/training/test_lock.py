"""One run, one writer: who is refused, what is taken over."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from zoo.errors import RunError
from zoo.training import lock
from zoo.training.lock import Holder, Lock, holder_of

OURS = Holder.here()
DEAD = 2**22 + 1  # beyond the largest process number of Linux


def plant(folder, age=0.0, **changes):
    """A lock file left by another holder, `age` seconds ago."""
    beat = datetime.now(UTC) - timedelta(seconds=age)
    content = {"host": OURS.host, "pid": DEAD, "boot": OURS.boot, "beat": beat.isoformat()}
    (folder / ".lock").write_text(json.dumps(content | changes) + "\n")


def take(folder):
    """Takes and frees the lock; the warnings."""
    warnings = []
    with Lock(folder, warnings.append):
        holder, held = holder_of(folder)
        assert held and holder is not None
        assert (holder.host, holder.pid, holder.boot) == (OURS.host, os.getpid(), OURS.boot)
        assert abs(holder.silence) < 5
    return warnings


@pytest.fixture
def no_flock(monkeypatch):
    """A file system that knows no locks."""

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)


def test_a_free_folder_is_taken_and_left_free(tmp_path):
    assert take(tmp_path) == []
    assert (tmp_path / ".lock").read_bytes() == b""
    assert holder_of(tmp_path) == (None, False)
    assert take(tmp_path) == []


def test_the_second_is_refused_at_once_with_the_name_of_the_first(tmp_path):
    with Lock(tmp_path):
        before = time.monotonic()
        told = rf"another run writes in .*host {socket.gethostname()}, process {os.getpid()}, last"
        with pytest.raises(RunError, match=told):
            Lock(tmp_path)
        assert time.monotonic() - before < 1
    take(tmp_path)


HOLD = """
import sys, time
from pathlib import Path
from zoo.training.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_leaves_a_lock_that_is_simply_taken(tmp_path):
    command = [sys.executable, "-c", HOLD, tmp_path]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=f"process {process.pid}"):
            Lock(tmp_path)
    finally:
        process.kill()
        process.communicate()
    holder, held = holder_of(tmp_path)
    assert (holder.pid, held) == (process.pid, False)
    assert take(tmp_path) == []


@pytest.mark.parametrize(
    "text", ["", "garbage", "{", "[]", "null", '{"pid": 3}', "[" * 4000, "\0" * 50, "\u00e9" * 9000,
             '{"host": "a", "pid": "3", "boot": "", "beat": "2020-01-01T00:00:00+00:00"}',
             '{"host": "a", "pid": 3, "boot": "", "beat": "yesterday"}',
             '{"host": "a", "pid": 3, "boot": "", "beat": "0001-01-01T00:00:00"}'],
)  # fmt: skip
def test_content_that_names_nobody_is_taken_over(tmp_path, text):
    (tmp_path / ".lock").write_text(text)
    warnings = take(tmp_path)
    assert len(warnings) == bool(text)
    assert not warnings or "damaged" in warnings[0] or "left behind" in warnings[0]


@pytest.mark.parametrize("age", [0, 290, -290])
def test_another_host_with_a_young_heartbeat_is_respected(tmp_path, age):
    """Whether flock reaches the other host or not; here it says that the file is free."""
    plant(tmp_path, age, host="elsewhere", boot="another", pid=7)
    before = (tmp_path / ".lock").read_bytes()
    assert holder_of(tmp_path)[1]
    with pytest.raises(RunError, match=r"host elsewhere, process 7.*left behind in \d+ s"):
        Lock(tmp_path)
    assert (tmp_path / ".lock").read_bytes() == before


@pytest.mark.parametrize("age", [310, 3e8, -310, -3e8])
def test_another_host_that_fell_silent_is_taken_over(tmp_path, age):
    plant(tmp_path, age, host="elsewhere", boot="another")
    assert not holder_of(tmp_path)[1]
    (warning,) = take(tmp_path)
    assert "host elsewhere" in warning and "taken over" in warning


@pytest.mark.parametrize(
    "changes, warned",
    [
        ({}, 0),  # flock is free: whoever wrote it has ended
        ({"pid": os.getppid()}, 0),  # even where its number is in use again
        ({"host": "a container of this machine"}, 0),
        ({"boot": "an earlier one"}, 1),
    ],
)
def test_what_this_machine_left_behind_is_taken_over(tmp_path, changes, warned):
    if not OURS.boot:
        pytest.skip("boots have no number here")
    plant(tmp_path, **changes)
    assert len(take(tmp_path)) == warned


def test_without_flock_the_content_decides(tmp_path, no_flock):
    plant(tmp_path)
    assert len(take(tmp_path)) == 1  # a dead process
    plant(tmp_path, age=400, pid=os.getppid())
    assert len(take(tmp_path)) == 1  # a number in use again
    plant(tmp_path, pid=os.getppid())
    with pytest.raises(RunError, match=f"process {os.getppid()}"):
        Lock(tmp_path)
    (tmp_path / ".lock").write_text("")
    with Lock(tmp_path):
        assert holder_of(tmp_path)[1]
        with pytest.raises(RunError, match=f"process {os.getpid()}"):
            Lock(tmp_path)
    assert take(tmp_path) == []


def beats(folder):
    return json.loads((folder / ".lock").read_text())["beat"]


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_heart_beats_until_the_lock_is_freed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)
    with Lock(tmp_path) as held:
        first = beats(tmp_path)
        wait_until(lambda: beats(tmp_path) > first)
    assert not held._thread.is_alive()
    assert (tmp_path / ".lock").read_bytes() == b""


def test_a_lock_that_was_taken_over_is_left_to_its_new_holder(tmp_path, monkeypatch):
    """After a sleep of minutes, on a file system whose locks do not reach the other host."""
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)
    warnings = []
    with Lock(tmp_path, warnings.append):
        plant(tmp_path, host="elsewhere", boot="another")
        text = (tmp_path / ".lock").read_bytes()
        wait_until(lambda: warnings)
    assert "host elsewhere" in warnings[0] and "taken over" in warnings[0]
    assert (tmp_path / ".lock").read_bytes() == text


def test_looking_changes_nothing(tmp_path):
    assert holder_of(tmp_path) == (None, False)
    assert list(tmp_path.iterdir()) == []
    plant(tmp_path, host="elsewhere", boot="another")
    before = (tmp_path / ".lock").stat()
    holder_of(tmp_path)
    after = (tmp_path / ".lock").stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)


def test_a_run_whose_lock_was_taken_over_ends_before_it_writes(tmp_path):
    with Lock(tmp_path) as held:
        held.check()
        plant(tmp_path, host="elsewhere", boot="another", pid=7)
        with pytest.raises(RunError, match=r"taken over the lock .*host elsewhere, process 7"):
            held.check()
        (tmp_path / ".lock").write_text("")  # it has ended since
        with pytest.raises(RunError, match="taken over the lock"):
            held.check()
