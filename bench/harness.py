"""Peers as live processes and rounds in turn, so that all meet the same moods of the machine."""

import json
import math
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.workloads import Workload

ROOT = Path(__file__).resolve().parents[1]


class PeerError(RuntimeError):
    """A peer's process died or computed nonsense; the message ends with what it printed."""


@dataclass
class Result:
    """What was measured of one peer on one workload."""

    peer: str
    absent: str = ""
    """Why there is nothing else, such as a library that is not installed."""
    first_step: float = math.nan
    """Seconds from the start of the process to the end of its first step (or chunk of steps)."""
    imports: float = math.nan
    """Seconds to import the library."""
    peak: int = 0
    """Largest resident memory of the process, bytes."""
    parameters: int = 0
    form: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    rounds: list[float] = field(default_factory=list)
    """Seconds of one step, in each round that counts."""

    @property
    def median(self) -> float:
        """Seconds of one step; NaN where nothing was measured."""
        return statistics.median(self.rounds) if self.rounds else math.nan


class Peer:
    """The process of one peer; answers one request at a time."""

    def __init__(self, name: str, python: str, workload: Workload, threads: int) -> None:
        self.result = Result(name)
        self._printed = tempfile.TemporaryFile("w+")
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "NPROC": str(threads)}
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            [python, "-m", f"bench.peers.{name}_peer", workload.name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._printed,
            text=True, cwd=ROOT, env=environment,
        )  # fmt: skip

    def start(self) -> bool:
        """Imports, builds and makes the first step; False where the library is absent."""
        answer = self._ask({"do": "start"})
        if "absent" in answer:
            self.result.absent = answer["absent"]
            return False
        self.result.first_step = time.perf_counter() - self._began
        self.result.imports = answer["import"]
        self.result.form = answer["form"]
        self.result.parameters = answer["parameters"]
        self.result.versions = answer["versions"]
        self._granularity = answer["granularity"]
        return True

    def calibrate(self, seconds: float) -> None:
        """Finds how many steps last about that long."""
        self._steps = self._granularity
        while (spent := self._round(self._steps)) < seconds / 4:
            self._steps = self._multiple(self._steps * max(2, min(16, seconds / spent / 2)))
        self._steps = self._multiple(self._steps * seconds / spent)

    def measure(self) -> float:
        """Seconds of one step, over one round."""
        return self._round(self._steps) / self._steps

    def stop(self) -> None:
        """Ends the process and notes its peak memory."""
        self.result.peak = self._ask({"do": "stop"})["peak"]
        self._process.wait(timeout=60)

    def close(self) -> None:
        """Ends the process whatever it does."""
        self._process.kill()
        self._process.wait()
        self._printed.close()

    def _multiple(self, steps: float) -> int:
        return max(1, round(steps / self._granularity)) * self._granularity

    def _round(self, steps: int) -> float:
        answer = self._ask({"do": "round", "steps": steps})
        if not math.isfinite(answer["loss"]):
            raise PeerError(f"{self.result.peer}: the loss became {answer['loss']}")
        return answer["seconds"]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._printed.seek(0)
            tail = self._printed.read()[-3000:]
            raise PeerError(f"{self.result.peer}: the process ended with\n{tail}")
        return json.loads(line)


def compare(
    workload: Workload,
    pythons: dict[str, str],
    rounds: int,
    seconds: float,
    threads: int,
    say: Callable[[str], None],
) -> list[Result]:
    """Measures all peers on a workload, a round of each in turn; the first of each is dropped.

    Args:
        workload: what they train.
        pythons: interpreter by peer's name, in the order of the rounds.
        rounds: rounds of each peer that count.
        seconds: about how long one round lasts.
        threads: of each peer.
        say: told what is being done.

    Raises:
        PeerError: a process died, or its loss is not finite.
    """
    peers: list[Peer] = []
    results: list[Result] = []
    try:
        for name, python in pythons.items():
            say(f"{workload.name}: {name} starts")
            peer = Peer(name, python, workload, threads)
            peers.append(peer)
            results.append(peer.result)
            if not peer.start():
                say(f"{workload.name}: {name} IS ABSENT: {peer.result.absent}")
                peers.remove(peer)
                peer.close()
                continue
            peer.calibrate(seconds)
        for number in range(rounds + 1):
            say(f"{workload.name}: round {number} of {rounds}{'' if number else ', dropped'}")
            for peer in peers:
                spent = peer.measure()
                if number:
                    peer.result.rounds.append(spent)
        for peer in peers:
            peer.stop()
    finally:
        for peer in peers:
            peer.close()
    return results


def fastest_other(results: Sequence[Result]) -> Result | None:
    """The fastest peer that is not zoo; None where none was measured."""
    others = [result for result in results if result.peer != "zoo" and result.rounds]
    return min(others, key=lambda result: result.median, default=None)
