"""The receipt of a run: for every start, what could have changed its bits."""

import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.training import machine
from zoo.training.source import describe_source

FILE = "receipt.json"
PACKAGES = (
    "zoo-jax", "jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "tensorstore",
    "grain", "numpy", "scikit-learn",
)  # fmt: skip


def describe_start(
    config: dict[str, Any],
    data: dict[str, Any],
    warm_start: dict[str, Any],
    resumed_at: int,
    steps_per_dispatch: int,
    mesh: dict[str, int],
    own: Iterable[type],
) -> dict[str, Any]:
    """What this start of a run is made of: versions, devices, flags, source, data.

    Args:
        config: the resolved config.
        data: fingerprint of the examples and of the order they are read in, and their counts.
        warm_start: step and params_digest of the checkpoint that `init_from` named; empty without.
        resumed_at: step it starts from.
        steps_per_dispatch: as it was chosen.
        mesh: how the devices of the run are laid out.
        own: classes of the model, task and data.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "resumed_at": resumed_at,
        "argv": sys.argv,
        "seed": config["seed"],
        "parallel": config["parallel"],
        "steps_per_dispatch": steps_per_dispatch,
        "versions": {"python": platform.python_version()} | versions(),
        "installed": installed(),
        "devices": machine.describe_devices(mesh),
        "host": machine.describe_host(),
        "flags": machine.describe_flags(),
        "settings": machine.describe_settings(),
        "source": describe_source(own),
        "data": data,
        "warm_start": warm_start,
        "config": config,
    }


def add_start(receipt: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    """The receipt with one start more. The files of one and the same source are listed once."""
    source = dict(start["source"])
    files = {source["sha256"]: source.pop("files")}
    return {
        "sources": {**receipt.get("sources", {}), **files},
        "starts": [*receipt.get("starts", []), {**start, "source": source}],
    }


def append_start(path: Path, start: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """Adds one start to `receipt.json`, which is replaced whole.

    Args:
        path: the file.
        start: as `describe_start` gives it.
        saved: the receipt in the checkpoint that the run resumes from, used where the file is
            missing or damaged.

    Returns:
        The new receipt.
    """
    receipt = saved
    if path.is_file():
        try:
            receipt = read_receipt(path.parent)
        except InputError:
            path.replace(path.with_suffix(".damaged.json"))
    receipt = add_start(receipt, start)
    write_json(path, receipt)
    return receipt


def read_receipt(folder: Path) -> dict[str, Any]:
    """`receipt.json` of a run folder.

    Raises:
        InputError: it is missing or damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} has no {FILE}; it tells what a run was made of")
    try:
        receipt = json.loads(path.read_text())
        for start in receipt["starts"]:
            if type(start["resumed_at"]) is not int or start["resumed_at"] < 0:
                raise ValueError("resumed_at is no step")
        if not receipt["starts"]:
            raise ValueError("it tells of no start")
        if not all(isinstance(files, dict) for files in receipt.get("sources", {}).values()):
            raise ValueError("sources are no lists of files")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {str(error)[:100]}") from None
    return receipt


def start_of(receipt: dict[str, Any], step: int) -> dict[str, Any]:
    """The start that computed a step: the last one that resumed before it."""
    starts = receipt["starts"]
    before = [start for start in starts if start["resumed_at"] < max(step, 1)]
    return (before or starts[:1])[-1]


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file so that a reader sees the old one or the new one, never half of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    partial.replace(path)


def installed() -> str:
    """SHA-256 of the names and versions of all that is installed: of the names of their folders,
    which need no file opened and are there when a file in them is not.
    """
    found = {path.name for place in sys.path for path in Path(place).glob("*.dist-info")}
    return hashlib.sha256(json.dumps(sorted(found)).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The installed versions of `PACKAGES`."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
