"""What the README says runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run() -> None:
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", README)
    assert blocks
    for block in blocks:
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", block], cwd=ROOT, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        assert "(2, 5)" in result.stdout


def test_its_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    named = set(re.findall(r"(?m)^\| `zoo (\w+)", README))
    assert cli.main(["--help"]) == 0
    offered = set(re.findall(r"(?m)^  (\w+)  ", capsys.readouterr().out))
    assert named == offered


def test_its_verbs_exist() -> None:
    verbs = set(re.findall(r"\bzoo\.(\w+)\(", README))
    assert verbs and verbs <= set(zoo.__all__)


def test_its_test_command_is_one_line() -> None:
    assert len(re.findall(r"(?m)^pip install .*&& pytest$", README)) == 1
