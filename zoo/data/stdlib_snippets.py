"""Pieces of the standard library and the modules they are from, in a pretrained model's tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data.assemble import assemble
from zoo.data.info import Batch, Data, Info
from zoo.data.split import digest
from zoo.data.stdlib import TEN, source_files
from zoo.data.text import text_lines
from zoo.data.tokenized import known, open_tokenizer, sealed, tokenize
from zoo.errors import InputError


@dataclass(frozen=True)
class StdlibSnippets:
    """Consecutive lines of a module's source, and which module it is.

    Lines are stripped, empty ones left out; a piece that occurs in two modules is left out. The raw
    record that decides a split is the piece's bytes.
    """

    modules: tuple[str, ...] = tuple(TEN)
    """The classes: top-level modules and packages."""
    lines: int = 4
    """Lines of a piece."""
    per_module: int = 500
    """At most so many pieces of a module, evenly spaced over its source."""
    tokenizer: str = ""
    """Folder or hub name of the tokenizer; empty takes that of `init_from`."""
    max_length: int = 64
    """Tokens of a piece, special ones included; the rest is cut."""

    def open(self) -> Data:
        """The splits.

        Raises:
            InputError: fewer than two modules, one that this Python does not have, no tokenizer.
        """
        if len(set(self.modules)) < 2 or len(set(self.modules)) != len(self.modules):
            raise InputError(f"standard library: name two or more modules, not {self.modules}")
        if self.lines < 1 or self.per_module < 1:
            raise InputError("standard library: lines and per_module must be 1 or more")
        tokenizer = open_tokenizer(self.tokenizer)
        found: list[dict[str, str]] = [{} for _ in self.modules]  # piece -> file and line
        for file, content in source_files(self.modules):
            kind = self.modules.index(file.split("/")[0].removesuffix(".py"))
            lines = [
                (number, stripped)
                for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1)
                if (stripped := line.strip())
            ]
            for start in range(0, len(lines) - self.lines + 1, self.lines):
                piece = "\n".join(line for _, line in lines[start : start + self.lines])
                found[kind].setdefault(piece, f"{file}:{lines[start][0]}")
        texts, names, label = [], [], []
        for kind, mine in enumerate(found):
            others = [pieces for other, pieces in enumerate(found) if other != kind]
            own = [piece for piece in mine if not any(piece in pieces for pieces in others)]
            count = min(len(own), self.per_module)
            chosen = [own[at * len(own) // count] for at in range(count)]
            texts += chosen
            names += [mine[piece] for piece in chosen]
            label += [kind] * count
        inputs = tokenize(tokenizer, texts, None, self.max_length)
        data = assemble(
            "standard library", inputs, np.array(label, np.int32), "classification",
            [digest(text.encode()) for text in texts], names, class_names=self.modules,
            **known(tokenizer, self.max_length),
        )  # fmt: skip
        return sealed(data, inputs)

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Lines of text files, or the text itself.

        Raises:
            InputError: an empty or undecodable text.
        """
        lines = text_lines(inputs)
        texts = [text for _, text in lines]
        length = int(info.max_length or self.max_length)
        return [name for name, _ in lines], tokenize(
            open_tokenizer(self.tokenizer), texts, None, length
        )
