"""Several processes, one program: the start of `jax.distributed`."""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils

from zoo.errors import InputError, RunError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
HEARTBEAT = 40
"""Seconds of silence after which a process counts as dead, which ends the others: JAX waits 100."""


def start_processes() -> None:
    """Joins the other processes of the job, where the environment speaks of any.

    On TPU VMs of several hosts, under Slurm and on GKE the arguments are found by JAX itself;
    elsewhere the three variables of `VARIABLES` give them.

    Raises:
        InputError: only some of the three variables are set, or one is no number.
    """
    given = [name for name in VARIABLES if os.environ.get(name)]
    if given:
        if missing := sorted(set(VARIABLES) - set(given)):
            raise InputError(f"{', '.join(given)} set, but not {', '.join(missing)}")
        address, count, index = (os.environ[name] for name in VARIABLES)
        if not (count.isdigit() and index.isdigit()):
            raise InputError("JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole numbers")
        jax.distributed.initialize(
            address, int(count), int(index), heartbeat_timeout_seconds=HEARTBEAT
        )
    elif len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT)


def largest(value: int) -> int:
    """The largest of the processes' values; every process must call it at the same point."""
    if jax.process_count() == 1:
        return value
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def wait_for_all(name: str) -> None:
    """Returns once every process is here. `name` is the same on all of them."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


LOST = ("Gloo", "by peer", "heartbeat", "coordination service", "Barrier failed")
"""Words of what jax raises when a process that others wait for has ended."""


def lost_process(error: Exception) -> RunError | None:
    """What to say of an error that another process caused by ending; None for all others."""
    if jax.process_count() == 1 or not any(word in str(error) for word in LOST):
        return None
    first = str(error).strip().splitlines()[0][:300]
    return RunError(
        f"another of the {jax.process_count()} processes of this job has ended ({first}); its name "
        f"follows within {HEARTBEAT} s. What was saved is untouched; run the same command again"
    )
