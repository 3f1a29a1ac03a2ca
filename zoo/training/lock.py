"""One run, one writer: a lock on the run folder."""

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any

from zoo.errors import RunError


class Lock:
    """Holds a run folder for this process; the system frees it when the process ends.

    Raises:
        RunError: another process holds it; the message names it.
    """

    def __init__(self, folder: Path):
        self._file = open(folder / ".lock", "a+")  # noqa: SIM115 (held for the whole run)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise RunError(
                f"another run writes in {folder} ({holder}); wait for it, or choose another "
                "--workdir"
            ) from None
        self._file.truncate(0)
        self._file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        self._file.flush()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
