"""Questions on texts, in the JSON of SQuAD 1.1 and 2.0.

`{"data": [{"paragraphs": [{"context": ..., "qas": [{"id": ..., "question": ..., "answers":
[{"text": ..., "answer_start": ...}], "is_impossible": false}]}]}]}`; characters are counted from 0.
The raw record that decides a split is the context, so that no context is in two of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zoo.data.assemble import malformed
from zoo.data.info import Batch, Data, Info
from zoo.data.passages import Cut, Passages, Question
from zoo.data.readers import read_bytes
from zoo.data.split import digest, divide
from zoo.data.text import is_file, text_lines
from zoo.data.token_rows import fingerprint_of, split_files
from zoo.data.tokenized import known, open_tokenizer
from zoo.errors import InputError

ENDINGS = (".json",)


@dataclass(frozen=True)
class Squad:
    """Questions whose answers are pieces of a text, in the JSON of SQuAD."""

    path: str
    """A JSON file, or a folder of such files whose names begin with train, dev and test; a split
    without a file is made by hash of the context."""
    tokenizer: str = ""
    """Folder or hub name of the tokenizer; empty takes that of `init_from`."""
    max_length: int = 384
    """Tokens of a row: the question, a window of the context, and special tokens."""
    stride: int = 128
    """Tokens of the context that a window shares with the next."""
    max_question: int = 64
    """Tokens kept of a question."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What a malformed question does: stop with its file and id, or be left out and counted."""

    @property
    def cut(self) -> Cut:
        """How long the windows are."""
        return Cut(self.max_length, self.stride, self.max_question)

    def open(self) -> Data:
        """The splits.

        Raises:
            InputError: no such file or tokenizer, malformed questions, an empty split.
        """
        tokenizer = open_tokenizer(self.tokenizer)
        questions: list[Question] = []
        given: list[str | None] = []
        problems: list[str] = []
        for path, split in split_files(self.path, ENDINGS):
            found = read_squad(path, problems)
            questions += found
            given += [split] * len(found)
        skipped = malformed(self.path, problems, self.on_bad)
        if not questions:
            raise InputError(f"{self.path}: holds no question")
        splits = divide([digest(one.context.encode()) for one in questions], self.path, given)
        opened = {
            name: Passages(tokenizer, [questions[i] for i in members], self.cut)
            for name, members in splits.items()
        }
        if unreached := opened["train"].unreached():
            chosen = [opened["train"].examples[i] for i in unreached]
            problems += [
                f"{one.name}: no window of {self.max_length} tokens that shares {self.stride} with "
                f"the next holds the answer {one.answers[0][:80]!r}"
                for one in chosen
            ]
            skipped = malformed(self.path, problems, self.on_bad)
            opened["train"].leave_out(unreached)
        train = opened["train"]
        labels = [
            [one.question, one.context, one.answers, one.starts]
            for split in opened.values()
            for one in split.examples
        ]
        inputs = {key: ((self.max_length,), "int32") for key in train.keys}
        info = Info(
            inputs=inputs,
            label=((2,), "int32"),
            columns={"unanswerable": sum(not one.answers for one in questions)},
            counts={name: len(split) for name, split in opened.items()},
            skipped=skipped,
            fingerprint=fingerprint_of(opened, labels, inputs),
            **known(tokenizer, self.max_length),
        )
        return Data(dict(opened), info)

    def read(self, inputs: list[str], info: Info) -> Passages:
        """Questions to answer: files of SQuAD's JSON, `.jsonl` files of `question` and `context`,
        other files of a question, a tab and its context a line, or such a text itself.

        Raises:
            InputError: a file that holds none, a question without context.
        """
        found: list[Question] = []
        for text in inputs:
            problems: list[str] = []
            ending = Path(text).suffix.lower() if is_file(text) else ""
            if ending == ".json":
                found += read_squad(text, problems, answers=False)
            elif ending in (".jsonl", ".ndjson"):
                found += _read_lines(text, problems)
            else:
                found += [_split(name, line) for name, line in text_lines([text])]
            malformed(text, problems, "stop")
        if not found:
            raise InputError(f"{', '.join(inputs)}: holds no question")
        return Passages(open_tokenizer(self.tokenizer), found, self.cut)

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """The rows of `read`, and their names."""
        import numpy as np

        split = self.read(inputs, info)
        every = np.arange(len(split))
        batch = split.rows(every)
        del batch["label"]
        return split.names(every), batch


def read_squad(path: str, problems: list[str], answers: bool = True) -> list[Question]:
    """The questions of a file; of malformed ones, `problems` gets a line each.

    Args:
        path: a JSON file.
        problems: gets `file: id: what is wrong`.
        answers: whether a question must have answers, or say that it is impossible.

    Raises:
        InputError: the file cannot be read, or is no JSON of this form.
    """
    try:
        value = json.loads(read_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {str(error)[:200]}") from None
    articles = value.get("data") if isinstance(value, dict) else None
    if not isinstance(articles, list):
        raise InputError(f'{path}: not of SQuAD\'s form; expected an object with a list "data"')
    found, ids = [], set()
    for place, context, entry in _entries(path, articles, problems):
        name = printable(f"{path}: question {str(entry.get('id', place))[:80]}")
        try:
            question = _question(name, context, entry, answers)
            if name in ids:
                raise ValueError("the id stands twice")
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        ids.add(name)
        found.append(question)
    return found


def _entries(
    path: str, articles: list[Any], problems: list[str]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(place, context, question) of a file; what is no such thing goes to `problems`."""
    for a, article in enumerate(articles):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            problems.append(f'{path}: data[{a}] has no list "paragraphs"')
            continue
        for p, paragraph in enumerate(paragraphs):
            place = f"data[{a}].paragraphs[{p}]"
            paragraph = paragraph if isinstance(paragraph, dict) else {}
            context, entries = paragraph.get("context"), paragraph.get("qas")
            try:
                context = checked("context", context)
                if not isinstance(entries, list):
                    raise ValueError('no list "qas"')
            except ValueError as error:
                problems.append(f"{path}: {place}: {error}")
                continue
            for q, entry in enumerate(entries):
                if isinstance(entry, dict):
                    yield f"{place}.qas[{q}]", context, entry
                else:
                    problems.append(f"{path}: {place}.qas[{q}] is no object")


def _question(name: str, context: str, entry: dict[str, Any], answers: bool) -> Question:
    """One question, or ValueError."""
    text = checked("question", entry.get("question"))
    if not answers:
        return Question(name, text, context)
    impossible, given = entry.get("is_impossible", False), entry.get("answers")
    if not isinstance(impossible, bool):
        raise ValueError(f"is_impossible is {impossible!r:.80}, not true or false")
    if not isinstance(given, list):
        raise ValueError('no list "answers"')
    if impossible and given:
        raise ValueError(f"is_impossible, but has {len(given)} answers")
    if not impossible and not given:
        raise ValueError("no answer; a question without one needs is_impossible: true")
    found = [_answer(context, one) for one in given]
    return Question(
        name, text, context, tuple(one for one, _ in found), tuple(start for _, start in found)
    )


def _answer(context: str, value: Any) -> tuple[str, int]:
    value = value if isinstance(value, dict) else {}
    text, start = checked("answer's text", value.get("text")), value.get("answer_start")
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise ValueError(f"answer_start is {start!r:.80}, not a character's number")
    there = context[start : start + len(text)]
    if there != text:
        at = context.find(text)
        hint = f"; it stands at {at}" if at >= 0 else "; the context does not hold it"
        raise ValueError(
            f"answer_start {start} points at {there[:80]!r}, not at the answer {text[:80]!r}{hint}"
        )
    return text, start


def checked(what: str, text: Any) -> str:
    """A text that holds something, or ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"no {what}" if text is None else f"the {what} is {text!r:.80}, no text")
    if not text.strip():
        raise ValueError(f"the {what} is empty")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(f"the {what} holds half of a surrogate pair, no Unicode")
    return text


def printable(name: str) -> str:
    """A name without halves of surrogate pairs, which nothing prints."""
    return name.encode("utf-8", "backslashreplace").decode()


def _read_lines(path: str, problems: list[str]) -> list[Question]:
    """Questions of a file with one JSON object per line."""
    found = []
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if not line.strip():
            continue
        name = f"{path}:{number}"
        try:
            value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            value = value if isinstance(value, dict) else {}
            question, context = (checked(key, value.get(key)) for key in ("question", "context"))
            found.append(Question(name, question, context))
        except (ValueError, RecursionError) as error:
            problems.append(f"{name}: {error}")
    return found


def _split(name: str, text: str) -> Question:
    question, _, context = (part.strip() for part in text.partition("\t"))
    if not (question and context):
        raise InputError(f"{name}: expected a question, a tab, and the text that may answer it")
    return Question(name, question, context)
