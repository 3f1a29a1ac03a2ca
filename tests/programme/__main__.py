"""`python -m tests.programme`: runs the parts of the programme and prints their figures."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.programme.table import OUTSIDE_SUITE, PARTS, Part

ROOT = Path(__file__).parents[2]
FAILED = ("failed", "missing")
running: set[int] = set()
"""Sessions of tests under way, which end with this command."""


def end(number: int, _: Any) -> None:
    """Ends the tests with this command, which bear no signal of its terminal."""
    for group in list(running):
        os.killpg(group, signal.SIGKILL)
    os._exit(128 + number)


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.programme", description=__doc__)
    ids = [part.id for part in PARTS]
    parser.add_argument("--long", action="store_true", help="the counts of the long form")
    parser.add_argument("--only", nargs="+", metavar="ID", choices=ids, default=ids)
    parser.add_argument("--count", nargs="+", metavar="ID=N", default=[], help="counts of your own")
    parser.add_argument("--seed", type=int, default=0, help="of every random moment and change")
    parser.add_argument("--jobs", type=int, default=2, help="parts at a time")
    parser.add_argument("--state", type=Path, help="JSON file; parts that passed run once")
    parser.add_argument("--anew", action="store_true", help="forget what --state holds")
    parser.add_argument(
        "--beside-suite", action="store_true", help="leave out the tests that plain pytest runs"
    )
    arguments = parser.parse_args(argv)
    counts = {}
    for text in arguments.count:
        name, _, number = text.partition("=")
        known = {part.id for part in PARTS if part.variable}
        if name not in known or not number.isdigit() or not int(number):
            parser.error(f"--count {text}: write ID=N, where ID is one of {', '.join(known)}")
        counts[name] = int(number)
    arguments.count = counts
    return arguments


def run_part(part: Part, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the tests of one part; returns its row of the table."""
    count = arguments.count.get(part.id, part.long if arguments.long else part.count)
    row = {"count": count, "seed": arguments.seed, "figures": {}, "seconds": 0.0}
    nodes = [node for node in part.nodes if (ROOT / node.partition("::")[0]).exists()]
    files = {node.partition("::")[0] for node in part.nodes}
    absent = sorted(file for file in files if not (ROOT / file).exists())
    if arguments.beside_suite:
        nodes = [node for node in nodes if node.startswith(OUTSIDE_SUITE)]
    if absent:
        row["told"] = f"missing: {', '.join(absent)}"
        if not nodes:
            return row | {"outcome": "missing" if arguments.long else "absent"}
    if not nodes:
        return row | {"outcome": "in the suite"}
    # A count of one's own may take as much longer as it is larger.
    minutes = part.long_minutes if arguments.long else part.minutes
    minutes *= max(1.0, count / max(part.long if arguments.long else part.count, 1))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "not full", "--no-header",
            "--durations=0", "--durations-min=60", f"--timeout={minutes * 60:.0f}",
            "-o", "junit_family=xunit1",  # the one that holds figures
            f"--junitxml={report}", *nodes,
        ]  # fmt: skip
        variables = {"ZOO_SEED": str(arguments.seed)}
        if part.variable:
            variables[part.variable] = str(count)
        process = subprocess.Popen(  # a session of its own: a limit ends what tests have started
            command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, text=True, errors="replace",
        )  # fmt: skip
        running.add(process.pid)
        try:
            output, _ = process.communicate(timeout=minutes * 60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            row["told"] = f"stopped at its limit of {minutes:.0f} minutes"
        running.discard(process.pid)
        row["figures"], skipped = read_report(report) if report.exists() else ({}, [])
    row["seconds"] = round(time.monotonic() - began, 1)
    if skipped:  # a machine that cannot run a test has not passed it; the long form insists
        row["told"] = f"skipped: {'; '.join(skipped)}"
    passed = process.returncode == 0 and not (arguments.long and (skipped or absent))
    if not passed:
        row["output"] = output[-6000:]
    return row | {"outcome": "passed" if passed else "failed"}


def read_report(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The number of tests with the figures they recorded (numbers add up), and what was skipped."""
    cases = list(ElementTree.parse(path).iter("testcase"))
    figures: dict[str, Any] = {"tests": len(cases)}
    for case in cases:
        for item in case.iter("property"):
            name, value = item.attrib["name"], item.attrib["value"]
            number = int(value) if value.isdigit() else value
            if isinstance(number, int) and isinstance(figures.get(name, 0), int):
                number += figures.get(name, 0)
            figures[name] = number
    skipped = [
        f"{case.attrib['name']}: {note.attrib.get('message', '')}"
        for case in cases for note in case.iter("skipped")
    ]  # fmt: skip
    return figures, skipped


def show(part: Part, row: dict[str, Any]) -> str:
    """A row of the closing table."""
    figures = ", ".join(f"{name} {value}" for name, value in row["figures"].items())
    told = f"{figures}{'; ' if figures and row.get('told') else ''}{row.get('told', '')}"
    count = row["count"] or "-"
    return (
        f"{part.id:3} {count:>6} {row['seconds']:8.1f} s  {row['outcome']:12} {part.what}: {told}"
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the parts asked for; 1 when one failed."""
    arguments = read_arguments(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    done: dict[str, Any] = {}
    if arguments.state and arguments.state.exists() and not arguments.anew:
        done = json.loads(arguments.state.read_text())
    began, writing = time.monotonic(), threading.Lock()

    def run(part: Part) -> tuple[Part, dict[str, Any]]:
        wanted = arguments.count.get(part.id, part.long if arguments.long else part.count)
        row = done.get(part.id)
        asked = {"count": wanted, "seed": arguments.seed, "beside_suite": arguments.beside_suite}
        if row and row["outcome"] == "passed" and asked.items() <= row.items():
            return part, row
        row = run_part(part, arguments) | asked
        print(
            show(part, row), row.get("output", ""), sep="\n" if "output" in row else "", flush=True
        )
        with writing:
            done[part.id] = row
        if arguments.state:
            with writing:
                fresh = arguments.state.with_suffix(".new")
                fresh.write_text(json.dumps(done, indent=1))
                fresh.replace(arguments.state)
        return part, row

    parts = [part for part in PARTS if part.id in arguments.only]
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        longest_first = sorted(parts, key=lambda part: -part.minutes)
        found = {part.id: row for part, row in pool.map(run, longest_first)}
    rows = [(part, found[part.id]) for part in parts]
    print("\nid   count  seconds    outcome      what: figures")
    for part, row in rows:
        print(show(part, row))
    failed = [part.id for part, row in rows if row["outcome"] in FAILED]
    ran = sum(row["outcome"] == "passed" for _, row in rows)
    print(f"\n{ran} parts passed, {len(failed)} failed {' '.join(failed)} "
          f"in {time.monotonic() - began:.1f}s")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
