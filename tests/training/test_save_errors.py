"""Saves that fail while a run goes on, and digests of leaves that no process holds whole."""

import errno

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tiny_runs import again, features_run

from zoo.errors import RunError
from zoo.training.checkpoints import Checkpoints
from zoo.training.state import differing_leaf, leaf_digests


@pytest.fixture
def failing(monkeypatch):
    """Every save of step 4 fails, and leaves a temporary folder behind."""
    save = ocp.CheckpointManager.save

    def fails(self, step, *args, **kwargs):
        if step == 4:
            (self.directory / "4.orbax-checkpoint-tmp").mkdir()
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(self, step, *args, **kwargs)

    monkeypatch.setattr(ocp.CheckpointManager, "save", fails)


def test_a_failed_save_stops_the_run(tmp_path, failing):
    with pytest.raises(RunError, match="no space left on the disk"):
        again(features_run(tmp_path))


def test_a_run_can_go_on_without_a_save(tmp_path, failing, capfd, monkeypatch):
    run = features_run(tmp_path, on_save_error="warn", keep=5)
    result = again(run)
    assert "warning: saving a checkpoint" in capfd.readouterr().err
    saved = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert saved == {"8", "12"}
    monkeypatch.undo()
    assert result == again(features_run(tmp_path, workdir=str(tmp_path / "other")))


def test_what_fails_at_closing_is_told_as_the_run_asks(tmp_path, monkeypatch):
    def fails(self):
        raise ValueError("the save failed again")

    monkeypatch.setattr(ocp.CheckpointManager, "close", fails)
    with pytest.raises(RunError, match="the save failed again"):
        Checkpoints(tmp_path / "stop").close()
    told = []
    Checkpoints(tmp_path / "warn", warn=told.append, on_error="warn").close()
    assert len(told) == 1 and "the save failed again" in told[0]


def test_sums_see_what_a_digest_sees():
    tree = {"a": jnp.arange(12.0).reshape(4, 3), "b": jnp.ones(5, jnp.bfloat16)}
    digests = leaf_digests(tree, ["a"])
    assert digests["a"].startswith("sums:") and len(digests["b"]) == 64
    mesh = Mesh(np.asarray(jax.devices()[:4]), ("data",))
    cut = tree | {"a": jax.device_put(tree["a"], NamedSharding(mesh, P("data")))}
    assert differing_leaf(cut, digests) is None
    assert differing_leaf(tree | {"a": np.asarray(tree["a"])}, digests) is None
    for change in (
        tree["a"].at[3, 2].set(np.nextafter(np.float32(11), np.float32(12))),
        tree["a"][::-1],
        -tree["a"],
    ):
        assert differing_leaf(tree | {"a": change}, digests) == "a"
    assert differing_leaf(tree | {"b": tree["b"] * 2}, digests) == "b"
