"""Tokenizers: text to ids and back, with the hub's conventions, from a folder that says how."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.encoding import Encoded, Fit, collect, encode, plain_ids, strategies, to_arrays
from zoo.data.tokenizer_backend import attempt
from zoo.data.tokenizer_classes import NAMES
from zoo.data.tokenizer_folder import Parts, read_folder, write_folder
from zoo.errors import InputError
from zoo.hub import TOKENIZER, find_folder

_SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""What `clean_up_tokenization_spaces` joins, in this order."""
_NOT_SAVED = (
    "added_tokens_decoder", "additional_special_tokens", "auto_map", "chat_template",
    "extra_special_tokens", "max_len", "merges_file", "name_or_path", "special_tokens_map_file",
    "tokenizer_file", "vocab_file",
)  # fmt: skip
"""What `tokenizer.json` and other keys say, paths of another machine, and code."""


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a folder that the hub's libraries wrote.

    Args:
        path: folder with `tokenizer.json`, or with the vocabulary files of BERT (`vocab.txt`),
            GPT-2 or RoBERTa (`vocab.json`, `merges.txt`); or a name on the hub.

    Returns:
        A callable; `model.apply(variables, **tokenizer(texts, padding=True, return_tensors="np"))`.

    Raises:
        InputError: no such folder or name, no vocabulary in it, a damaged file, a tokenizer that
            these files do not represent.
    """
    return Tokenizer(read_folder(find_folder(path, TOKENIZER)))


class Tokenizer:
    """Text to ids and back.

    Special tokens are attributes: `pad_token`, `pad_token_id`, and so on for `bos eos unk sep cls
    mask` and names of the model's own; None where there is none. One of the vocabulary can be
    assigned: `tokenizer.pad_token = tokenizer.eos_token`.

    Attributes:
        model_max_length: longest sequence that the model takes; huge where the folder states none.
        model_input_names: keys that a call returns.
        padding_side: `right` or `left`.
        truncation_side: likewise, the side that is cut.
        special_tokens_map: special tokens by name.
        extra_special_tokens: those without a name.
        chat_template: jinja2 source, or several by name, or None.
    """

    def __init__(self, parts: Parts) -> None:
        self._backend, self._name, self._config = parts.backend, parts.name, parts.config
        self.special_tokens_map = dict(parts.named)
        self.extra_special_tokens = list(parts.extra)
        self.chat_template = parts.template
        self.model_max_length = parts.longest
        self.model_input_names = list(parts.inputs)
        self.padding_side, self.truncation_side = parts.sides

    def __call__(
        self,
        text: Any,
        text_pair: Any = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        truncation_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        **unknown: Any,
    ) -> Encoded:
        """Ids of texts, and what else the model takes.

        Args:
            text: one, or a list of texts or of pairs; with `is_split_into_words` a list of
                words, or a list of such lists.
            text_pair: second text or texts, as many.
            add_special_tokens: put those of the tokenizer's template around each text.
            padding: True or `longest` (of the batch), `max_length`, or False.
            truncation: True or `longest_first`, `only_first`, `only_second`, or False. None cuts
                where `max_length` is given without padding.
            max_length: tokens of a row; None is `model_max_length`, where that is stated.
            stride: tokens that a row shares with the one that overflows it.
            is_split_into_words: texts are lists of words; see `Encoded.word_ids`.
            pad_to_multiple_of: round the padded length up.
            padding_side: None is the tokenizer's own.
            truncation_side: likewise.
            return_tensors: `np` gives int32 arrays `[B, T]`; None gives lists, flat ones for a
                single text.
            return_token_type_ids: None follows `model_input_names`.
            return_attention_mask: likewise.
            return_overflowing_tokens: rows that overflow follow as rows of their own, and
                `overflow_to_sample_mapping` says from which text.
            return_special_tokens_mask: `special_tokens_mask`, 1 for special tokens.
            return_offsets_mapping: `offset_mapping`, start and end in characters.

        Raises:
            InputError: no texts, padding without a pad token, lengths that contradict each other,
                rows of different lengths for `np`, an argument that is not known.
        """
        if unknown:
            name = next(iter(unknown))
            close = difflib.get_close_matches(name, inspect.signature(self.__call__).parameters, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"a tokenizer takes no argument {name!r}{hint}")
        if return_tensors not in (None, "np"):
            raise InputError(f"return_tensors={return_tensors!r}: expected 'np' or None")
        pad, cut, length = strategies(padding, truncation, max_length, self.model_max_length)
        number = self.pad_token_id
        fit = Fit(
            pad, cut, length, stride, pad_to_multiple_of, padding_side or self.padding_side,
            truncation_side or self.truncation_side,
            None if number is None else (self.pad_token, number),
        )  # fmt: skip
        found, batched = encode(
            self._backend, text, text_pair, fit, add_special_tokens, is_split_into_words
        )
        asked = {
            "input_ids": True,
            "token_type_ids": return_token_type_ids,
            "attention_mask": return_attention_mask,
            "special_tokens_mask": return_special_tokens_mask,
            "offset_mapping": return_offsets_mapping,
        }
        keys = [
            key
            for key, wanted in asked.items()
            if (key in self.model_input_names if wanted is None else wanted)
        ]
        encoded = collect(found, keys, return_overflowing_tokens)
        if return_tensors:
            return to_arrays(encoded)
        if batched or return_overflowing_tokens:
            return encoded
        return Encoded({key: rows[0] for key, rows in encoded.items()}, encoded.encodings)

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False
    ) -> list[str]:
        """Tokens of a text as the vocabulary spells them."""
        return self(text, pair, add_special_tokens=add_special_tokens).tokens()

    def decode(
        self,
        ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> Any:
        """Text of ids; a list of texts of rows of ids.

        Args:
            ids: one id, a sequence or array of them, or rows of them.
            skip_special_tokens: leave special tokens out.
            clean_up_tokenization_spaces: join punctuation to the word before it; None follows the
                folder. Byte-level tokenizers know their spaces, there it changes nothing.

        Raises:
            InputError: something that is no id.
        """
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        if isinstance(ids, list | tuple) and ids and hasattr(ids[0], "__len__"):
            return [
                self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in ids
            ]
        flat = plain_ids([ids] if isinstance(ids, int) else ids)
        text = attempt("ids", lambda: self._backend.decode(flat, skip_special_tokens))
        if clean_up_tokenization_spaces is None:
            clean_up_tokenization_spaces = self._config.get("clean_up_tokenization_spaces", False)
        if clean_up_tokenization_spaces and type(self._backend.model).__name__ != "BPE":
            for spaced in _SPACED:
                text = text.replace(spaced, spaced.strip())
        return text

    def batch_decode(
        self,
        rows: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """Texts of rows of ids; see `decode`."""
        return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in rows]

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """Id of a token, or ids of several; the unknown token's where there is none."""
        if isinstance(tokens, list | tuple):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        if not isinstance(tokens, str):
            raise InputError(f"{tokens!r:.60}: expected a token or a list of tokens")
        number = self._backend.token_to_id(tokens)
        return self.unk_token_id if number is None and tokens != self.unk_token else number

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Token of an id, or tokens of several; None where there is none."""
        if isinstance(ids, int | np.integer):
            return self._backend.id_to_token(plain_ids([ids])[0])
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._backend.id_to_token(i) for i in plain_ids(ids) if i not in skipped]

    def get_vocab(self) -> dict[str, int]:
        """Id by token, added ones included."""
        return self._backend.get_vocab(with_added_tokens=True)

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary without the added ones; `len(tokenizer)` counts all."""
        return self._backend.get_vocab_size(with_added_tokens=False)

    def __repr__(self) -> str:
        return f"Tokenizer({type(self._backend.model).__name__}, {len(self)} tokens)"

    def __len__(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def all_special_tokens(self) -> list[str]:
        """Special tokens, each once: those with a name, then the others."""
        return [*dict.fromkeys((*self.special_tokens_map.values(), *self.extra_special_tokens))]

    @property
    def all_special_ids(self) -> list[int]:
        """Their ids."""
        return self.convert_tokens_to_ids(self.all_special_tokens)

    def __getattr__(self, name: str) -> Any:
        token = name.removesuffix("_id")
        named = self.__dict__.get("special_tokens_map", {})
        if token not in NAMES and token not in named:
            raise AttributeError(f"a tokenizer has no attribute {name!r}")
        text = named.get(token)
        return text if name == token or text is None else self.convert_tokens_to_ids(text)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.removesuffix("_id") not in NAMES:
            return super().__setattr__(name, value)
        if name.endswith("_id") or self._backend.token_to_id(str(value)) is None:
            raise InputError(f"{name} = {value!r}: assign a token of the vocabulary to a _token")
        named = self.special_tokens_map | {name: value}
        self.special_tokens_map = {key: named[key] for key in (*NAMES, *named) if key in named}

    def apply_chat_template(
        self,
        messages: Sequence[Any],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        return_dict: bool = True,
        return_tensors: str | None = None,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        chat_template: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> Any:
        """A conversation, or a list of them, as the model was trained on it.

        Args:
            messages: `[{"role": "user", "content": "..."}, ...]`, or a list of such lists.
            add_generation_prompt: end with the header of the assistant's answer.
            continue_final_message: end inside the last message.
            tokenize: False returns the text.
            return_dict: False returns the `input_ids` alone.
            return_tensors: see `__call__`, as `padding`, `truncation` and `max_length`.
            chat_template: jinja2 source, or the name of one of several; None is the folder's.
            tools: JSON schemas of functions that the model may call.
            documents: for retrieval.
            variables: what else the template reads.

        Raises:
            InputError: no template, no message, or a template that refuses the conversation.
        """
        # jinja2 is only needed, and only imported, for chats.
        from zoo.data.chat import choose, render

        if continue_final_message and add_generation_prompt:
            raise InputError("continue_final_message and add_generation_prompt exclude each other")
        if not isinstance(messages, list | tuple) or not messages:
            raise InputError("the conversation has no message; give a list of messages")
        template = choose(self.chat_template, chat_template, tools is not None)
        batched = isinstance(messages[0], list | tuple)
        texts = [
            render(
                template,
                chat,
                tools,
                documents,
                add_generation_prompt,
                continue_final_message,
                self.special_tokens_map | variables,
            )
            for chat in (messages if batched else [messages])
        ]
        if not tokenize:
            return texts if batched else texts[0]
        encoded = self(
            texts if batched else texts[0],
            add_special_tokens=False,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            return_tensors=return_tensors,
        )
        return encoded if return_dict else encoded["input_ids"]

    def save(self, directory: str | Path) -> None:
        """Writes a folder that transformers' `AutoTokenizer` and `load_tokenizer` open.

        Raises:
            InputError: the directory cannot be written.
        """
        config = {key: value for key, value in self._config.items() if key not in _NOT_SAVED}
        config |= {name: None for name in NAMES if name in config}
        config |= self.special_tokens_map | {
            "model_max_length": self.model_max_length,
            "model_input_names": self.model_input_names,
            "padding_side": self.padding_side,
            "truncation_side": self.truncation_side,
            "tokenizer_class": self._name or "PreTrainedTokenizerFast",
        }
        if self.extra_special_tokens:
            config["additional_special_tokens"] = self.extra_special_tokens
        write_folder(directory, self._backend, config, self.chat_template)
