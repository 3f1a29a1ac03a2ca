"""One run, one writer: a lock on the run folder, with its holder's name and heartbeat inside."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo.errors import RunError

NAME = ".lock"
HEARTBEAT = 30.0  # seconds between two beats
SILENCE = 300.0  # seconds without a beat after which another host's holder counts as gone
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Holder:
    """Who wrote a lock file, and when last.

    Attributes:
        host: name of its machine.
        pid: its process there.
        boot: the boot of that machine, as Linux numbers it; empty elsewhere.
        beat: seconds since the epoch.
    """

    host: str
    pid: int
    boot: str
    beat: float

    @classmethod
    def here(cls) -> "Holder":
        """This process, now."""
        boot = BOOT_ID.read_text().strip() if BOOT_ID.is_file() else ""
        return cls(socket.gethostname(), os.getpid(), boot, time.time())

    @property
    def silence(self) -> float:
        """Seconds since the last beat; negative where the holder's clock is ahead."""
        return time.time() - self.beat

    def on_this_machine(self) -> bool:
        """Whether it ran under the kernel that we run under, whose locks see each other.

        Containers of one machine have names of their own and share the boot; without boots, the
        name decides.
        """
        us = Holder.here()
        return self.boot == us.boot if self.boot and us.boot else self.host == us.host

    def is_gone(self) -> bool:
        """Whether it certainly, or by its silence, no longer runs."""
        restarted = self.host == Holder.here().host and not self.on_this_machine()
        ended = self.host == Holder.here().host and not _is_running(self.pid)
        # The clocks of a job's hosts agree to minutes.
        return restarted or ended or abs(self.silence) >= SILENCE

    def __str__(self) -> str:
        return f"host {self.host}, process {self.pid}, last heartbeat {self.silence:.0f} s ago"


class Lock:
    """Holds a run folder for this process; the system frees it when the process ends.

    The lock is flock's. Where that does not reach (another host, on some network file systems;
    none at all on others) the file's content decides: its holder's name and last heartbeat.

    Args:
        folder: the run folder.
        warn: called with one sentence when a lock that was left behind is taken over.

    Raises:
        RunError: another process holds it; the message names it.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None] | None = None):
        self.folder = folder
        self._warn = warn or _to_stderr
        self._file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _flock(self._file)
            for _ in range(3):  # a holder may be on its way out, or `zoo doctor` looking
                if locked is False:
                    time.sleep(0.1)
                    locked = _flock(self._file)
            text = _content(self._file)
            holder = read_holder(text)
            if locked is False or (holder and not self._may_take(holder, locked is True)):
                raise RunError(_refusal(folder, holder, bool(locked is False)))
            if text and not holder:
                self._warn(f"{folder / NAME} was damaged; nothing in it names a running process")
            self._written = self._beat()
        except BaseException:
            os.close(self._file)
            raise
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True, name="lock")
        self._thread.start()

    def _may_take(self, holder: Holder, locked: bool) -> bool:
        if locked and holder.on_this_machine():
            return True  # whoever wrote this would still hold flock
        if not holder.is_gone():
            return False
        self._warn(f"the lock of {self.folder} was left behind ({holder}); taken over")
        return True

    def _keep_beating(self) -> None:
        while not self._released.wait(HEARTBEAT):
            try:
                found = _content(self._file)
                if found != self._written:
                    if (other := read_holder(found)) is None:  # half written; look again
                        continue
                    self._warn(f"{self._lost(other)}; this run stops before it writes again")
                    return
                self._written = self._beat()
            except OSError:  # a file server that is away for a while; the next beat may land
                continue

    def check(self) -> None:
        """To be called before something is written that another run may write too.

        Raises:
            RunError: another process has taken the lock over, after a silence of this one.
        """
        with contextlib.suppress(OSError):  # a file server that is away for a while
            us = Holder.here()
            for wait in (0.1, 0):  # a heartbeat may be half written
                other = read_holder(_content(self._file))
                if other and (other.host, other.pid, other.boot) == (us.host, us.pid, us.boot):
                    return
                time.sleep(wait)
            raise RunError(f"{self._lost(other)}; this run ends here")

    def _lost(self, other: Holder | None) -> str:
        return f"another process has taken over the lock of {self.folder} ({other or 'unnamed'})"

    def _beat(self) -> bytes:
        """Writes who we are in one piece, so that a reader never sees half of it."""
        us = asdict(Holder.here())
        us["beat"] = datetime.fromtimestamp(us["beat"], UTC).isoformat(timespec="milliseconds")
        text = json.dumps(us).encode() + b"\n"
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))
        return text

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: Any) -> None:
        self._released.set()
        self._thread.join()
        try:
            if _content(self._file) == self._written:  # empty: nobody is suspected of still running
                os.ftruncate(self._file, 0)
        finally:
            os.close(self._file)


def read_holder(text: bytes) -> Holder | None:
    """The holder that a lock file names; None where it is empty or damaged."""
    try:
        value = json.loads(text)
        host, pid, boot = value["host"], value["pid"], value["boot"]
        beat = datetime.fromisoformat(value["beat"]).timestamp()
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    named = isinstance(host, str) and type(pid) is int and isinstance(boot, str)
    return Holder(host, pid, boot, beat) if named else None


def holder_of(folder: Path) -> tuple[Holder | None, bool]:
    """Who a run folder's lock names, and whether it is held; nothing is changed.

    Held means that flock says so or, where it does not reach, that the heartbeat is young.
    """
    try:
        file = os.open(folder / NAME, os.O_RDONLY)
    except OSError:
        return None, False
    try:
        locked, holder = _flock(file, fcntl.LOCK_SH), read_holder(_content(file))
        if locked is not None and (holder is None or holder.on_this_machine()):
            return holder, not locked
        return holder, locked is False or (holder is not None and not holder.is_gone())
    finally:
        os.close(file)  # frees what was locked


def _flock(file: int, kind: int = fcntl.LOCK_EX) -> bool | None:
    """Whether the lock was got; None where the file system knows no locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _content(file: int) -> bytes:
    return os.pread(file, 4096, 0)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _refusal(folder: Path, holder: Holder | None, by_system: bool) -> str:
    message = (
        f"another run writes in {folder} ({holder or 'it did not write its name'}); wait for it, "
        "or choose another --workdir"
    )
    if by_system or holder is None:
        return message
    left = SILENCE - holder.silence
    return f"{message}. If it was killed, its lock counts as left behind in {left:.0f} s"


def _to_stderr(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
