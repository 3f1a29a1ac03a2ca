"""What the README says runs."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import golden_models
import numpy as np
import pytest
import tokenizer_folders

import zoo
from zoo import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the hub with small models under the names that the README uses."""
    cache = tmp_path_factory.mktemp("hub")
    named = {
        "google-bert/bert-base-uncased": ("BertModel", tokenizer_folders.bert),
        "openai-community/gpt2": ("GPT2LMHeadModel", tokenizer_folders.gpt2),
    }
    for name, (model, tokenizer) in named.items():
        home = cache / f"models--{name.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs/main").write_text("0" * 40)
        folder = home / "snapshots" / ("0" * 40)
        folder.mkdir(parents=True)
        tokenizer(folder)
        config, _, tensors, _ = golden_models.read(model)
        config, tensors = widened(config, tensors, 400, 32)
        golden_models.write_folder(folder, config, tensors)
    return cache


def widened(
    config: dict[str, Any], tensors: dict[str, np.ndarray], tokens: int, length: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A frozen model with more tokens and positions: its tables repeated."""
    places = next(key for key in ("max_position_embeddings", "n_positions") if key in config)
    rows = {config["vocab_size"]: tokens, config[places]: length}
    tables = re.compile(r"(word|position)_embeddings|wte|wpe")
    wider = {
        name: np.resize(tensor, (rows[len(tensor)], tensor.shape[1]))
        if tables.search(name)
        else tensor
        for name, tensor in tensors.items()
    }
    return config | {"vocab_size": tokens, places: length}, wider


@pytest.mark.slow
def test_python_blocks_run(hub: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", README)
    assert len(blocks) == 2
    environment = os.environ | {
        "HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    for block, printed in zip(blocks, ("(2, 5)", "quick brown fox"), strict=True):
        # A head that starts anew is warned about.
        result = subprocess.run(
            [sys.executable, "-W", "error", "-W", "ignore::UserWarning:__main__", "-c", block],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert printed in result.stdout
    assert (tmp_path / "classifier/model.safetensors").is_file()


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
