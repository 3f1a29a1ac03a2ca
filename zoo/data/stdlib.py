"""The running Python's own standard library as text: real, large, and on every machine.

It differs between Python versions, and so do the examples; the fingerprint tells them apart.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.data.assemble import assemble
from zoo.data.info import Batch, Data, Info
from zoo.data.split import digest
from zoo.data.text import VOCABULARY, decode_bytes, pack, text_lines
from zoo.data.windows import encode_windows, open_corpus
from zoo.errors import InputError

TEN = (
    "_pydecimal argparse asyncio email inspect ipaddress multiprocessing tarfile turtle xml".split()
)
"""Modules of distinct vocabulary, in every supported Python."""
_TESTS = {"test", "tests", "idle_test"}
_FOREIGN = {"site-packages", "dist-packages", "__pycache__", "lib-dynload"}


def source_files(modules: Sequence[str] = (), tests: bool = False) -> list[tuple[str, bytes]]:
    """Python files of the standard library, sorted by their path within it.

    Args:
        modules: top-level modules and packages to take; none: all.
        tests: take test packages too.

    Returns:
        `(path, content)` pairs; installed packages and build data are left out, so are empty files.

    Raises:
        InputError: no sources are installed, or a module is not among them.
    """
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        parts = path.relative_to(root).parts
        if _FOREIGN & set(parts) or parts[0].startswith(("config-", "_sysconfigdata")):
            continue
        if not tests and _TESTS & set(parts[:-1]):
            continue
        if modules and parts[0].removesuffix(".py") not in modules:
            continue
        content = path.read_bytes()
        if content:
            found.append((path.relative_to(root).as_posix(), content))
    present = {name.split("/")[0].removesuffix(".py") for name, _ in found}
    missing = [name for name in modules if name not in present]
    if missing or not found:
        raise InputError(f"{root}: this Python has no source of {', '.join(missing) or 'modules'}")
    return found


@dataclass(frozen=True)
class StdlibText:
    """The standard library byte by byte, for language modelling.

    The raw record that decides a split is a file's bytes.
    """

    length: int = 128
    """Bytes of one example."""
    modules: tuple[str, ...] = ()
    """Top-level modules and packages to read; none named: all."""
    tests: bool = False
    """Read the test packages too."""
    evaluation_windows: int = 0
    """At most so many examples in validation and in test, evenly spaced; 0 keeps all."""

    def open(self) -> Data:
        """The splits; see `zoo.data.windows.Windows`."""
        files = source_files(self.modules, self.tests)
        return open_corpus("standard library", files, self.length, self.evaluation_windows)

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """See `encode_windows`."""
        return encode_windows(inputs, info)

    def decode(self, ids: Sequence[int] | np.ndarray, info: Info) -> str:
        """Text of byte ids."""
        return decode_bytes(ids)


@dataclass(frozen=True)
class StdlibLines:
    """Which module is this line of source from?

    Lines are stripped, each kept once; a line that occurs in two of the modules is left out. The
    raw record that decides a split is the stripped line's bytes.
    """

    modules: tuple[str, ...] = tuple(TEN)
    """The classes: top-level modules and packages."""
    max_length: int = 96
    """Bytes kept of a line."""
    min_length: int = 16
    """Shorter lines are left out."""

    def open(self) -> Data:
        """The splits.

        Raises:
            InputError: fewer than two modules, one that this Python does not have.
        """
        if len(set(self.modules)) < 2 or len(set(self.modules)) != len(self.modules):
            raise InputError(f"standard library: name two or more modules, not {self.modules}")
        if not 1 <= self.min_length <= self.max_length:
            raise InputError("standard library: 1 <= min_length <= max_length must hold")
        lines: dict[bytes, tuple[int, str]] = {}
        shared = set()
        for file, content in source_files(self.modules):
            kind = self.modules.index(file.split("/")[0].removesuffix(".py"))
            for number, line in enumerate(content.splitlines(), 1):
                line = line.strip()
                if len(line) < self.min_length:
                    continue
                if lines.setdefault(line, (kind, f"{file}:{number}"))[0] != kind:
                    shared.add(line)
        kept = [line for line in lines if line not in shared]
        return assemble(
            "standard library",
            dict(pack(kept, self.max_length)),
            np.array([lines[line][0] for line in kept], np.int32),
            "classification",
            [digest(line) for line in kept],
            [lines[line][1] for line in kept],
            class_names=self.modules,
            vocab_size=VOCABULARY,
            max_length=self.max_length,
            pad=0,
        )

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Lines of text files, or the text itself.

        Raises:
            InputError: an empty or undecodable text.
        """
        lines = text_lines(inputs)
        texts = [text.encode() for _, text in lines]
        return [name for name, _ in lines], pack(texts, int(info.max_length or 1))

    def decode(self, ids: Sequence[int] | np.ndarray, info: Info) -> str:
        """Text of byte ids."""
        return decode_bytes(ids)
