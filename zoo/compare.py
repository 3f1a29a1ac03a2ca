"""Two runs side by side: the first step and parameter that differ, and what may have caused it."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import config_json
from zoo.errors import InputError
from zoo.training.receipt import read_receipt, start_of
from zoo.training.trace import Recorded, read_trace

# Where JAX keeps things and whom it talks to; nothing that it computes.
HARMLESS_FLAGS = {
    "JAX_COMPILATION_CACHE_DIR", "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",
}  # fmt: skip
# Fields of the experiment that decide when something is looked at, and those that no initial
# parameter depends on.
NEVER_FIRST = ("eval_every", "early_stopping", "best_metric", "best_mode", "on_nonfinite")
AFTER_THE_START = (
    "data", "optimizer", "augment", "batch_size", "balance", "accumulate", "average", "steps",
    "the data", "the order", "steps_per_dispatch", "devices", "parallel",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """Where two traces part."""

    step: int
    """The first step that differs."""
    leaf: str
    """The first parameter leaf that differs, in the order of the trace; empty if only the loss."""
    detail: str
    """How many leaves differ at that step, or how the first one does."""
    losses: tuple[str, str]
    """The bits of both losses, eight hex digits each; empty where a trace has none."""
    heals: int
    """The next step at which both agree again, or -1."""


@dataclass(frozen=True)
class Comparison:
    """What came of comparing two runs."""

    steps: list[int]
    """The steps that both traces hold."""
    difference: Difference | None
    """Where they part; None if nowhere."""
    causes: list[str]
    """What the receipts say differs, the likeliest first."""

    @property
    def identical(self) -> bool:
        """Whether no step that was compared differs."""
        return self.difference is None

    def __str__(self) -> str:
        if self.difference is None:
            text = f"identical through step {self.steps[-1]} ({len(self.steps)} steps compared)"
            return text + "".join(f"\n  although this differs: {cause}" for cause in self.causes)
        found = self.difference
        before = [step for step in self.steps if step < found.step]
        lines = [
            f"first difference at step {found.step}"
            + (f"; identical through step {before[-1]}" if before else ", the first that both have")
        ]
        if found.leaf:
            lines.append(f"  first parameter: {found.leaf} ({found.detail})")
        else:
            lines.append("  the loss only, no parameter")
        if all(found.losses):
            lines.append(f"  loss: {_loss(found.losses[0])} -> {_loss(found.losses[1])}")
        if found.heals >= 0:
            lines.append(f"  likely cause: the record of step {found.step} is damaged, for both "
                         f"agree again at step {found.heals}")  # fmt: skip
        likely, *others = self.causes or [
            "nothing that a receipt tells; a fault of the memory, or a kernel that adds in no "
            "fixed order"
        ]
        if found.heals < 0:
            lines.append(f"  likely cause: {likely}")
        elif self.causes:
            others = self.causes
        return "\n".join(lines + [f"  also differs: {other}" for other in others])


def _loss(bits: str) -> str:
    value = struct.unpack(">f", bytes.fromhex(bits))[0]
    return f"{value:.9g} ({bits})"


def compare_runs(a: Path, b: Path) -> Comparison:
    """Compares two run folders by their traces and receipts.

    Raises:
        InputError: one is no run folder, has no trace, or is damaged; or they share no step.
    """
    for folder in (a, b):
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} is no run folder: it has no config.json")
    traces = read_trace(a), read_trace(b)
    return compare(*traces, read_receipt(a), read_receipt(b), f"{a} and {b}")


def compare(
    a: Recorded, b: Recorded, receipt_a: dict[str, Any], receipt_b: dict[str, Any], names: str
) -> Comparison:
    """Compares two traces, and the receipts as of the step where they part.

    Args:
        a, b: the traces.
        receipt_a, receipt_b: the receipts of the runs they belong to.
        names: what to call the two in a message.

    Raises:
        InputError: they share no step.
    """
    steps = sorted(a.lines.keys() & b.lines.keys())
    if not steps:
        raise InputError(f"{names} have no logged step in common")
    difference = _difference(a, b, steps)
    step = difference.step if difference else steps[-1]
    return Comparison(steps, difference, causes(receipt_a, receipt_b, step))


def _difference(a: Recorded, b: Recorded, steps: list[int]) -> Difference | None:
    for leaf in {**a.leaves, **b.leaves}:
        ours, theirs = a.leaves.get(leaf, "none"), b.leaves.get(leaf, "none")
        if ours != theirs:
            return Difference(steps[0], leaf, f"{ours} -> {theirs}", ("", ""), -1)

    def agree(step: int) -> bool:
        ours, theirs = a.lines[step], b.lines[step]
        losses = {ours.loss, theirs.loss} - {""}
        return ours.sums == theirs.sums and len(losses) < 2

    for at, step in enumerate(steps):
        if agree(step):
            continue
        ours, theirs = a.lines[step], b.lines[step]
        differing = [name for i, name in enumerate(a.leaves) if ours.sum_of(i) != theirs.sum_of(i)]
        heals = next((later for later in steps[at + 1 :] if agree(later)), -1)
        detail = f"{len(differing)} of {len(a.leaves)} differ"
        return Difference(step, (differing or [""])[0], detail, (ours.loss, theirs.loss), heals)
    return None


def causes(a: dict[str, Any], b: dict[str, Any], step: int) -> list[str]:
    """What differs between the starts that computed a step, the likeliest cause first.

    What one receipt does not tell (an older version wrote it) is passed over.
    """
    x, y = start_of(a, step), start_of(b, step)
    found = _config(x, y) + _data(x, y) + _source(a, b, x, y)
    found += _values("warm_start", x, y, ("step", "params_digest"))
    for section in ("versions", "settings", "flags"):
        found += _table(section, x, y)
    found += _values("", x, y, ("installed",))
    found += _values("", x, y, ("parallel",))
    found += _values("devices", x, y, ("platform", "kind", "used", "mesh", "processes"))
    if not any(cause.startswith("steps_per_dispatch") for cause in found):
        found += _values("", x, y, ("steps_per_dispatch",))  # chosen by the program's size
    found += _values("host", x, y, ("machine", "system", "cpu", "instruction_set", "cores"))

    def rank(cause: str) -> int:
        late = AFTER_THE_START if step == 0 else ()
        return 2 * cause.startswith(NEVER_FIRST) + cause.startswith(late)

    return sorted(found, key=rank)


def _config(x: Any, y: Any) -> list[str]:
    if not _both(x, y, "config"):
        return []
    found = config_json.differences(x["config"], y["config"])
    seed = [field for field in found if field.startswith("seed:")]
    return seed + [field for field in found if field not in seed]


def _data(x: Any, y: Any) -> list[str]:
    if not _both(x, y, "data"):
        return []
    ours, theirs = x["data"], y["data"]
    if ours.get("fingerprint") != theirs.get("fingerprint"):
        return [f"the data: other records, labels or splits ({json.dumps(ours.get('examples'))} "
                f"-> {json.dumps(theirs.get('examples'))} examples)"]  # fmt: skip
    if ours.get("order") != theirs.get("order"):
        return ["the order in which the examples are read"]
    return []


def _source(a: Any, b: Any, x: Any, y: Any) -> list[str]:
    if not _both(x, y, "source"):
        return []
    sums = [start["source"].get("sha256") for start in (x, y)]
    if sums[0] == sums[1] or not all(isinstance(value, str) for value in sums):
        return []
    ours, theirs = (
        dict(receipt.get("sources", {}).get(value) or {})
        for receipt, value in zip((a, b), sums, strict=True)
    )
    edited = sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
    more = f" and {len(edited) - 5} more" if len(edited) > 5 else ""
    return [f"edited source: {', '.join(edited[:5])}{more}"]


def _table(section: str, x: Any, y: Any) -> list[str]:
    if not _both(x, y, section):
        return []
    names = sorted({*x[section], *y[section]} - HARMLESS_FLAGS)
    return _values(section, x, y, names)


def _values(section: str, x: Any, y: Any, names: Any) -> list[str]:
    ours, theirs = (start.get(section, {}) if section else start for start in (x, y))
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return []
    whole = section in ("versions", "settings", "flags")
    return [
        f"{section}{'.' * bool(section)}{name}: {json.dumps(ours.get(name))} -> "
        f"{json.dumps(theirs.get(name))}"
        for name in names
        if (whole or (name in ours and name in theirs)) and ours.get(name) != theirs.get(name)
    ]


def _both(x: Any, y: Any, section: str) -> bool:
    return all(isinstance(start.get(section), dict) for start in (x, y))
