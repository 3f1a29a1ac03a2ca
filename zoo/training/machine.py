"""What runs a program and can change its bits: devices, processor, flags, settings of JAX."""

import hashlib
import math
import os
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

FLAGS = ("LIBTPU_INIT_ARGS", "NPROC", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG")
SETTINGS = (
    "jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl",
    "jax_threefry_partitionable", "jax_numpy_dtype_promotion", "jax_numpy_rank_promotion",
    "jax_disable_jit",
)  # fmt: skip


def describe_devices(mesh: dict[str, int]) -> dict[str, Any]:
    """The devices there are, and those of the run along the axes of its mesh."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "used": math.prod(mesh.values()),
        "processes": jax.process_count(),
        "mesh": mesh,
    }


def describe_host() -> dict[str, Any]:
    """The processor: XLA compiles for its instruction set, and sums in parts for its cores."""
    model, instructions = _processor()
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": model,
        "instruction_set": hashlib.sha256(" ".join(instructions).encode()).hexdigest()[:16],
        "cores": _usable_cores(),
    }


def describe_flags() -> dict[str, str]:
    """The environment that compilers and libraries read."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name in FLAGS or name.startswith(("JAX_", "XLA_"))
    }


def describe_settings() -> dict[str, Any]:
    """The settings of JAX that change results, from wherever they were set."""
    found = {name: getattr(jax.config, name, None) for name in SETTINGS}
    return {
        name: value if isinstance(value, bool | int | str | None) else str(value)
        for name, value in found.items()
    } | {"float": np.dtype(jax.dtypes.canonicalize_dtype(float)).name}


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _processor() -> tuple[str, list[str]]:
    """Its name and the sorted names of its instruction sets, where the system tells them."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
            if not line.strip() and fields.keys() & {"flags", "Features"}:
                break  # the first processor tells enough
    except OSError:
        return platform.processor(), []
    instructions = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or platform.processor(), sorted(instructions.split())
