"""Texts to arrays of ids, by the hub's conventions: padding, truncation, pairs, overflow."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers

from zoo.data.tokenizer_backend import attempt
from zoo.data.tokenizer_folder import SIDES, UNLIMITED
from zoo.errors import InputError

# The library keeps padding and truncation in the tokenizer: two threads would mix theirs up.
_LOCK = threading.Lock()

LONGEST_ROW = 2**24
"""Padding beyond it is a mistake, which the library answers by ending the process."""
PADDING = ("longest", "max_length", "do_not_pad")
TRUNCATION = ("longest_first", "only_first", "only_second", "do_not_truncate")


class Encoded(dict[str, Any]):
    """A tokenizer's result: a dict of what the model takes, and how it belongs to the texts.

    Attributes:
        encodings: the tokenizers library's own result, one per row.
    """

    def __init__(self, values: dict[str, Any], encodings: Sequence[tokenizers.Encoding]) -> None:
        super().__init__(values)
        self.encodings = list(encodings)

    def word_ids(self, row: int = 0) -> list[int | None]:
        """The word that each token belongs to; None for special tokens and padding."""
        return self.encodings[row].word_ids

    def sequence_ids(self, row: int = 0) -> list[int | None]:
        """0 for tokens of the first text, 1 of the second; None for special tokens and padding."""
        return self.encodings[row].sequence_ids

    def tokens(self, row: int = 0) -> list[str]:
        """Tokens as the vocabulary spells them."""
        return self.encodings[row].tokens


@dataclass(frozen=True)
class Fit:
    """How texts are brought to their length.

    Attributes:
        padding: one of `PADDING`.
        truncation: one of `TRUNCATION`.
        max_length: tokens of a row at most, special ones included; None where nothing needs it.
        stride: tokens that a row shares with the one that overflows it.
        multiple: the padded length is a multiple of this.
        padding_side: `right` or `left`.
        truncation_side: likewise.
        pad: token, and its id.
    """

    padding: str
    truncation: str
    max_length: int | None
    stride: int
    multiple: int | None
    padding_side: str
    truncation_side: str
    pad: tuple[str, int] | None


def strategies(
    padding: bool | str, truncation: bool | str | None, max_length: int | None, longest: int
) -> tuple[str, str, int | None]:
    """Padding, truncation and length as the hub's libraries understand them.

    `max_length` alone truncates. Where it is needed and absent, the tokenizer's longest length
    stands in; where the folder states none, there is nothing to pad to or to truncate at.

    Raises:
        InputError: a value that is none of theirs.
    """
    if max_length is not None and padding is False and truncation is None:
        truncation = True
    pad = _strategy("padding", padding, PADDING)
    cut = _strategy("truncation", truncation, TRUNCATION)
    if max_length is None and longest > UNLIMITED:
        return "do_not_pad" if pad == "max_length" else pad, "do_not_truncate", None
    return pad, cut, longest if max_length is None else max_length


def encode(
    backend: tokenizers.Tokenizer,
    texts: Any,
    text_pair: Any,
    fit: Fit,
    add_special_tokens: bool,
    is_split_into_words: bool,
) -> tuple[list[tokenizers.Encoding], bool]:
    """One encoding per text, and whether `texts` was a batch.

    Raises:
        InputError: texts that are none, or a length that cannot be kept.
    """
    rows, batched = _rows(texts, text_pair, is_split_into_words)
    pairs = text_pair is not None or any(_is_pair(row, is_split_into_words) for row in rows)
    special = backend.num_special_tokens_to_add(pairs) if add_special_tokens else 0
    _check(fit, special)
    with _LOCK:
        backend.no_truncation()
        backend.no_padding()
        if fit.truncation != "do_not_truncate":
            attempt(
                "truncation",
                lambda: backend.enable_truncation(
                    min(fit.max_length or 0, 2**32),  # what the library can count
                    stride=fit.stride,
                    strategy=fit.truncation,
                    direction=fit.truncation_side,
                ),
            )
        if fit.padding != "do_not_pad" and fit.pad is not None:
            token, number = fit.pad
            backend.enable_padding(
                direction=fit.padding_side,
                pad_id=number,
                pad_token=token,
                length=fit.max_length if fit.padding == "max_length" else None,
                pad_to_multiple_of=fit.multiple,
            )
        try:
            found = attempt(
                f"texts with truncation={fit.truncation!r}, max_length={fit.max_length}",
                lambda: backend.encode_batch(rows, is_split_into_words, add_special_tokens),
            )
        finally:
            backend.no_truncation()
            backend.no_padding()
    return found, batched


def collect(
    found: Sequence[tokenizers.Encoding], keys: Sequence[str], overflowing: bool
) -> Encoded:
    """Lists by key; rows that overflow follow the one that they come from.

    Args:
        found: one encoding per text.
        keys: names of the hub, such as `input_ids`.
        overflowing: whether to keep what was cut off.
    """
    parts = [[one, *one.overflowing] if overflowing else [one] for one in found]
    encodings = [one for part in parts for one in part]
    values: dict[str, Any] = {
        key: [getattr(one, _ATTRIBUTES[key]) for one in encodings] for key in keys
    }
    if overflowing:
        owners = [[i] * len(part) for i, part in enumerate(parts)]
        values["overflow_to_sample_mapping"] = [i for owner in owners for i in owner]
    return Encoded(values, encodings)


def to_arrays(encoded: Encoded) -> Encoded:
    """The same with int32 arrays, `[B, T]`.

    Raises:
        InputError: rows of different lengths.
    """
    lengths = sorted({len(one) for one in encoded.encodings})
    if len(lengths) > 1:
        raise InputError(
            f"return_tensors='np': rows of {lengths[0]} to {lengths[-1]} tokens make no array; "
            "use padding=True (and truncation=True)"
        )
    return Encoded({k: np.asarray(v, np.int32) for k, v in encoded.items()}, encoded.encodings)


def plain_ids(ids: Any) -> list[int]:
    """Ids as plain integers.

    Raises:
        InputError: something that is no id.
    """
    try:
        found = [int(i) for i in ids]
    except (TypeError, ValueError):
        raise InputError(f"{ids!r:.60}: expected ids, whole numbers") from None
    if wrong := next((i for i in found if not 0 <= i < 2**32), None):
        raise InputError(f"{wrong} is no id; leave ignored positions (-100) out before decoding")
    return found


_ATTRIBUTES = {
    "input_ids": "ids",
    "token_type_ids": "type_ids",
    "attention_mask": "attention_mask",
    "special_tokens_mask": "special_tokens_mask",
    "offset_mapping": "offsets",
}


def _strategy(name: str, value: Any, allowed: Sequence[str]) -> str:
    """True is the first of those allowed, False and None the last."""
    if isinstance(value, str) and value in allowed:
        return value
    if value is None or isinstance(value, bool):
        return allowed[0] if value else allowed[-1]
    raise InputError(f"{name}={value!r}: expected True, False or one of {', '.join(allowed)}")


def _check(fit: Fit, special: int) -> None:
    """Lengths and sides that the library would take amiss, or not at all."""
    for name, side in (("padding", fit.padding_side), ("truncation", fit.truncation_side)):
        if side not in SIDES:
            raise InputError(f"{name}_side={side!r}: expected right or left")
    counts = (("max_length", fit.max_length, 0), ("stride", fit.stride, 0),
              ("pad_to_multiple_of", fit.multiple, 1))  # fmt: skip
    for name, value, least in counts:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and (not whole or value < least):
            raise InputError(f"{name}={value!r}: expected a whole number of at least {least}")
    length = fit.max_length if fit.padding == "max_length" else 0
    if max(length or 0, fit.multiple or 0) > LONGEST_ROW:
        raise InputError(f"rows padded to {max(length or 0, fit.multiple or 0)} tokens fit nowhere")
    if fit.padding != "do_not_pad" and fit.pad is None:
        raise InputError(
            "the tokenizer has no pad token to pad with; give it one, such as "
            "tokenizer.pad_token = tokenizer.eos_token, and mask what it pads"
        )
    if fit.truncation == "do_not_truncate" or fit.max_length is None:
        return
    room = fit.max_length - special
    if room < 0:
        raise InputError(f"max_length={fit.max_length} has no room for {special} special tokens")
    if fit.stride and fit.stride >= room:
        raise InputError(
            f"stride={fit.stride} must be less than the {room} tokens of text that "
            f"max_length={fit.max_length} leaves beside {special} special ones"
        )
    if fit.padding != "do_not_pad" and fit.multiple and fit.max_length % fit.multiple:
        raise InputError(
            f"max_length={fit.max_length} is no multiple of pad_to_multiple_of={fit.multiple}"
        )


def _rows(texts: Any, pair: Any, split: bool) -> tuple[list[Any], bool]:
    """The texts as a batch, and whether they were one."""
    several = isinstance(texts, list | tuple)
    batched = bool(texts) and isinstance(texts[0], list | tuple) if split and several else several
    if batched and pair is not None:
        if not isinstance(pair, list | tuple) or len(pair) != len(texts):
            many = len(pair) if isinstance(pair, list | tuple) else f"a {type(pair).__name__}"
            raise InputError(f"text_pair: expected a list of {len(texts)} texts, found {many}")
        rows: list[Any] = list(zip(texts, pair, strict=True))
    elif batched:
        rows = list(texts)
        if not rows:
            raise InputError("there is no text: the list is empty")
    else:
        # An empty second text counts as none, as it does for the hub's libraries.
        rows = [(texts, pair)] if pair else [texts]
    for number, row in enumerate(rows, 1):
        sides = row if _is_pair(row, split) else (row,)
        for side in sides:
            words = side if split and isinstance(side, list | tuple) else [side]
            for word in words:
                _check_text(word, number, split and words is not side)
    return rows, batched


def _is_pair(row: Any, split: bool) -> bool:
    if not isinstance(row, list | tuple) or len(row) != 2:
        return False
    return all(isinstance(side, list | tuple if split else str) for side in row)


def _check_text(text: Any, number: int, whole: bool) -> None:
    if not isinstance(text, str) or whole:
        found = "a whole text" if isinstance(text, str) else f"{text!r:.40}"
        hint = "is_split_into_words=True takes lists of words" if whole else "expected a string"
        raise InputError(f"text {number} is {found}; {hint}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"text {number} holds half of a surrogate pair, no Unicode") from None
