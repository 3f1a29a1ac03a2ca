"""Replay tells when the package's own code was edited since a run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import again, features_run

ROOT = Path(__file__).parents[2]
EDITS = {
    "step.py": ("training/step.py", "(leaf / weight)", "(leaf / (weight + 1))", 1, "dense1/bias"),
    "dense.py": ("nn/dense.py", "zeros", "ones", 0, "dense1/bias"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = features_run(tmp_path_factory.mktemp("edited"))
    again(run)
    return run


@pytest.mark.parametrize("name", sorted(EDITS))
def test_edited_code_of_the_package_is_found(tmp_path, finished, name):
    file, old, new, step, leaf = EDITS[name]
    shutil.copytree(ROOT / "zoo", tmp_path / "zoo", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "zoo" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from zoo.cli import main; sys.exit(main())",
         "replay", finished.workdir],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert f"first difference at step {step}" in done.stdout
    assert f"first parameter: {leaf}" in done.stdout
    assert f"likely cause: edited source: zoo/{file}" in done.stdout
