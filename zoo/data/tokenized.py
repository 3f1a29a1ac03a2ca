"""Texts as a model takes them: ids of a folder's tokenizer, all of one length."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.data.info import Batch, Data
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.data.tokenizer import Tokenizer


def open_tokenizer(path: str) -> Tokenizer:
    """The tokenizer of a folder; one without a padding token pads with the end of a text.

    Raises:
        InputError: no folder is named, or it is none.
    """
    if not path:
        raise InputError(
            "the data need a tokenizer: start from a pretrained folder (--init-from), or name one "
            "(--data.tokenizer)"
        )
    from zoo.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(path)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise InputError(f"{path}: the tokenizer has no token to pad with")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenize(
    tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> Batch:
    """Ids of texts, or of pairs of texts, cut and padded to one length.

    Returns:
        int32 `[N, max_length]` for each input that the tokenizer names: `input_ids`,
        `attention_mask`, `token_type_ids`.

    Raises:
        InputError: no room is left beside the special tokens.
    """
    return dict(
        tokenizer(
            list(texts), list(pairs) if pairs is not None else None, padding="max_length",
            truncation=True, max_length=max_length, return_tensors="np",
        )
    )  # fmt: skip


def known(tokenizer: Tokenizer, max_length: int) -> dict[str, Any]:
    """What `Info` holds of a tokenizer."""
    return {
        "vocab_size": len(tokenizer), "max_length": max_length, "pad": tokenizer.pad_token_id,
    }  # fmt: skip


def sealed(data: Data, inputs: Batch) -> Data:
    """Data whose fingerprint also tells the ids: another tokenizer makes other examples."""
    total = hashlib.sha256(data.info.fingerprint.encode())
    for key in sorted(inputs):
        total.update(f"\0{key}\0".encode())
        total.update(inputs[key].tobytes())
    info = dataclasses.replace(data.info, fingerprint=total.hexdigest())
    return dataclasses.replace(data, info=info)
