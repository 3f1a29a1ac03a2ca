"""What a run folder holds, what is wrong with it, and what can be done. Nothing is changed."""

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from zoo import config_json, known_bad, runs
from zoo.errors import InputError
from zoo.inspect import canaries
from zoo.training.checkpoints import Checkpoints
from zoo.training.lock import NAME as LOCK
from zoo.training.lock import holder_of, read_holder
from zoo.training.receipt import read_receipt, versions
from zoo.training.state import params_digest

OK, NOTE, WRONG = "ok", "note", "wrong"
PARTS = ("config.json", "receipt.json", "metrics.jsonl", "checkpoints", "result.json")
AGAIN = "run the same command again"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: a file, a checkpoint, or a part of the installation.
        state: `ok`, `note` (unusual, and taken care of at the next start) or `wrong`.
        what: what was found.
        advice: what can be done; empty where nothing needs to be.
    """

    part: str
    state: str
    what: str
    advice: str = ""


def healthy(findings: list[Finding]) -> bool:
    """Whether nothing is wrong."""
    return all(finding.state != WRONG for finding in findings)


def as_json(findings: list[Finding], folder: Path | None) -> dict[str, Any]:
    """The findings for machines."""
    return {
        "run": str(folder) if folder else None,
        "healthy": healthy(findings),
        "findings": [asdict(finding) for finding in findings],
    }


def installation() -> list[Finding]:
    """Versions, devices and whether the compiler computes right numbers."""
    found = []
    installed = {"python": platform.python_version()} | versions()
    found.append(Finding("versions", OK, ", ".join(map(" ".join, installed.items()))))
    if complaint := known_bad.complaint():
        what, _, advice = complaint.partition("; ")
        found.append(Finding("versions", WRONG, what, advice))
    devices = jax.devices()
    kinds = {f"{device.platform} {device.device_kind}" for device in devices}
    found.append(Finding("devices", OK, f"{len(devices)} x {', '.join(sorted(kinds))}"))
    wrong = canaries.failing()
    for sentence in wrong:
        advice = "install another version of jax and jaxlib; results of this one cannot be trusted"
        found.append(Finding("compiler", WRONG, sentence, advice))
    if not wrong:
        found.append(Finding("compiler", OK, "all canaries compute right numbers"))
    return found


def examine(folder: Path) -> list[Finding]:
    """All that a run folder holds, part by part.

    Raises:
        InputError: it is no run folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; zoo doctor takes a run folder")
    if not any((folder / part).exists() for part in PARTS):
        raise InputError(f"{folder} is no run folder: it has none of {', '.join(PARTS)}")
    return _Examination(folder).findings()


@dataclass
class _Whole:
    """What is known of a checkpoint that verified."""

    step: int
    params_digest: str
    sha256: str


class _Examination:
    def __init__(self, folder: Path):
        self.folder = folder
        self.holder, self.busy = holder_of(folder)
        self.whole: list[_Whole] = []
        self.config: dict[str, Any] = {}
        self.largest = 0

    def findings(self) -> list[Finding]:
        looks: tuple[Callable[[], Iterator[Finding]], ...] = (
            self._lock, self._config, self._receipt, self._metrics, self._checkpoints,
            self._quarantine, self._result, self._disk,
        )  # fmt: skip
        return [finding for look in looks for finding in look()]

    def _lock(self) -> Iterator[Finding]:
        path = self.folder / LOCK
        if self.busy:
            yield Finding("lock", OK, f"a run is writing here ({self.holder or 'unnamed'})")
        elif self.holder:
            what = f"left behind by a run that was killed ({self.holder})"
            yield Finding("lock", NOTE, what, f"{AGAIN}: it is taken over")
        elif path.is_file() and path.stat().st_size and read_holder(path.read_bytes()) is None:
            yield Finding("lock", NOTE, "damaged; nobody holds it", f"{AGAIN}: it is taken over")
        else:
            yield Finding("lock", OK, "free")

    def _config(self) -> Iterator[Finding]:
        try:
            values = runs.read_config(self.folder)
        except (InputError, OSError, UnicodeDecodeError) as error:
            advice = (
                "put back a copy; each checkpoint's meta holds it under `config`. Until then the "
                "folder neither resumes nor evaluates"
            )
            yield Finding("config.json", WRONG, str(error), advice)
            return
        own = _own_classes(values)
        try:
            if not own:
                config_json.from_json(values)
        except InputError as error:
            advice = "use the version of zoo that wrote it, as receipt.json tells"
            yield Finding("config.json", WRONG, str(error), advice)
            return
        self.config = values
        what = f"uses {', '.join(own)}, which its author's config file defines"
        advice = "give that file by --config"
        yield Finding("config.json", OK, *((what, advice) if own else ("readable",)))

    def _receipt(self) -> Iterator[Finding]:
        if not (self.folder / "receipt.json").is_file():
            yield Finding("receipt.json", WRONG, "missing", f"{AGAIN}: a new one is begun")
            return
        try:
            starts = read_receipt(self.folder)["starts"]
        except (InputError, OSError) as error:
            advice = f"{AGAIN}: a new one is begun, and the damaged one kept beside it"
            yield Finding("receipt.json", WRONG, str(error)[:200], advice)
            return
        told = [start.get("versions") for start in starts]
        used_by = [versions if isinstance(versions, dict) else {} for versions in told]
        yield Finding("receipt.json", OK, f"{len(used_by)} start(s)")
        last, now = used_by[-1].get("jaxlib"), metadata.version("jaxlib")
        if last and last != now:
            what = f"the run last used jaxlib {last}; here is {now}"
            yield Finding("receipt.json", NOTE, what, "other versions may give other bits")
        used = {start.get(package) for start in used_by for package in ("jax", "jaxlib")}
        for version in sorted(set(known_bad.JAX) & used):
            what = f"the run used jax {version}, which {known_bad.JAX[version]}"
            yield Finding("receipt.json", WRONG, what, "train it again with another version")

    def _metrics(self) -> Iterator[Finding]:
        path = self.folder / "metrics.jsonl"
        if not path.is_file():
            yield Finding("metrics.jsonl", NOTE, "missing: nothing was logged yet")
            return
        lines = path.read_bytes().split(b"\n")
        last, lines = lines[-1], lines[:-1]
        bad, early, trained, step = [], [], set(), 0
        for number, text in enumerate(lines, 1):
            line = _metrics_line(text)
            if line is None:
                bad.append(number)
                continue
            if line["step"] < step or ("loss" in line and line["step"] in trained):
                early.append(number)
            step = max(step, line["step"])
            trained |= {line["step"]} if "loss" in line else set()
        if bad:
            advice = f"{AGAIN}: unreadable lines are removed at a resume"
            yield Finding("metrics.jsonl", WRONG, f"unreadable: {_lines(bad)}", advice)
        if early:
            what = f"steps go back or repeat at {_lines(early)}"
            advice = "two runs may have written here; compare the file with receipt.json"
            yield Finding("metrics.jsonl", WRONG, what, advice)
        if last and not self.busy:
            advice = f"{AGAIN}: it is removed at a resume"
            yield Finding("metrics.jsonl", WRONG, "its last line is cut off", advice)
        if not bad and not early and (not last or self.busy):
            yield Finding("metrics.jsonl", OK, f"{len(lines)} lines, up to step {step}")

    def _checkpoints(self) -> Iterator[Finding]:
        directory = self.folder / "checkpoints"
        if not directory.is_dir():
            if (self.folder / "result.json").exists():
                what, advice = "missing, though the run has a result", "restore a copy"
                yield Finding("checkpoints", WRONG, what, advice)
            else:
                yield Finding("checkpoints", NOTE, "none was saved yet")
            return
        steps, others = [], []
        for path in sorted(directory.iterdir()):
            if path.is_dir() and path.name.isdigit():
                steps.append(path)
            elif ".orbax-checkpoint-tmp" in path.name:
                yield self._temporary(path)
            else:
                others.append(path.name)
        reader = Checkpoints(directory, read_only=True)
        try:
            for path in sorted(steps, key=lambda path: int(path.name)):
                finding = self._step(reader, path)
                if path.exists():  # a run that is writing removes old ones
                    yield finding
        finally:
            reader.close()
        if others:
            yield Finding("checkpoints", NOTE, f"not ours: {', '.join(others)}", "move them away")
        if not self.whole:
            lost = bool(steps) or (self.folder / "quarantine").is_dir()
            what = "none is whole" if lost else "none was saved yet"
            advice = "start anew in another --workdir, or restore a copy" if lost else ""
            yield Finding("checkpoints", WRONG if lost else NOTE, what, advice)

    def _temporary(self, path: Path) -> Finding:
        part = f"checkpoints/{path.name}"
        if self.busy:
            return Finding(part, OK, "a save under way")
        return Finding(part, NOTE, "a save that did not end", f"{AGAIN}: it is removed")

    def _step(self, reader: Checkpoints, path: Path) -> Finding:
        part = f"checkpoints/{path.name}"
        size = _bytes_of(path)
        self.largest = max(self.largest, size)
        advice = f"{AGAIN}: it is moved to quarantine/, and the newest whole one is used"
        missing = [item for item in ("state", "meta") if not (path / item).is_dir()]
        if missing:
            return Finding(part, WRONG, f"partial: no {' and no '.join(missing)}", advice)
        try:
            state, meta = reader.verified(int(path.name))
        except Exception as error:  # Orbax raises a dozen types for a damaged step
            reason = (str(error).strip() or repr(error)).splitlines()[0][:200]
            return Finding(part, WRONG, f"damaged: {reason}", advice)
        if reason := runs.of_another_run(self.config, meta) if self.config else "":
            return Finding(part, WRONG, reason, advice)
        parent = meta.get("parent") or {}
        same = [whole for whole in self.whole if whole.step == parent.get("step")]
        if same and same[0].sha256 != parent.get("sha256"):
            what = f"it was not trained on from the checkpoint {parent['step']} that is here"
            wrong = "one of the two was put here from another run; restore a copy of this one's"
            return Finding(part, WRONG, what, wrong)
        whole = _Whole(int(path.name), params_digest(state["params"]), meta["sha256"])
        self.whole.append(whole)
        return Finding(part, OK, f"whole, all leaves verified ({_size(size)})")

    def _quarantine(self) -> Iterator[Finding]:
        folder = self.folder / "quarantine"
        if not folder.is_dir():
            return
        names = sorted(path.name for path in folder.iterdir())
        what = f"{', '.join(names) or 'empty'} ({_size(_bytes_of(folder))}), set aside as damaged"
        advice = "look at the disk that wrote them; delete them when they are of no more use"
        yield Finding("quarantine", NOTE, what, advice)

    def _result(self) -> Iterator[Finding]:
        path = self.folder / "result.json"
        if not path.is_file():
            yield Finding(
                "result.json", NOTE, "missing: the run has not ended", f"{AGAIN} to go on"
            )
            return
        write_anew = f"{AGAIN}: it is written anew"
        try:
            result = json.loads(path.read_bytes())
            step, digest = int(result["step"]), str(result["params_digest"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            yield Finding("result.json", WRONG, f"damaged: {error!r}"[:200], write_anew)
            return
        same = [whole for whole in self.whole if whole.step == step]
        newest = max((whole.step for whole in self.whole), default=None)
        if same and same[0].params_digest != digest:
            what = f"its params_digest is not that of checkpoint {step}"
            yield Finding("result.json", WRONG, what, write_anew)
        elif same:
            yield Finding("result.json", OK, f"step {step}, the parameters of checkpoint {step}")
        elif newest is not None and newest > step:
            what = f"of step {step}; the run has gone on to {newest} and has not ended"
            yield Finding("result.json", NOTE, what, f"{AGAIN} to go on")
        else:
            what = f"of step {step}, and no whole checkpoint has that step"
            yield Finding("result.json", WRONG, what, f"{AGAIN} to train up to it again")

    def _disk(self) -> Iterator[Finding]:
        free = shutil.disk_usage(self.folder).free
        what = f"{_size(free)} free"
        if not self.largest:
            yield Finding("disk", OK, what)
        elif free < self.largest:
            what += f", less than one checkpoint ({_size(self.largest)})"
            yield Finding("disk", WRONG, what, "make room, or the next save fails")
        else:
            yield Finding("disk", OK, f"{what}, room for {free // self.largest:,} checkpoints")


def _own_classes(values: dict[str, Any]) -> list[str]:
    kinds = [values[name].get(config_json.CLASS) for name in ("model", "task", "data")
             if isinstance(values.get(name), dict)]  # fmt: skip
    return [kind[5:] for kind in kinds if isinstance(kind, str) and kind.startswith("user:")]


def _metrics_line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and type(line.get("step")) is int else None


def _lines(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"line {shown}" + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def _bytes_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # removed while we look
            continue
    return total


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
