"""Compiled programs are kept for the length of the session: many tests train the same tiny run."""

import dataclasses
import shutil

import pytest
from compile_cache import compiled_once  # noqa: F401 (a fixture of every test here)
from tiny_runs import again, features_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run trained to its end, never stopped: 12 steps, checkpoints at 4, 8 and 12. Read only."""
    run = features_run(tmp_path_factory.mktemp("finished"), average=0.9, tensorboard=True, keep=3)
    again(run)
    return run


@pytest.fixture
def trained(finished, tmp_path):
    """A copy of `finished` to change."""
    folder = shutil.copytree(finished.workdir, tmp_path / "run")
    return dataclasses.replace(finished, workdir=str(folder))
