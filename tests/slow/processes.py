"""Real processes of `train.py`, for the slow tests."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

CONFIG = '''"""Digits by a small network{what}."""

from zoo import tasks
from zoo.config import Augment, Optimizer, Run, Schedule
from zoo.data import Digits
from zoo.models import cnn, mlp

config = Run(
    model={model},
    task=tasks.Classification(label_smoothing=0.05),
    data=Digits(view="{view}"),
    augment={augment},
    optimizer={optimizer},
    batch_size=32,
    steps={steps},
    average=0.99,
    eval_every=50,
    log_every=1,
    save_every=5,
    tensorboard=False,
)
'''
ADAM = (
    'Optimizer(name="adamw", learning_rate=2e-3, weight_decay=0.05, '
    'schedule=Schedule("cosine", 10))'
)
SGD = 'Optimizer(name="sgd", learning_rate=0.05)'
CNN = (
    'cnn.Config(layers=("conv 8 3 padding=1 bias=0", "batch_norm", "relu", "max_pool 2", '
    '"dropout 0.25", "dense 32", "relu", "dropout 0.25"), image_size=8)'
)
MLP = "mlp.Config(widths=(32,), dropout=0.25)"


def write_config(path: Path, steps: int, model: str = CNN, optimizer: str = ADAM) -> Path:
    """A config file: digits, dropout, a schedule, an average; batch norm and crops for images."""
    images = model is CNN
    path.write_text(
        CONFIG.format(
            what=" with batch norm" if images else "",
            model=model,
            optimizer=optimizer,
            view="image" if images else "features",
            steps=steps,
            augment="Augment(crop=1)" if images else "Augment()",
        )  # fmt: skip
    )
    return path


def start(config: Path, workdir: Path, *options: str, **variables: str) -> subprocess.Popen:
    """Starts `python train.py`; its stderr goes to `<workdir>.err`."""
    with open(f"{workdir}.err", "ab") as errors:
        return subprocess.Popen(
            [sys.executable, "train.py", "--config", config, "--workdir", workdir, *options],
            cwd=ROOT, env=environment(workdir.parent) | variables, stdout=subprocess.PIPE,
            stderr=errors,
        )  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """A clean environment with one compilation cache for all processes of a test."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    for name in ("NPROC", "TF_CPP_MIN_LOG_LEVEL"):  # set by the tests' own conftest and jax
        kept.pop(name, None)
    return kept | {
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def run(config: Path, workdir: Path, *options: str, **variables: str) -> dict[str, Any]:
    """Trains to the end; returns result.json."""
    process = start(config, workdir, *options, **variables)
    process.communicate(timeout=3600)
    assert process.returncode == 0, told(workdir)
    return result_of(workdir)


def told(workdir: Path) -> str:
    """The last of what its processes said on stderr."""
    return Path(f"{workdir}.err").read_text(errors="replace")[-4000:]


def result_of(workdir: Path) -> dict[str, Any]:
    return json.loads((workdir / "result.json").read_text())


def lines_of(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses_of(workdir: Path) -> dict[int, float]:
    """Training loss by step."""
    found = [(line["step"], line["loss"]) for line in lines_of(workdir) if "loss" in line]
    assert len(dict(found)) == len(found), "a step was logged twice"
    return dict(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_job(config: Path, workdir: Path, count: int, *options: str) -> list[subprocess.Popen]:
    """Starts the processes of one job."""
    address = f"127.0.0.1:{free_port()}"
    return [
        start(
            config, workdir, *options,
            JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES=str(count),
            JAX_PROCESS_ID=str(index),
        )
        for index in range(count)
    ]  # fmt: skip
