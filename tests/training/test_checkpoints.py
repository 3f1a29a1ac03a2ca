"""Checkpoints: whole or not used; never silently wrong, never silently from scratch."""

import errno
import gc
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from tiny_runs import assert_same_bits

from zoo.errors import RunError
from zoo.training.checkpoints import Checkpoints, _sum, abstract_state
from zoo.training.state import initial_state

# Orbax leaves coroutines behind after an error, which "ignore" it when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected():
    """What a test leaves behind is collected before the next test, which has no such filter."""
    yield
    gc.collect()


def state_at(step: int, width: int = 8):
    """A state with every kind of leaf, filled with random bits of `step`."""
    rng = np.random.default_rng(step)
    variables = {
        "params": {"dense1": {"kernel": jnp.zeros((width, 4)), "bias": jnp.zeros(4, jnp.bfloat16)}},
        "batch_stats": {"norm": {"mean": jnp.zeros(3)}},
    }
    state = initial_state(variables, optax.adam(0.1), 7, average=True)
    state = jax.tree.map(
        lambda leaf: (
            jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
            else leaf
        ),
        state,
    )
    return state.replace(step=jnp.int32(step))


def like(width: int = 8):
    shapes = jax.eval_shape(lambda: state_at(0, width))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return abstract_state(shapes, jax.tree.map(lambda _: here, shapes))


def save(folder, scores, keep_last=2):
    """Saves steps 1, 2, ... with the given scores."""
    checkpoints = Checkpoints(folder, keep_last, pytest.fail)
    for step, score in enumerate(scores, start=1):
        checkpoints.save(step, state_at(step), {"note": "as given"}, score)
    checkpoints.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run folder with the checkpoints 2 and 3."""
    folder = tmp_path_factory.mktemp("run")
    save(folder / "checkpoints", [None, None, None])
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "run") / "checkpoints"


def restore(folder):
    """The restored (state, meta) and the warnings."""
    warnings = []
    checkpoints = Checkpoints(folder, 2, warnings.append)
    try:
        return checkpoints.restore(like()), warnings
    finally:
        checkpoints.close()


def test_a_round_trip_keeps_every_bit(saved, folder):
    (state, meta), warnings = restore(folder)
    assert_same_bits(state, state_at(3))
    assert (meta["note"], meta["step"], warnings) == ("as given", 3, [])
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(state_at(3)), strict=True):
        assert ours.dtype == theirs.dtype and not ours.weak_type
    assert jax.tree.structure(state) == jax.tree.structure(state_at(3))


def test_no_checkpoint_is_no_error(tmp_path):
    assert restore(tmp_path / "checkpoints") == (None, [])


@pytest.mark.parametrize(
    "scores, kept, best",
    [
        ([0.1, 0.2, 0.9, 0.4, 0.5], [3, 4, 5], 3),  # best_fn with max_to_keep would drop 5
        ([0.9, 0.1, 0.1, 0.1, 0.2], [1, 4, 5], 1),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [4, 5], 5),
        ([0.5, None, 0.4, None, None], [1, 4, 5], 1),
        ([None, None, None], [2, 3], None),
        ([0.5, 0.5, 0.5], [1, 2, 3], 1),
    ],
)
def test_the_last_and_the_best_are_kept(tmp_path, scores, kept, best):
    save(tmp_path / "checkpoints", scores)
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2, pytest.fail)
    assert checkpoints.steps() == kept
    assert checkpoints.best_step() == best
    restored = checkpoints.restore(like())
    assert int(restored[0].step) == len(scores)
    if best:
        assert_same_bits(checkpoints.restore(like(), best)[0], state_at(best))
    checkpoints.close()


def flip(path):
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, min(len(data) // 2 + 8, len(data))):
        data[at] ^= 0xFF
    path.write_bytes(data)


def flip_one_bit(path):
    data = bytearray(path.read_bytes())
    if data:
        data[2 * len(data) // 3] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [flip_one_bit, truncate, delete])
def test_damage_to_any_file_is_seen_or_harmless(saved, tmp_path, damage):
    """Whatever file of the newest step is damaged: that step bit for bit, or the one before."""
    files = sorted(
        p.relative_to(saved) for p in (saved / "checkpoints/3").rglob("*") if p.is_file()
    )
    assert len(files) > 8
    fell_back = 0
    for number, name in enumerate(files):
        folder = shutil.copytree(saved, tmp_path / str(number)) / "checkpoints"
        damage(folder.parent / name)
        (state, meta), warnings = restore(folder)
        step = int(state.step)
        assert step in (2, 3), name
        assert_same_bits(state, state_at(step))
        assert meta["step"] == step
        quarantined = [path.name for path in (folder.parent / "quarantine").glob("*")]
        if step == 2:
            fell_back += 1
            assert quarantined == ["3"], name
            assert len(warnings) == 1 and "checkpoint 3 cannot be used" in warnings[0], name
        else:
            assert (quarantined, warnings) == ([], []), name
    assert fell_back >= 3


def test_a_step_is_verified_without_its_model(folder):
    checkpoints = Checkpoints(folder, 2, pytest.fail, read_only=True)
    state, meta = checkpoints.verified(3)
    assert_same_bits(state["params"], state_at(3).params)
    assert meta["note"] == "as given"
    flip(next(p for p in sorted((folder / "3" / "state").rglob("d/*")) if p.stat().st_size > 100))
    with pytest.raises(Exception):  # noqa: B017 (Orbax has a dozen types)
        checkpoints.verified(3)
    assert int(checkpoints.verified(2)[0]["step"]) == 2
    checkpoints.close()


def test_a_changed_number_with_a_valid_file_is_seen(folder):
    """Weights of another save under the digests of this one."""
    checkpoints = Checkpoints(folder, 5, pytest.fail)
    meta = checkpoints.meta(3)
    checkpoints.close()
    manager = ocp.CheckpointManager(folder, item_names=("state", "meta"))
    other = state_at(3).replace(best=jnp.float32(-1.0))
    meta = {key: value for key, value in meta.items() if key != "sha256"} | {"step": 4}
    manager.save(4, args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(other), meta=ocp.args.JsonSave(meta | {"sha256": _sum(meta)})
    ))  # fmt: skip
    manager.close()
    (state, _), warnings = restore(folder)
    assert int(state.step) == 3
    assert "best differs from its digest" in warnings[0]


def test_all_damaged_is_an_error_and_not_a_new_start(folder):
    for step in (2, 3):
        for path in (folder / str(step) / "meta").rglob("metadata"):
            empty(path)
    with pytest.raises(RunError, match="no whole checkpoint"):
        restore(folder)
    assert sorted(path.name for path in (folder.parent / "quarantine").iterdir()) == ["2", "3"]
    with pytest.raises(RunError, match="no whole checkpoint"):  # and stays one
        restore(folder)


def test_stray_folders_do_not_stop_a_resume(folder):
    (folder / "9").mkdir()
    shutil.copytree(folder / "3" / "state", folder / "10" / "state")
    (folder / "11.orbax-checkpoint-tmp-123").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "backup").mkdir()
    (state, _), warnings = restore(folder)
    assert int(state.step) == 3
    assert len(warnings) == 2
    assert sorted(p.name for p in (folder.parent / "quarantine").iterdir()) == ["10", "9"]
    assert (folder / "notes.txt").exists() and (folder / "backup").exists()


def test_a_step_under_another_name_is_not_believed(folder):
    shutil.copytree(folder / "3", folder / "12")
    (state, _), warnings = restore(folder)
    assert int(state.step) == 3
    assert "it says that it is step 3" in warnings[0]


def test_a_file_in_the_place_of_a_step_is_passed_over(folder):
    (folder / "9").write_text("not a folder")
    (state, _), _ = restore(folder)
    assert int(state.step) == 3


def test_quarantine_never_overwrites(folder):
    for _ in range(2):
        (folder / "9").mkdir()
        restore(folder)
    assert sorted(p.name for p in (folder.parent / "quarantine").iterdir()) == ["9", "9.1"]


def test_a_step_that_was_set_aside_can_be_saved_again(folder):
    for path in (folder / "3" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            flip(path)
    checkpoints = Checkpoints(folder, 2, lambda _: None)
    assert int(checkpoints.restore(like())[0].step) == 2
    checkpoints.save(3, state_at(3), {}, None)
    checkpoints.close()
    (state, _), warnings = restore(folder)
    assert (int(state.step), warnings) == (3, [])


def test_another_model_is_no_damage(folder):
    checkpoints = Checkpoints(folder, 2, pytest.fail)
    other = like().replace(params={"elsewhere": like().params["dense1"]})
    with pytest.raises(RunError, match="another model or optimizer"):
        checkpoints.restore(other)
    with pytest.raises(RunError, match="another model or optimizer"):
        checkpoints.restore(like(width=9))
    checkpoints.close()
    assert (folder / "3").is_dir() and not (folder.parent / "quarantine").exists()


def test_read_only_moves_nothing(folder):
    flip(next(p for p in (folder / "3" / "meta").rglob("metadata")))
    (folder / "9").mkdir()
    before = sorted(str(p) for p in folder.parent.rglob("*"))
    warnings = []
    checkpoints = Checkpoints(folder, 2, warnings.append, read_only=True)
    state, _ = checkpoints.restore(like())
    checkpoints.close()
    assert int(state.step) == 2
    assert "trying the one before" in " ".join(warnings)
    assert sorted(str(p) for p in folder.parent.rglob("*")) == before


def fails_to_write(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failing_save_is_loud_and_keeps_the_last(folder, monkeypatch):
    checkpoints = Checkpoints(folder, 2, pytest.fail)
    monkeypatch.setattr(type(checkpoints._manager), "save", fails_to_write)
    with pytest.raises(RunError, match="no space left.*run the same command again"):
        checkpoints.save(4, state_at(4), {}, None)
    monkeypatch.undo()
    checkpoints.close()
    (state, _), warnings = restore(folder)
    assert (int(state.step), warnings) == (3, [])


@pytest.mark.parametrize("keep", [1, 2])
def test_the_first_save_after_a_restart_fails_loudly_too(saved, tmp_path, monkeypatch, keep):
    """Orbax asks for the scores of older steps while it saves; reading them then lost the error."""
    folder = shutil.copytree(saved, tmp_path / "again") / "checkpoints"
    checkpoints = Checkpoints(folder, keep, pytest.fail)
    with monkeypatch.context() as patched:
        patched.setattr("os.rename", fails_to_write)
        with pytest.raises(RunError, match="no space left"):
            checkpoints.save(4, state_at(4), {}, None)
            checkpoints.finish()
    checkpoints.close()
    assert {path.name for path in folder.iterdir()} >= {"2", "3"}
    assert int(restore(folder)[0][0].step) == 3


def test_a_full_disk_keeps_what_was_saved(small_disk):
    """Saves of 128 KiB until nothing fits; then the newest that was reported is there."""
    folder = small_disk(1024) / "checkpoints"
    wide, done = 2**12, []
    checkpoints = Checkpoints(folder, 20, pytest.fail)
    with pytest.raises(RunError, match="failed: no space left on the disk"):
        for step in range(1, 20):
            checkpoints.save(step, state_at(step, wide), {}, None)
            checkpoints.finish()
            done.append(step)
    assert done
    assert not list(folder.glob("*tmp*")), "what failed to be saved still fills the disk"
    reopened = Checkpoints(folder, 20, lambda _: None)
    state, _ = reopened.restore(like(wide))
    assert int(state.step) == done[-1]
    assert_same_bits(state, state_at(done[-1], wide))
    reopened.close()


def test_digests_are_in_the_checkpoint(folder):
    checkpoints = Checkpoints(folder, 2, pytest.fail)
    meta = checkpoints.meta(3)
    checkpoints.close()
    assert json.loads(json.dumps(meta)) == meta
    assert set(meta["digests"]) >= {
        "params/dense1/kernel",
        "opt_state/0/count",
        "average/dense1/bias",
    }
    assert all(len(digest) == 64 for digest in meta["digests"].values())
