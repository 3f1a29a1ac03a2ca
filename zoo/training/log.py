"""What a run tells: a bar or lines on stderr, metrics.jsonl, its trace, TensorBoard events."""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from zoo.training.trace import Trace

QUIET = 2.0  # seconds between lines where there is no terminal to draw a bar on


class Log:
    """The log of one start of a run, from `first` step to `last`.

    Metrics are read late: a logged step is written when the next one arrives, so that reading
    does not wait for the device. Lines after the step that a run resumes from are cut away.

    Args:
        folder: the run folder.
        first: step that the run starts or resumes from.
        last: step at which it ends.
        batch_size: for the rate in examples per second.
        tensorboard: whether event files are written.
        leaves: names and shapes of the parameter leaves, for the trace.
        quiet: write nothing (processes other than the first).
    """

    def __init__(
        self, folder: Path, first: int, last: int, batch_size: int, tensorboard: bool,
        leaves: dict[str, str], quiet: bool,
    ):  # fmt: skip
        self.console = Console(stderr=True, quiet=quiet)
        self._quiet = quiet
        self._batch_size = batch_size
        self._pending: tuple[int, Any, Any] | None = None
        self._started, self._first, self._last = time.monotonic(), first, last
        self._said = 0.0
        self._events = None
        self._progress = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"), TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=self.console, disable=quiet or not self.console.is_terminal,
        )  # fmt: skip
        self._bar = self._progress.add_task("train", total=last, completed=first, loss="", rate="")
        if quiet:
            return
        self.path = folder / "metrics.jsonl"
        cut_back(self.path, first)
        self._file = open(self.path, "a")  # noqa: SIM115 (closed with the log)
        self._trace = Trace(folder, first, leaves)
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1)
        self._progress.start()

    def say(self, message: str) -> None:
        """One line on stderr, above the bar."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """One warning on stderr."""
        self.console.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)

    def start(self, sums: Any) -> None:
        """Writes the leaf sums of the state that a run starts from, where its trace is new."""
        if not self._quiet and self._trace.empty:
            self._trace.write(self._first, None, sums)

    def train(self, step: int, metrics: Any, sums: Any) -> dict[str, Any] | None:
        """Notes metrics and leaf sums (device arrays) after `step` steps; writes those before."""
        written = self.flush()
        self._pending = (step, metrics, sums)
        return written

    def flush(self) -> dict[str, Any] | None:
        """Writes the noted metrics and returns them, read from the device."""
        if self._pending is None:
            return None
        step, metrics, sums = self._pending
        self._pending = None
        if not self._quiet:
            self._trace.write(step, metrics["loss"], sums)
        values = {name: np.asarray(value).item() for name, value in metrics.items()}
        names = ["loss", "learning_rate", "gradient_norm"] + ["skipped"] * (values["skipped"] > 0)
        self._write(step, {name: values[name] for name in names})
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = (step - self._first) / elapsed
        text = f"{rate * self._batch_size:,.0f} examples/s"
        if self._progress.disable and (time.monotonic() - self._said > QUIET or step == self._last):
            self._said = time.monotonic()
            left = (self._last - step) / max(rate, 1e-9)
            self.say(
                f"step {step}/{self._last}  loss {values['loss']:.4f}  {text}  {left:.0f} s left"
            )
        self._progress.update(
            self._bar, completed=step, loss=f"loss {values['loss']:.4f}", rate=text
        )
        return values

    def evaluation(self, step: int, metrics: dict[str, Any], prefix: str = "eval") -> None:
        """Writes the numbers of an evaluation; lists and tables stay in result.json."""
        numbers = {f"{prefix}/{k}": v for k, v in metrics.items() if isinstance(v, int | float)}
        self._write(step, numbers)
        shown = "  ".join(
            f"{name.partition('/')[2]} {value:.4f}" for name, value in list(numbers.items())[:6]
        )
        self.say(f"step {step}/{self._last}  {prefix}: {shown}")

    def close(self) -> None:
        """Writes what is noted and closes the files."""
        self.flush()
        self._progress.stop()
        if not self._quiet:
            self._file.close()
            self._trace.close()
        if self._events:
            self._events.close()

    def _write(self, step: int, values: dict[str, Any]) -> None:
        if self._quiet:
            return
        line = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._events:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
            self._events.flush()


def cut_back(path: Path, step: int) -> None:
    """Removes the lines after `step`, and what a killed process left half written.

    Lines of the test split go too: they are of the end of a run, which is still to come.
    """
    if not path.is_file():
        return
    lines = [
        line
        for line in read_metrics(path)
        if line["step"] <= step and not any(name.startswith("test/") for name in line)
    ]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
    partial.replace(path)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl in order; an unreadable last line is left out."""
    found = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            found.append(line)
    return found
