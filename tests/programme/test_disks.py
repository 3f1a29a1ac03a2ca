"""Disks that give way: the last good step stays, the error is loud, little is left behind.

`ZOO_BUDGETS` sets the number of byte budgets (default 5), `ZOO_SEED` which.
"""

import contextlib
import errno
import gc
import os
import random
import resource
from pathlib import Path

import pytest
from tiny_runs import again, assert_same_bits, features_run, losses_of
from training.test_checkpoints import like, save, state_at

from zoo.errors import RunError
from zoo.training.checkpoints import Checkpoints

COUNT = int(os.environ.get("ZOO_BUDGETS", "5"))
WIDTH = 2**12  # saves of 128 KiB and more

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected():
    """What Orbax leaves behind after an error is collected under the filter above."""
    yield
    gc.collect()


@contextlib.contextmanager
def files_of_at_most(size):
    """Every write beyond `size` bytes of a file fails, in all threads, whatever the language."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def leftovers(folder):
    return [path.name for path in folder.iterdir() if "tmp" in path.name]


def save_four(folder, width=8):
    """Tries to save step 4 and closes; the error, if there was one."""
    checkpoints = Checkpoints(folder, 2, lambda _: None)
    error = None
    try:
        checkpoints.save(4, state_at(4, width), {}, None)
        checkpoints.finish()
    except RunError as caught:
        error = caught
    with contextlib.suppress(RunError):
        checkpoints.close()
    return error


def newest(folder, width=8):
    checkpoints = Checkpoints(folder, 2, lambda _: None)
    state, _ = checkpoints.restore(like(width))
    checkpoints.close()
    return state


def test_byte_budgets(tmp_path, seed, record_property):
    rng, failed = random.Random(seed), 0
    for number in range(COUNT):
        folder = tmp_path / str(number) / "checkpoints"
        save(folder, [None, None, None])
        budget = rng.choice((0, 1, 100, 1000)) if number % 2 else rng.randrange(200_000)
        with files_of_at_most(budget):
            error = save_four(folder, WIDTH)
        left = leftovers(folder)
        assert len(left) <= 1, left
        if error is None:
            assert_same_bits(newest(folder, WIDTH), state_at(4, WIDTH))
            continue
        failed += 1
        assert "What was saved before is untouched" in str(error)
        assert_same_bits(newest(folder), state_at(3))
        assert save_four(folder) is None, "goes on once there is room"
        assert not leftovers(folder)
    record_property("budgets", COUNT)
    record_property("saves failed", failed)
    assert failed


def test_full_disks(small_disk, seed, record_property):
    """ENOSPC at so many places of a save."""
    rng = random.Random(seed + 1)
    for _ in range(COUNT):
        folder = small_disk(1024) / "checkpoints"
        save(folder, [None, None, None])
        room = os.statvfs(folder)
        room = room.f_bavail * room.f_bsize - rng.randrange(4096, 120_000)
        (folder.parent / "filler").write_bytes(bytes(max(0, room)))
        error = save_four(folder, WIDTH)
        assert error is not None and "no space left on the disk" in str(error)
        assert len(leftovers(folder)) <= 1
        (folder.parent / "filler").unlink()
        assert_same_bits(newest(folder), state_at(3))
        assert save_four(folder) is None
        assert_same_bits(newest(folder), state_at(4))
    record_property("full disks", COUNT)


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_errors_of_the_system(tmp_path, monkeypatch, number):
    """Whatever the system says when the step is put in its place."""
    folder = tmp_path / "checkpoints"
    save(folder, [None, None, None])

    def refuses(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuses)
        patched.setattr(Path, "rename", refuses)
        patched.setattr(Path, "replace", refuses)
        error = save_four(folder)
    assert error is not None and os.strerror(number).lower() in str(error).lower()
    assert len(leftovers(folder)) <= 1
    assert_same_bits(newest(folder), state_at(3))


def test_a_run_stops_loudly_and_goes_on_where_it_was(tmp_path):
    """The disk gives way in the middle of a run that keeps one checkpoint alone."""
    run = features_run(tmp_path, keep=1, save_every=2)
    whole = again(run, workdir=str(tmp_path / "whole"))
    again(run, steps=4)
    # A file of metrics fits, a digest of the state does not.
    with files_of_at_most(3000), pytest.raises((RunError, OSError)):
        again(run)
    assert again(run) == whole
    assert len(losses_of(run)) == 12
