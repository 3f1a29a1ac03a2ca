"""The receipt of a run: for every start, what could have changed its bits."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

PACKAGES = (
    "zoo-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy",
    "scikit-learn",
)  # fmt: skip
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NPROC")


def describe_start(run: Any, info: Any, resumed_at: int, steps_per_dispatch: int) -> dict[str, Any]:
    """What this start of a run is made of: versions, devices, flags, source, data."""
    devices = jax.devices()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "resumed_at": resumed_at,
        "argv": sys.argv,
        "seed": run.seed,
        "parallel": run.parallel,
        "steps_per_dispatch": steps_per_dispatch,
        "versions": {"python": platform.python_version()} | _versions(),
        "devices": {
            "kind": devices[0].device_kind,
            "count": len(devices),
            "used": run.devices or len(devices),
            "processes": jax.process_count(),
        },
        "host": {
            "machine": platform.machine(),
            "system": platform.system(),
            "cores": os.cpu_count(),
        },
        "flags": {
            name: value
            for name, value in sorted(os.environ.items())
            if name in FLAGS or name.startswith("JAX_")
        },
        "source": _source_revision(),
        "data": {
            "fingerprint": info.fingerprint,
            "examples": info.counts,
            "skipped": info.skipped,
        },
    }


def append_start(path: Path, start: dict[str, Any]) -> None:
    """Adds one start to `receipt.json`, which is replaced whole."""
    starts = []
    if path.is_file():
        try:
            starts = json.loads(path.read_text())["starts"]
        except (ValueError, KeyError, TypeError):
            path.replace(path.with_suffix(".damaged.json"))
    write_json(path, {"starts": [*starts, start]})


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file so that a reader sees the old one or the new one, never half of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    partial.replace(path)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _source_revision() -> dict[str, Any]:
    """Revision of the repository that holds this package, when it is run from one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return {"revision": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {}
