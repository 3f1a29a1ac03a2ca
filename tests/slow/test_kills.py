"""Killed at random moments and resumed each time, a run ends with the bits of one never stopped.

`ZOO_KILLS` sets the number of SIGKILLs (default 20), `ZOO_SIGNALS` that of other signals (8), and
`ZOO_SEED` the moments.
"""

import os
import random
import signal
import time

import pytest
from processes import (
    lines_of,
    losses_of,
    result_of,
    run,
    start,
    told,
    write_config,
)

KILLS = int(os.environ.get("ZOO_KILLS", "20"))
SIGNALS = int(os.environ.get("ZOO_SIGNALS", "8"))
SEED = int(os.environ.get("ZOO_SEED", "0"))
STEPS = 40 * max(KILLS, SIGNALS, 20)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The config and the run folder of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("kills")
    config = write_config(folder / "config.py", STEPS)
    run(config, folder / "whole")
    return config, folder / "whole"


def lines_now(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def saving(workdir):
    return any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))


def wait(process, condition, seconds=120.0):
    """Waits until the condition holds; false when the process ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            return False
        if condition():
            return True
        time.sleep(0.0005)
    raise AssertionError("the process makes no progress")


def has_begun(workdir):
    """Whether a step was logged since now; a resume first writes the file anew."""
    path = workdir / "metrics.jsonl"
    before = path.stat().st_size if path.exists() else 0
    inode = path.stat().st_ino if path.exists() else 0
    return lambda: (
        path.exists()
        and (
            path.stat().st_ino != inode and lines_now(workdir) > 0 and path.stat().st_size != before
        )
    )


def assert_same_as(whole, workdir):
    config, reference = whole
    assert result_of(workdir) == result_of(reference)
    assert list(losses_of(workdir)) == list(range(1, STEPS + 1)), "gaps or duplicates"
    assert lines_of(workdir) == lines_of(reference)


@pytest.mark.timeout(600 + 45 * KILLS)
def test_sigkill_at_random_moments(whole, record_property):
    config, reference = whole
    workdir = reference.parent / "killed"
    rng = random.Random(SEED)
    moments, inside = {"start": 0, "step": 0, "save": 0}, 0
    while sum(moments.values()) < KILLS:
        process = start(config, workdir)
        moment = rng.choices(list(moments), [1, 3, 6])[0]
        begun = has_begun(workdir)
        if moment == "start":
            time.sleep(rng.uniform(0, 4))
        elif wait(process, begun):
            if moment == "step":
                time.sleep(rng.uniform(0, 1))
            else:
                time.sleep(rng.uniform(0, 0.5))
                wait(process, lambda: saving(workdir))
                time.sleep(rng.uniform(0, 0.01))
        if process.poll() is not None:
            process.communicate()
            assert process.returncode == 0, told(workdir)
            break  # it reached its end
        process.kill()
        process.communicate()
        moments[moment] += 1
        inside += moment != "start" and saving(workdir)  # it left a part of a save behind
    assert sum(moments.values()) >= KILLS, f"the run ended after {moments}; give it more steps"
    run(config, workdir)
    assert_same_as(whole, workdir)
    for moment, count in moments.items():
        record_property(f"at a {moment}", count)
    record_property("inside saves", f"{inside} ({inside / KILLS:.0%})")
    assert inside >= 0.4 * KILLS, f"only {inside} of {KILLS} kills inside a save"


@pytest.mark.timeout(600 + 45 * SIGNALS)
def test_signals_save_and_exit(whole, record_property):
    """SIGTERM exits with 143 and SIGINT with 130, once the step under way is saved."""
    config, reference = whole
    workdir = reference.parent / "signalled"
    rng = random.Random(SEED + 1)
    slowest, codes = 0.0, {signal.SIGTERM: 143, signal.SIGINT: 130}
    for index in range(max(1, SIGNALS // 2 - 1)):
        number = (signal.SIGTERM, signal.SIGINT)[index % 2]
        process = start(config, workdir)
        assert wait(process, has_begun(workdir)), told(workdir)
        time.sleep(rng.uniform(0, 0.7))
        process.send_signal(number)
        asked = time.monotonic()
        process.communicate(timeout=60)
        assert process.returncode == codes[number], told(workdir)
        slowest = max(slowest, time.monotonic() - asked)
        newest = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
        assert newest == max(losses_of(workdir)), "what was computed is saved"
    run(config, workdir)
    assert_same_as(whole, workdir)
    record_property("signals", max(1, SIGNALS // 2 - 1))
    record_property("saved and ended within", f"{slowest:.1f} s")
    assert slowest < 30


@pytest.mark.timeout(300 + 20 * SIGNALS)
def test_signals_before_there_is_anything_to_save(whole, record_property):
    config, reference = whole
    rng = random.Random(SEED + 2)
    for index in range(SIGNALS - SIGNALS // 2):
        number, code = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[index % 2]
        process = start(config, reference.parent / f"early{index}")
        time.sleep(rng.uniform(0.6, 2.5))  # Python itself takes signals for its first moments
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode in (code, -number), told(reference.parent / f"early{index}")
    record_property("signals", SIGNALS - SIGNALS // 2)


@pytest.mark.timeout(300)
def test_a_second_signal_ends_at_once(whole):
    config, reference = whole
    workdir = reference.parent / "twice"
    process = start(config, workdir)
    assert wait(process, has_begun(workdir)), told(workdir)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)  # another number, since equal pending signals are one
    asked = time.monotonic()
    process.communicate(timeout=30)
    assert time.monotonic() - asked < 5
    assert process.returncode in (130, 143)
    run(config, workdir)
    assert_same_as(whole, workdir)
