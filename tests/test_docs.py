"""Every code block of the guides runs, in the order of its page, in one folder per page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONG = ("question-answering", "reading", "vision")
PAGES = [
    pytest.param(page, marks=pytest.mark.full if page.stem in LONG else pytest.mark.slow)
    for page in sorted((ROOT / "docs").glob("*.md"))
]
BLOCK = re.compile(r"^```(python|bash)(?: file=(\S+))?\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_guide_runs(page: Path, tmp_path: Path) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, module in (("python", ""), ("zoo", "-m zoo.cli")):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        script.chmod(0o755)
    (tmp_path / "train.py").write_text((ROOT / "train.py").read_text())
    environment = os.environ | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
    }
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks, f"{page.name} has no code block"
    for language, file, code in blocks:
        if file:
            with open(tmp_path / file, "a", encoding="utf-8") as target:
                target.write(code + "\n")
            continue
        command = ["bash", "-euc", code] if language == "bash" else [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=170
        )
        assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
