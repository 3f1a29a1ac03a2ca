"""Runs a run again, from its data and its folder alone, and compares every logged step."""

import dataclasses
import math
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from zoo import compare, config_json, finetuning, runs
from zoo import config as configs
from zoo.errors import InputError, RunError
from zoo.parallel.mesh import MeshShape
from zoo.training.loop import Training
from zoo.training.receipt import add_start, read_receipt
from zoo.training.signals import Signals
from zoo.training.trace import Recorded, read_trace


@dataclass(frozen=True)
class Part:
    """Consecutive steps that were computed on the same devices."""

    last: int
    """The step after which it ends."""
    parallel: str
    """As in `Run`."""
    mesh: dict[str, int]
    """Devices along each axis."""

    @property
    def devices(self) -> int:
        """How many it needs."""
        return math.prod(self.mesh.values())


@dataclass(frozen=True)
class Plan:
    """What to run again."""

    folder: Path
    """The run folder."""
    first: int
    """The step from which to start, at the latest."""
    last: int
    """The last step to compare."""
    parts: list[Part]
    """How the steps were spread over devices."""
    trace: Recorded
    """What the run recorded."""
    receipt: dict[str, Any]
    """What the run was made of."""
    reproducible: bool
    """Whether its bits are those of any number of devices."""

    @property
    def devices(self) -> int:
        """The devices that are needed."""
        return max(part.devices for part in self.parts)


def plan(folder: Path, steps: str) -> Plan:
    """Reads what is needed to replay a run; starts no device.

    Args:
        folder: the run folder.
        steps: `a:b`; either may be left out, and all of it.

    Raises:
        InputError: no run folder, no trace or receipt, a damaged one, or steps outside the trace.
    """
    config = runs.read_config(folder)
    trace, receipt = read_trace(folder), read_receipt(folder)
    if not trace.lines:
        raise InputError(f"{folder} has a trace without steps; train it first")
    first, last = _range(steps, max(trace.lines))
    last = max((step for step in trace.lines if step <= last), default=-1)
    if last < first:
        raise InputError(f"steps {steps}: no step between was logged; logged are "
                         f"{', '.join(map(str, sorted(trace.lines)))}"[:300])  # fmt: skip
    parts = _parts(folder, receipt["starts"], last)
    return Plan(folder, first, last, parts, trace, receipt, bool(config.get("reproducible")))


def _range(text: str, end: int) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{0,12}):(\d{0,12})", text or ":")
    if not match:
        raise InputError(f"steps {text!r}: write a:b, such as 100:200, 100: or :200")
    first, last = int(match[1] or 0), int(match[2] or end)
    if not first <= last <= end:
        raise InputError(f"steps {text}: the run recorded steps 0 to {end}")
    return first, last


def _parts(folder: Path, starts: list[dict[str, Any]], last: int) -> list[Part]:
    found: list[Part] = []
    for number, start in enumerate(starts):
        end = min([last, *(later["resumed_at"] for later in starts[number + 1 :])])
        if start["resumed_at"] >= end:
            continue  # nothing of what it computed is left, or was asked for
        part = _part(folder, start, end)
        if found and (found[-1].parallel, found[-1].mesh) == (part.parallel, part.mesh):
            found.pop()
        found.append(part)
    return found or [_part(folder, starts[0], last)]


def _part(folder: Path, start: dict[str, Any], last: int) -> Part:
    try:
        parallel, mesh = start["parallel"], start["devices"]["mesh"]
        sane = all(type(size) is int and size > 0 for size in mesh.values())
        sane = sane and math.prod(mesh.values()) <= MOST_DEVICES
        if not sane or parallel not in ("jit", "pmap") or not {*mesh} <= MESH_AXES:
            raise ValueError
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(f"{folder}: receipt.json tells of no devices that could be") from None
    return Part(last, parallel, mesh)


MESH_AXES = {field.name for field in dataclasses.fields(MeshShape)}
MOST_DEVICES = 4096  # a receipt is data: it may not make this machine simulate any number


def replay(planned: Plan, module: ModuleType | None = None) -> compare.Comparison:
    """Runs a run again in a temporary folder and compares the traces.

    From step 0, or from the newest checkpoint at or before the first step that is asked for.
    Nothing in the run folder is executed or changed.

    Args:
        planned: what to run again.
        module: the user's config file, for runs that use classes of their own.

    Raises:
        InputError: config and data do not fit, there are too few devices, or several processes.
        RunError: no checkpoint at or before the first step can be used.
    """
    if jax.process_count() > 1:
        raise InputError("replay runs in one process, on as many devices as the run used")
    run = config_json.from_json(runs.read_config(planned.folder), module)
    steps = [step for step in planned.trace.lines if step < planned.last]
    with tempfile.TemporaryDirectory(prefix="zoo-replay-") as place:
        folder = Path(place)
        _copy_checkpoints(planned, folder)
        finetuning.link(planned.folder, folder)
        run = dataclasses.replace(
            run, workdir=place, tensorboard=False, log_every=math.gcd(*steps) or planned.last or 1
        )
        receipt: dict[str, Any] = {}
        for part in planned.parts:
            try:
                training = Again(_on(run, part), folder, Signals())
            except RunError as error:
                raise RunError(
                    f"no checkpoint of {planned.folder} up to step {planned.first} can be used; "
                    "replay from step 0"
                ) from error
            try:
                closing = part is planned.parts[-1]
                if training.first < part.last or closing:  # else it lies before the checkpoint
                    training.go_to(part.last, save=not closing)
                    receipt = add_start(receipt, training.describe())
            finally:
                training.close()
        again = read_trace(folder)
    return compare.compare(planned.trace, again, planned.receipt, receipt, str(planned.folder))


class Again(Training):
    """A start that neither evaluates nor saves on its way, and takes the data as they are."""

    def go_to(self, step: int, save: bool) -> None:
        """Trains to a step, and saves where another part follows."""
        self.last = step
        self._train()
        if save:
            self._save(step, None)

    def close(self) -> None:
        """Writes the trace and lets go of the folder."""
        self.log.close()
        self.checkpoints.close()

    def _after(self, step: int, written: dict[str, Any] | None) -> bool:
        return False

    def _check_data(self, fingerprint: str) -> None:
        """Changed data are a cause to be found, not a reason to stop."""

    def _foreign(self, meta: dict[str, Any]) -> str:
        """Nor is a changed config."""
        return ""


def _on(run: configs.Run, part: Part) -> configs.Run:
    mesh = MeshShape() if part.parallel == "pmap" else MeshShape(**part.mesh)
    changes = {"parallel": part.parallel, "mesh": mesh, "devices": part.devices}
    return dataclasses.replace(run, **changes)


def _copy_checkpoints(planned: Plan, folder: Path) -> None:
    """Copies those at or before the first step: a damaged one is set aside for the one before."""
    source = planned.folder / "checkpoints"
    if not planned.first or not source.is_dir():
        return
    for path in source.iterdir():
        if path.name.isdecimal() and 0 < int(path.name) <= planned.first:
            shutil.copytree(path, folder / "checkpoints" / path.name)
    shutil.copy(planned.folder / "config.json", folder)
