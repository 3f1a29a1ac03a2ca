"""What five small runs computed before: the same bits where the same machine computes them.

Bits depend on jaxlib, the instruction set, the threads and the devices, so digests are kept by
these; elsewhere the losses have to agree. `ZOO_WRITE_GOLDENS=1` writes what is found, to be
looked at before it is kept.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tiny_runs import losses_of

from zoo.training.machine import describe_host

FILE = Path(__file__).parent / "golden" / "runs.json"


def machine() -> str:
    """What the bits of a run depend on, apart from the run."""
    host = describe_host()
    threads = os.environ.get("NPROC", host["cores"])
    parts = (f"jaxlib-{version('jaxlib')}", host["machine"], host["instruction_set"])
    return " ".join((*parts, f"threads-{threads}", f"devices-{jax.device_count()}"))


def check_golden(name: str, run: Any, result: dict[str, Any]) -> None:
    """Compares a finished run with its golden."""
    golden = json.loads(FILE.read_text()) if FILE.exists() else {}
    losses = losses_of(run)
    if os.environ.get("ZOO_WRITE_GOLDENS"):
        kept = golden.setdefault(name, {"losses": losses, "digests": {}})
        kept["digests"][machine()] = result["params_digest"]
        FILE.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    np.testing.assert_allclose(losses, golden[name]["losses"], rtol=1e-4)
    wanted = golden[name]["digests"].get(machine())
    assert wanted in (None, result["params_digest"])
