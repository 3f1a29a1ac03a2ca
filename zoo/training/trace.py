"""The trace of a run: for every logged step the bits of the loss and one number for each parameter.

`trace.jsonl` begins with a line of the parameter leaves, their names and shapes; each later line
holds a step, the bits of its loss (that of a float32, in hex), and the sums of the leaves after it,
eight hex digits for each leaf in order. The first of them has no loss: it is the state that the
run starts from.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError

FILE = "trace.jsonl"
DIGITS = 8  # hex digits of a uint32


@dataclass(frozen=True)
class Line:
    """What the trace holds of one step."""

    loss: str
    """Eight hex digits, the loss as float32 bits; empty for the state a run starts from."""
    sums: str
    """Eight hex digits for each leaf."""

    def sum_of(self, leaf: int) -> str:
        """The sum of one leaf, by its place in the header."""
        return self.sums[DIGITS * leaf : DIGITS * (leaf + 1)]


@dataclass(frozen=True)
class Recorded:
    """A trace that was read."""

    leaves: dict[str, str]
    """Names of the leaves, in order, and their dtypes and shapes."""
    lines: dict[int, Line]
    """By step."""


class Trace:
    """Writes the trace of one start of a run; what an earlier start wrote after `first` goes.

    Args:
        folder: the run folder.
        first: step that the run starts or resumes from.
        leaves: names of the parameter leaves, in the order of `sums.leaf_sums`, and their shapes.
    """

    def __init__(self, folder: Path, first: int, leaves: dict[str, str]):
        path = folder / FILE
        kept: dict[int, Line] = {}
        if path.is_file():
            try:
                old = read_trace(folder)
            except InputError:
                old = Recorded({}, {})
            kept = {step: line for step, line in old.lines.items() if step <= first}
            if old.leaves != leaves:  # a trace is no reason not to train
                path.replace(path.with_suffix(".damaged.jsonl"))
                kept = {}
        partial = path.with_suffix(".partial")
        texts = [json.dumps({"leaves": leaves}), *(_text(s, line) for s, line in kept.items())]
        partial.write_text("".join(text + "\n" for text in texts))
        partial.replace(path)
        self.empty = not kept
        self._file = open(path, "a")  # noqa: SIM115 (closed with the log)

    def write(self, step: int, loss: Any, sums: Any) -> None:
        """Adds one line. `loss` and `sums` may be on a device; a loss of None is none."""
        bits = "" if loss is None else f"{np.float32(np.asarray(loss)).view(np.uint32):08x}"
        line = Line(bits, "".join(f"{value:08x}" for value in np.asarray(sums).tolist()))
        self._file.write(_text(step, line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _text(step: int, line: Line) -> str:
    return json.dumps({"step": step, "loss": line.loss, "sums": line.sums})


def read_trace(folder: Path) -> Recorded:
    """The trace in a run folder; a last line that was cut off while being written is left out.

    Raises:
        InputError: there is none, or a line is damaged; the message names the line.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} has no {FILE}; there is nothing to compare with")
    whole = path.read_bytes().decode(errors="replace").split("\n")[:-1]
    if not whole:
        raise InputError(f"{path} is empty")
    recorded = Recorded({}, {})
    for number, text in enumerate(whole, 1):
        try:
            value = json.loads(text)
            if number == 1:
                recorded.leaves.update(_leaves(value))
            else:
                step, line = _line(value, len(recorded.leaves))
                if step <= max(recorded.lines, default=-1):
                    raise ValueError(f"step {step} is out of order")
                recorded.lines[step] = line
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path}, line {number} is damaged ({str(error)[:100]})") from None
    return recorded


def _leaves(value: Any) -> dict[str, str]:
    leaves = value["leaves"]
    if not isinstance(leaves, dict) or not all(isinstance(kind, str) for kind in leaves.values()):
        raise ValueError("it names no leaves")
    return leaves


def _line(value: Any, leaves: int) -> tuple[int, Line]:
    step, loss, sums = value["step"], value["loss"], value["sums"]
    if type(step) is not int or step < 0:
        raise ValueError("step is no whole number")
    if not re.fullmatch(r"([0-9a-f]{8})?", loss):
        raise ValueError("loss has not eight hex digits")
    if not re.fullmatch(rf"[0-9a-f]{{{DIGITS * leaves}}}", sums):
        raise ValueError(f"sums has not eight hex digits for each of {leaves} leaves")
    return step, Line(loss, sums)
