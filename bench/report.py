"""The table of one workload, for the terminal and for RESULTS.md."""

import datetime
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from bench.harness import Result, fastest_other
from bench.workloads import Workload

HEADER = """# Training speed beside other libraries

Written by `python -m bench`; a section is replaced when its workload runs again. Every peer is a
live process of its own; rounds take turns (A B C A B C ...) and the first of each is dropped. A
step is the median over the rounds, with the fastest and the slowest round. The ratio is to the
fastest of the other libraries. The first step counts from the start of the process, imports and
compilation included. Same shapes, data, optimizer and float32 everywhere.
"""

COLUMNS = ("peer", "step ms", "range", "ratio", "1st step s", "import s", "peak MiB")


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """A row of text for each peer, in the order of `COLUMNS`."""
    best = fastest_other(results)
    table = []
    for result in results:
        if not result.rounds:
            table.append((result.peer, "absent", *["-"] * (len(COLUMNS) - 2)))
            continue
        table.append(
            (
                result.peer,
                f"{result.median * 1e3:.3g}",
                f"{min(result.rounds) * 1e3:.3g}-{max(result.rounds) * 1e3:.3g}",
                f"{result.median / best.median:.3f}" if best else "-",
                f"{result.first_step:.1f}",
                f"{result.imports:.1f}",
                f"{result.peak / 2**20:.0f}",
            )
        )
    return table


def verdict(workload: Workload, results: Sequence[Result]) -> str:
    """Whether zoo's step is as fast as it has to be, in one sentence."""
    best = fastest_other(results)
    zoo = next((result for result in results if result.peer == "zoo" and result.rounds), None)
    if zoo is None or best is None:
        return "No ratio: zoo and one other peer are needed."
    ratio = zoo.median / best.median
    met = "met" if ratio <= workload.target else "NOT met"
    return f"zoo / {best.peer} = {ratio:.3f}; at most {workload.target} is the target: {met}."


def terminal(workload: Workload, results: Sequence[Result]) -> Table:
    """The table for the screen."""
    table = Table(title=f"{workload.name}: {workload.title}", caption=verdict(workload, results))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "peer" else "right", no_wrap=True)
    for row in rows(results):
        table.add_row(*row)
    return table


def section(workload: Workload, results: Sequence[Result], threads: int) -> str:
    """The workload's section of RESULTS.md."""
    lines = [f"## {workload.name}: {workload.title}", ""]
    lines += [f"{datetime.date.today()}, {machine()}, {threads} threads a peer.", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", f"|---{'|---:' * (len(COLUMNS) - 1)}|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(results)]
    lines += ["", verdict(workload, results), ""]
    for result in results:
        versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
        text = f"{versions}; {result.parameters:,} parameters; {result.form}"
        lines.append(f"- {result.peer}: {result.absent or text}")
    return "\n".join(lines) + "\n"


def write(path: Path, name: str, text: str) -> None:
    """Puts a workload's section into the file in place of its former one, in sorted order."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = {part[3:].partition(":")[0]: part for part in re.split(r"(?m)^(?=## )", old)[1:]}
    sections[name] = text
    parts = [HEADER, *(sections[key].strip() + "\n" for key in sorted(sections))]
    path.write_text("\n".join(parts), encoding="utf-8")


def machine() -> str:
    """Processor and number of cores."""
    processor = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        found = re.search(r"(?m)^model name\s*: (.*)$", text)
        processor = found[1] if found else processor
    except OSError:
        pass
    return f"{processor}, {os.cpu_count()} cores"
