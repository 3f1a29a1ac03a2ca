"""Measures a training step of zoo beside Keras and PyTorch; see `python -m bench --help`."""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from bench import harness, report
from bench.workloads import WORKLOADS

PEERS = ("zoo", "keras", "torch")


def main() -> int:
    """Runs the workloads named on the command line; exit code 1 where a peer is absent or fails."""
    what = "\n".join(f"  {name:<4} {workload.title}" for name, workload in WORKLOADS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"Training steps of zoo beside other libraries. Workloads:\n{what}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"of {' '.join(WORKLOADS)}; none: all"
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, help="who takes part")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PEER=PATH",
        help="interpreter of a peer, where its packages are in another environment",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=10, help="rounds that count (default 10)")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="length of a round (default 1.0)"
    )
    parser.add_argument("--threads", type=int, default=2, help="of each peer (default 2)")
    parser.add_argument(
        "--output", type=Path, default=harness.ROOT / "bench" / "RESULTS.md",
        help="file whose sections are replaced (default bench/RESULTS.md)",
    )  # fmt: skip
    options = parser.parse_args()

    names = options.workloads or list(WORKLOADS)
    for name in names:
        if name not in WORKLOADS:
            parser.error(f"unknown workload {name!r}; there are {', '.join(WORKLOADS)}")
    if min(options.rounds, options.threads) < 1 or options.seconds <= 0:
        parser.error("--rounds, --threads and --seconds must be positive")
    pythons = dict.fromkeys(options.peers, sys.executable)
    for choice in options.python:
        peer, found, path = choice.partition("=")
        if not found or peer not in PEERS:
            parser.error(f"--python {choice}: give PEER=PATH with PEER of {', '.join(PEERS)}")
        if peer in pythons:
            pythons[peer] = path

    progress, console = Console(stderr=True, highlight=False), Console()
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5:
        progress.print("this machine is busy: libraries suffer differently from it", style="red")
    complete = True
    for name in names:
        workload = WORKLOADS[name]
        try:
            results = harness.compare(
                workload, pythons, options.rounds, options.seconds, options.threads,
                lambda text: progress.print(text, markup=False, style="dim"),
            )  # fmt: skip
        except harness.PeerError as error:
            progress.print(str(error), markup=False, style="red")
            return 1
        for result in results:
            if result.absent:
                complete = False
                progress.print(
                    f"{result.peer} is absent ({result.absent}): install the extra bench, "
                    f"or name its interpreter with --python {result.peer}=PATH",
                    markup=False, style="bold red",
                )  # fmt: skip
        console.print(report.terminal(workload, results))
        report.write(options.output, name, report.section(workload, results, options.threads))
    progress.print(f"written to {options.output}", markup=False)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
