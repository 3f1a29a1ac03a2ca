"""Any damage to any file of the newest step: that step bit for bit, or the one before it.

`ZOO_DAMAGE` sets how many changes are tried (default 200), `ZOO_SEED` which.
"""

import gc
import os
import random
import shutil
import time

import pytest
from tiny_runs import assert_same_bits
from training.test_checkpoints import like, save, state_at

from zoo.training.checkpoints import Checkpoints

COUNT = int(os.environ.get("ZOO_DAMAGE", "200"))

# Orbax leaves coroutines behind after an error.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected():
    """What is left behind is collected here, under the filter above."""
    yield
    gc.collect()


def flip(content, rng, _):
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def zero(content, rng, _):
    at = rng.randrange(len(content))
    length = min(rng.choice((1, 16, 512)), len(content) - at)
    return content[:at] + bytes(length) + content[at + length :]


def noise(content, rng, _):
    at = rng.randrange(len(content))
    length = min(rng.choice((1, 16, 512)), len(content) - at)
    return content[:at] + rng.randbytes(length) + content[at + length :]


def truncate(content, rng, _):
    return content[: rng.randrange(len(content))]


def extend(content, rng, _):
    return content + rng.randbytes(rng.choice((1, 64)))


def empty(*_):
    return b""


def delete(*_):
    return None


def exchange(content, rng, others):
    """The bytes of another file, such as one of the step before."""
    return rng.choice(others)


DAMAGES = (flip, flip, flip, zero, noise, truncate, extend, empty, delete, exchange)


def write(folder, files):
    """Makes a step of these files anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def read(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_no_damage_is_silent(tmp_path, seed, record_property):
    folder = tmp_path / "checkpoints"
    save(folder, [None, None, None])
    files, before = read(folder / "3"), read(folder / "2")
    target, expected = like(), {step: state_at(step) for step in (2, 3)}
    rng, others = random.Random(seed), [*files.values(), *before.values()]
    seen = {"detected": 0, "harmless": 0, "silent": 0}
    slowest = 0.0
    names = sorted(files)
    for number in range(COUNT):
        name = names[number % len(names)]
        damage = rng.choice(DAMAGES) if files[name] else rng.choice((extend, delete))
        changed = damage(files[name], rng, others)
        if changed is None:
            (folder / "3" / name).unlink()
        else:
            (folder / "3" / name).write_bytes(changed)
        warnings, began = [], time.monotonic()
        checkpoints = Checkpoints(folder, 2, warnings.append)
        state, meta = checkpoints.restore(target)
        checkpoints.close()
        slowest = max(slowest, time.monotonic() - began)
        step, told = int(state.step), (str(name), damage.__name__, number)
        quarantine = tmp_path / "quarantine"
        moved = [path.name for path in quarantine.iterdir()] if quarantine.exists() else []
        try:
            assert step in (2, 3) and meta["step"] == step
            assert_same_bits(state, expected[step])
        except AssertionError:
            seen["silent"] += 1
            print("silent:", *told)
        if step == 2:
            seen["detected"] += 1
            assert moved == ["3"] and "checkpoint 3 cannot be used" in " ".join(warnings), told
            kept = read(quarantine / "3")
            assert kept.get(name) == changed and len(kept) >= len(files) - 1, "nothing is deleted"
        else:
            seen["harmless"] += 1
            assert (moved, warnings) == ([], []), told
        shutil.rmtree(quarantine, ignore_errors=True)
        write(folder / "3", files)
        if number % 100 == 99:
            gc.collect()
    for name, count in seen.items():
        record_property(name, count)
    record_property("files", len(files))
    assert seen["silent"] == 0
    assert seen["detected"] >= COUNT // 10, "hardly anything was damaged"
    assert slowest < 30
