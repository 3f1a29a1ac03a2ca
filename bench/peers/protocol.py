"""What a peer's process says and hears: a line of JSON for each request.

    {"do": "start"}               -> seconds of import, versions, form, parameters ...
    {"do": "round", "steps": n}   -> seconds of n steps, the last loss
    {"do": "stop"}                -> peak memory

A peer whose library is not installed answers its start with {"absent": reason}.
"""

import importlib
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.workloads import WORKLOADS, Workload


@dataclass(frozen=True)
class Session:
    """A network ready to train."""

    run: Callable[[int], float]
    """Makes that many steps, waits until they are done and returns the last loss."""
    form: str
    """How the library is used, for the report."""
    parameters: int
    """Number of trainable parameters."""
    granularity: int = 1
    """Steps come in multiples of this."""


def serve(
    modules: tuple[str, ...],
    distributions: tuple[str, ...],
    build: Callable[[Workload, int], Session],
) -> None:
    """Answers requests from stdin until told to stop.

    Args:
        modules: what a program that trains imports; the import is timed.
        distributions: packages whose versions are reported.
        build: makes the session of a workload for a number of threads.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    workload, threads = WORKLOADS[sys.argv[1]], int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):  # not every library has a number of threads to set
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    session = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "start":
            start = time.perf_counter()
            try:
                for module in modules:
                    importlib.import_module(module)
            except ModuleNotFoundError as error:
                answer = {"absent": str(error)}
            else:
                imported = time.perf_counter() - start
                session = build(workload, threads)
                loss = session.run(session.granularity)
                answer = {
                    "import": imported,
                    "loss": loss,
                    "form": session.form,
                    "parameters": session.parameters,
                    "granularity": session.granularity,
                    "versions": {
                        "Python": platform.python_version(),
                        **{name: importlib.metadata.version(name) for name in distributions},
                    },
                }
        elif request["do"] == "round":
            assert session is not None
            start = time.perf_counter()
            loss = session.run(request["steps"])
            answer = {"seconds": time.perf_counter() - start, "loss": loss}
        else:
            unit = 1 if sys.platform == "darwin" else 1024
            answer = {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
        print(json.dumps(answer), file=answers, flush=True)
        if request["do"] == "stop":
            return
