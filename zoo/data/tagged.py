"""Words with tags: JSON lines with lists of both, or files of columns as of CoNLL's tasks.

The raw record that decides a split is the sentence: its words, joined by 0x1f.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.data.assemble import malformed
from zoo.data.info import Batch, Data, Info
from zoo.data.readers import read_bytes
from zoo.data.sentences import Sentence, Sentences
from zoo.data.split import digest, divide
from zoo.data.text import is_file, text_lines
from zoo.data.token_rows import fingerprint_of, split_files
from zoo.data.tokenized import known, open_tokenizer
from zoo.errors import InputError

LINES = (".jsonl", ".ndjson")
SHORTEST = 8
EDGES = re.compile(r"^(\W*)(.*?)(\W*)$", re.DOTALL)


@dataclass(frozen=True)
class TaggedWords:
    """Sentences of words, each with a tag: names, parts of speech."""

    path: str
    """A .jsonl file, or one of columns with an empty line after each sentence; or a folder of such
    files whose names begin with train, dev and test. A split without a file is made by hash."""
    tokenizer: str = ""
    """Folder or hub name of the tokenizer; empty takes that of `init_from`."""
    words: str = "tokens"
    """JSON lines: the key of the list of words."""
    tags: str = "tags"
    """JSON lines: the key of the list of tags."""
    word_column: int = 0
    """Columns: which holds the word, from 0; negative counts from the last."""
    tag_column: int = -1
    """Columns: which holds the tag."""
    max_length: int = 128
    """Tokens of a row; a longer sentence takes several."""
    stride: int = 16
    """Tokens that the rows of a long sentence share."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What a malformed sentence does: stop with its file and line, or be left out and counted."""

    def __post_init__(self):
        if self.max_length < SHORTEST:
            raise InputError(f"max_length is {self.max_length}; it must be {SHORTEST} or more")

    def open(self) -> Data:
        """The splits.

        Raises:
            InputError: no such file or tokenizer, malformed sentences, an empty split.
        """
        tokenizer = open_tokenizer(self.tokenizer)
        found: list[Sentence] = []
        given: list[str | None] = []
        problems: list[str] = []
        for path, split in split_files(self.path, ()):
            part = self._read(path, problems)
            found += part
            given += [split] * len(part)
        skipped = malformed(self.path, problems, self.on_bad)
        if not found:
            raise InputError(f"{self.path}: holds no sentence")
        names = class_names(tag for one in found for tag in one.tags)
        classes = {name: number for number, name in enumerate(names)}
        splits = divide([_digest(one) for one in found], self.path, given)
        opened = {
            name: Sentences(
                tokenizer, [found[i] for i in members], classes, self.max_length, self.stride
            )
            for name, members in splits.items()
        }
        for split in opened.values():
            lost = split.without_token()
            problems += [
                f"{split.examples[i].name}: the tokenizer leaves nothing of the word {word!r:.80}"
                for i, word in lost.items()
            ]
            split.leave_out(list(lost))
        skipped = malformed(self.path, problems, self.on_bad)
        inputs = {key: ((self.max_length,), "int32") for key in opened["train"].keys}
        labels = [[one.words, one.tags] for split in opened.values() for one in split.examples]
        info = Info(
            inputs=inputs,
            label=((self.max_length,), "int32"),
            num_classes=len(names),
            class_names=tuple(names),
            class_counts=opened["train"].counts(len(names)),
            counts={name: len(split) for name, split in opened.items()},
            skipped=skipped,
            fingerprint=fingerprint_of(opened, labels, inputs),
            **known(tokenizer, self.max_length),
        )
        return Data(dict(opened), info)

    def read(self, inputs: list[str], info: Info) -> Sentences:
        """Sentences to tag: `.jsonl` files of words, other files of a sentence a line, or a
        sentence itself; punctuation at the edges of a word becomes words of its own.

        Raises:
            InputError: a file that holds none, a sentence of which the tokenizer leaves nothing.
        """
        found: list[Sentence] = []
        for text in inputs:
            problems: list[str] = []
            if is_file(text) and Path(text).suffix.lower() in LINES:
                found += read_lines(text, self.words, None, problems)
                malformed(text, problems, "stop")
            else:
                found += [Sentence(name, split_words(line)) for name, line in text_lines([text])]
        if not found:
            raise InputError(f"{', '.join(inputs)}: holds no sentence")
        tokenizer = open_tokenizer(self.tokenizer)
        return Sentences(tokenizer, found, {}, int(info.max_length or 1), self.stride)

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """The rows of `read`, and their names."""
        split = self.read(inputs, info)
        every = np.arange(len(split))
        batch = split.rows(every)
        del batch["label"]
        return split.names(every), batch

    def _read(self, path: str, problems: list[str]) -> list[Sentence]:
        if Path(path).suffix.lower() in LINES:
            return read_lines(path, self.words, self.tags, problems)
        return read_columns(path, self.word_column, self.tag_column, problems)


def read_lines(path: str, words: str, tags: str | None, problems: list[str]) -> list[Sentence]:
    """Sentences of a file with one JSON object per line.

    Args:
        path: the file.
        words: key of the list of words.
        tags: key of the list of tags; None reads none.
        problems: gets `file:line: what is wrong`.

    Raises:
        InputError: the file cannot be read.
    """
    found = []
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if not line.strip():
            continue
        name = f"{path}:{number}"
        try:
            value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            if not isinstance(value, dict):
                raise ValueError("not a JSON object")
            for key in (words, tags):
                if key is not None and not isinstance(value.get(key), list):
                    raise ValueError(f"no list {key!r}; it has {', '.join(value) or 'nothing'}")
            found.append(sentence(name, value[words], None if tags is None else value[tags]))
        except (ValueError, RecursionError) as error:
            problems.append(f"{name}: {error or 'nested too deeply'}")
    return found


def read_columns(path: str, word: int, tag: int, problems: list[str]) -> list[Sentence]:
    """Sentences of a file with a word per line, in columns that a tab or spaces part.

    An empty line ends a sentence; lines of `-DOCSTART-` are none; so are comments before a
    sentence, which begin with # and are not of as many columns as the words.

    Args:
        path: the file.
        word: which column holds the word.
        tag: which holds the tag.
        problems: gets `file:line: what is wrong`; the sentence is left out.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    found: list[Sentence] = []
    rows: list[list[str]] = []
    first = columns = 0
    problem = ""
    for number, line in enumerate([*re.split(r"\r\n|\n|\r", text), ""], 1):
        cells = line.strip("\n").split("\t") if "\t" in line.strip() else line.split()
        if not line.strip() or cells[0] == "-DOCSTART-":
            if rows and not problem:
                try:
                    words, tags = ([row[at].strip() for row in rows] for at in (word, tag))
                    found.append(sentence(f"{path}:{first}", words, tags))
                except (IndexError, ValueError) as error:
                    told = f"no column {max(word, tag)} of {columns}"
                    problem = f"{path}:{first}: {told if type(error) is IndexError else error}"
            problems += [problem] * bool(problem)
            rows, problem = [], ""
            continue
        if not rows and cells[0].startswith("#") and len(cells) != columns:
            continue
        first, columns = (first if rows else number), columns or len(cells)
        rows.append(cells)
        if len(cells) != columns and not problem:
            problem = f"{path}:{number}: {len(cells)} columns, the lines before have {columns}"
    return found


def sentence(name: str, words: Sequence[Any], tags: Sequence[Any] | None = None) -> Sentence:
    """A checked sentence, or ValueError."""
    if not words:
        raise ValueError("no words")
    if tags is not None and len(words) != len(tags):
        raise ValueError(f"{len(words)} words and {len(tags)} tags")
    for number, word in enumerate(words, 1):
        if not isinstance(word, str) or not word.strip():
            raise ValueError(f"word {number} is {word!r:.80}; expected a text that is not empty")
    for number, tag in enumerate(tags or (), 1):
        whole = isinstance(tag, int) and not isinstance(tag, bool)
        if not whole and (not isinstance(tag, str) or not tag.strip()):
            raise ValueError(f"tag {number} is {tag!r:.80}; expected a text or a whole number")
    texts = (*words, *map(str, tags or ()))
    if any("\ud800" <= char <= "\udfff" for text in texts for char in text):
        raise ValueError("half of a surrogate pair, no Unicode")
    return Sentence(name, tuple(words), tuple(map(str, tags or ())))


def split_words(text: str) -> tuple[str, ...]:
    """Words of a sentence: parts between spaces, with each mark at their edges apart."""
    found: list[str] = []
    for part in text.split():
        before, inside, after = EDGES.findall(part)[0]
        found += [*before, *([inside] if inside else []), *after]
    return tuple(found)


def class_names(tags: Iterable[str]) -> list[str]:
    """Every tag once: numbers in their order, others by the alphabet, `O` first."""
    names = set(tags)
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        return sorted(names, key=int)
    return sorted(names, key=lambda name: (name != "O", name))


def _digest(one: Sentence) -> bytes:
    return digest("\x1f".join(one.words).encode())
