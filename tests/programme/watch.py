"""Runs hostile input under watch: how long it takes, and what it touches outside of reading."""

import contextlib
import os
import random
import signal
import sys
from collections.abc import Iterator
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = {
    "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn",
    "subprocess.Popen", "socket.connect", "socket.bind", "pickle.find_class", "ctypes.dlopen",
    "shutil.rmtree", "shutil.move", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp",
}  # fmt: skip

_seen: list[str] | None = None  # an audit hook cannot be taken off again


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & WRITES and path not in ("/dev/null", b"/dev/null"):
            _seen.append(f"open {path!r} to write")
    elif event in FORBIDDEN:
        _seen.append(f"{event} {arguments!r}")


sys.addaudithook(_audit)


class TooSlow(BaseException):
    """No Exception: code that catches everything must not catch this."""


@contextlib.contextmanager
def watched(seconds: int = 5) -> Iterator[None]:
    """Ends the block after some seconds with `TooSlow`.

    Raises:
        AssertionError: the block wrote, removed, connected to or started something.
    """
    global _seen
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    before = signal.signal(signal.SIGALRM, _too_slow)
    _seen = found = []
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        _seen = None
        signal.signal(signal.SIGALRM, before)
        sys.dont_write_bytecode = kept
    assert not found, f"touched: {found[:3]}"


def _too_slow(*_: Any) -> None:
    raise TooSlow


def damaged(content: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """`content` with some of the damage that disks, copies and enemies do."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        size = len(data)
        at = rng.randrange(size + 1)
        length = min(rng.choice((1, 2, 4, 8, 64, 512)), size - at)
        kind = rng.randrange(9)
        if kind == 0 and length:
            data[rng.randrange(at, at + length)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + length] = rng.randbytes(length)
        elif kind == 2:
            data[at : at + length] = bytes([rng.choice((0, 0x7F, 0x80, 0xFF))]) * length
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + length]
        elif kind == 5:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
        elif kind == 6:
            data[at:at] = rng.choice(
                (b"\0", b"\n", b'"', b"\xff\xfe", b"\xed\xa0\x80", b"{[", b",")
            )
        elif kind == 7 and other:
            data[at : at + length] = other[at : at + rng.choice((4, 64, 4096))]
        elif kind == 8 and size > 8:  # a number of a header
            at = rng.randrange(min(size, 64))
            data[at : at + 4] = rng.choice((0, 1, 2**31 - 1, 2**32 - 1)).to_bytes(4, "little")
    return bytes(data)
