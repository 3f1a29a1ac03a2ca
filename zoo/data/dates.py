"""Generated parallel text: a date as people write it, and as ISO 8601 writes it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.data.info import Arrays, Batch, Data, Info
from zoo.data.split import digest, divide, fingerprint
from zoo.data.text import IGNORED, text_lines
from zoo.errors import InputError

PAD, BOS, EOS = 0, 1, 2
ALPHABET = " ',-./0123456789abcdefghijklmnopqrstuvwxyz"
"""Characters after the three special ids."""
_ID = {char: 3 + i for i, char in enumerate(ALPHABET)}
SOURCE_LENGTH = 48
TARGET_LENGTH = 11
"""Ten characters and EOS."""
MONTHS = (
    "january february march april may june july august september october november december".split()
)
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_ONES = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
ORDINALS = [
    *_ONES,
    *(f"{stem}teenth" for stem in "thir four fif six seven eigh nine".split()),
    "twentieth",
    *(f"twenty-{one}" for one in _ONES[:9]),
    "thirtieth",
    "thirty-first",
]
FIRST = datetime.date(1900, 1, 1).toordinal()
LAST = datetime.date(2099, 12, 31).toordinal()
FORMS = 9


def write(day: datetime.date, form: int) -> str:
    """The date as people write it, in one of nine forms."""
    d, month, y = day.day, MONTHS[day.month - 1], day.year
    suffix = "th" if 11 <= d <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    weekday = DAYS[day.weekday()]
    return (
        f"{d} {month} {y}",
        f"{month} {d}, {y}",
        f"the {ORDINALS[d - 1]} of {month}, {y}",
        f"{d}{suffix} of {month} {y}",
        f"{weekday}, {d} {month} {y}",
        f"{weekday} the {ORDINALS[d - 1]} of {month} {y}",
        f"{d}.{day.month}.{y}",
        f"{month[:3]} {d} '{y % 100:02d}" if y >= 2000 else f"{month[:3]} {d} {y}",
        f"{y}, {month} the {d}{suffix}",
    )[form]


@dataclass(frozen=True)
class Dates:
    """Sentences such as `the third of march, 1999` and `1999-03-03`, character by character.

    Dates from 1900 to 2099 in nine forms, each sentence once; a two-digit year means 2000 to 2099.
    The raw record that decides a split is the sentence's bytes.
    """

    count: int = 20000
    """Different sentences to generate."""
    seed: int = 0
    """Which ones."""

    def open(self) -> Data:
        """The splits.

        Raises:
            InputError: a count that is not positive or more than there are, an empty split.
        """
        total = (LAST - FIRST + 1) * FORMS
        if not 1 <= self.count <= total // 2:
            raise InputError(f"dates: count must be from 1 to {total // 2}, not {self.count}")
        rng = np.random.Generator(np.random.Philox(self.seed % 2**64))
        chosen = rng.choice(total, self.count, replace=False)
        days = [datetime.date.fromordinal(FIRST + int(n) // FORMS) for n in chosen]
        sources = [write(day, int(n) % FORMS) for day, n in zip(days, chosen, strict=True)]
        targets = [day.isoformat() for day in days]
        digests = [digest(source.encode()) for source in sources]
        splits = divide(digests, "dates")
        arrays = _encoder(sources) | _decoder(targets)
        inputs = {k: (a.shape[1:], "int32") for k, a in arrays.items() if k != "label"}
        info = Info(
            inputs=inputs,
            label=((TARGET_LENGTH,), "int32"),
            vocab_size=3 + len(ALPHABET),
            max_length=SOURCE_LENGTH,
            counts={name: len(members) for name, members in splits.items()},
            fingerprint=fingerprint(splits, digests, targets, inputs),
            bos=BOS,
            eos=EOS,
            pad=PAD,
        )
        opened = {}
        for name, members in splits.items():
            texts = [f"dates: {sources[i]!r}" for i in members]
            opened[name] = Arrays({k: a[members] for k, a in arrays.items()}, texts)
        return Data(opened, info)

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Sentences: lines of text files, or the text itself; lower-cased.

        Returns:
            Names, and `input_ids` and `attention_mask` (the output is generated from `info.bos`).

        Raises:
            InputError: a character or length that the training sentences cannot have.
        """
        lines = [(name, text.lower()) for name, text in text_lines(inputs)]
        for name, text in lines:
            strange = sorted(set(text) - set(ALPHABET))
            if strange:
                raise InputError(f"{name}: no such character in the vocabulary: {strange[0]!r}")
            if len(text) > SOURCE_LENGTH:
                raise InputError(f"{name}: {len(text)} characters, at most {SOURCE_LENGTH} fit")
        return [name for name, _ in lines], _encoder([text for _, text in lines])

    def decode(self, ids: Sequence[int] | np.ndarray, info: Info) -> str:
        """Text up to the first EOS; padding, BOS and ignored positions left out."""
        text = []
        for i in map(int, ids):
            if i == EOS:
                break
            if 3 <= i < 3 + len(ALPHABET):
                text.append(ALPHABET[i - 3])
        return "".join(text)


def _encoder(sources: Sequence[str]) -> Batch:
    ids = np.full((len(sources), SOURCE_LENGTH), PAD, np.int32)
    for i, source in enumerate(sources):
        ids[i, : len(source)] = [_ID[char] for char in source]
    return {"input_ids": ids, "attention_mask": (ids != PAD).astype(np.int32)}


def _decoder(targets: Sequence[str]) -> Batch:
    label = np.full((len(targets), TARGET_LENGTH), IGNORED, np.int32)
    for i, target in enumerate(targets):
        label[i, : len(target) + 1] = [*(_ID[char] for char in target), EOS]
    mask = (label != IGNORED).astype(np.int32)
    shifted = np.concatenate([np.full((len(label), 1), BOS), label[:, :-1]], 1)
    shifted = np.where(shifted == IGNORED, PAD, shifted).astype(np.int32)
    return {"decoder_input_ids": shifted, "decoder_attention_mask": mask, "label": label}
