"""A tokenizer's folder, as the hub's libraries write it: read and written, nothing of it executed.

tokenizer.json            the whole tokenizer; or else its vocabulary:
vocab.txt                 WordPiece (BERT)
vocab.json, merges.txt    byte-level BPE (GPT-2, RoBERTa, CLIP)
tokenizer_config.json     class, special tokens, sides, longest length
special_tokens_map.json, added_tokens.json    older places of the same
chat_template.jinja, additional_chat_templates/*.jinja    see `zoo.data.chat`
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from zoo.data import tokenizer_backend as backends
from zoo.data.folder_files import read_json, read_text, write_texts
from zoo.data.tokenizer_classes import NAMES, PLAIN, Family, family_of
from zoo.errors import InputError

Templates = str | dict[str, str] | None
Token = AddedToken | str

UNLIMITED = 10**20
"""Longest lengths beyond it mean that the folder states none."""
_NOT_STATED = int(1e30)  # what the hub's libraries write then
SIDES = ("right", "left")
INPUTS = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask")

_TEMPLATE, _MORE_TEMPLATES = "chat_template.jinja", "additional_chat_templates"
_SENTENCEPIECE = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "spm.model",
                  "source.spm")  # fmt: skip
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


@dataclass(frozen=True)
class Parts:
    """What a folder holds.

    Attributes:
        backend: text to ids and back, without truncation and padding.
        name: class that the folder names, without `Fast`; empty if none.
        config: `tokenizer_config.json`, with what older files add to it.
        named: special tokens by name, such as `pad_token`, in the hub's order.
        extra: special tokens without a name.
        longest: tokens that the model takes; `UNLIMITED` or more where nothing is stated.
        inputs: keys that the model takes.
        sides: where to pad, and where to cut.
        template: chat template, or several by name.
    """

    backend: tokenizers.Tokenizer
    name: str
    config: dict[str, Any]
    named: dict[str, str]
    extra: list[str]
    longest: int
    inputs: list[str]
    sides: tuple[str, str]
    template: Templates


def read_folder(folder: Path) -> Parts:
    """Everything that a tokenizer's folder says.

    Raises:
        InputError: no vocabulary in it, a damaged file, a tokenizer that these files do not
            represent.
    """
    config = read_json(folder / "tokenizer_config.json") or {}
    model = read_json(folder / "config.json") or {}
    stated = config.get("tokenizer_class") or model.get("tokenizer_class")
    if stated is not None and not isinstance(stated, str):
        raise InputError(f"{folder}: tokenizer_class is {stated!r}, expected a name")
    whole = _whole(folder / "tokenizer.json")
    name, family = family_of(stated, model.get("model_type"))
    if whole and name == "LlamaTokenizer" and backends.is_byte_level(whole):
        # Llama's own is SentencePiece; later models of other vocabularies kept the name.
        name, family = "", PLAIN
    named, extra = _special_tokens(folder, config, family)
    added = _added_tokens(folder, config, {str(token) for token in (*named.values(), *extra)})
    if whole:
        backend = whole
        if family.extras and not extra:
            extra = _unnamed(backend, named)
        backends.follow_config(backend, family, config, named)
        # Which of these tokens stand around a text, the file says.
        config = {k: v for k, v in config.items() if k not in ("add_bos_token", "add_eos_token")}
    else:
        backend = _from_vocabulary(folder, name, family, config, named)
    padding, truncation = backend.padding, backend.truncation
    backend.no_padding()
    backend.no_truncation()
    if padding and "pad_token" not in family.tokens:
        named.setdefault("pad_token", padding["pad_token"])
    backends.add_tokens(folder, backend, added, [*named.values(), *extra])
    if backend.post_processor is None:
        backends.set_template(folder, backend, family, config, named)
    backend.encode_special_tokens = bool(config.get("split_special_tokens", False))
    types = ["token_type_ids"] if family.token_types else []
    longest, inputs, sides = _settings(
        folder,
        {
            "model_max_length": config.get("max_len"),
            "model_input_names": ["input_ids", *types, "attention_mask"],
            "padding_side": padding["direction"] if padding else family.padding_side,
            "truncation_side": truncation["direction"] if truncation else "right",
        }
        | {key: value for key, value in config.items() if value is not None},
    )
    texts = {key: str(token) for key, token in named.items()}
    rest = [str(token) for token in extra]
    template = _templates(folder, config)
    return Parts(backend, name, config, texts, rest, longest, inputs, sides, template)


def write_folder(
    directory: str | Path,
    backend: tokenizers.Tokenizer,
    config: Mapping[str, Any],
    template: Templates,
) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and the chat templates.

    Raises:
        InputError: the directory cannot be written.
    """
    files = {
        "tokenizer.json": backend.to_str(pretty=True),
        "tokenizer_config.json": json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False),
    }
    templates = {"default": template} if isinstance(template, str) else template or {}
    for name, text in templates.items():
        if not name or name != Path(name).name or name.startswith("."):
            raise InputError(f"chat template {name!r}: no file can bear this name")
        files[_TEMPLATE if name == "default" else f"{_MORE_TEMPLATES}/{name}.jinja"] = text
    write_texts(directory, files)


def _whole(path: Path) -> tokenizers.Tokenizer | None:
    if not path.is_file():
        return None
    try:
        return backends.whole(path, read_text(path))
    except InputError:
        read_json(path)  # says it better where the file is no JSON
        raise


def _unnamed(backend: tokenizers.Tokenizer, named: Mapping[str, Token]) -> list[Token]:
    """Special tokens of `tokenizer.json` that have no name, by id."""
    names = {str(token) for token in named.values()}
    added = sorted(backend.get_added_tokens_decoder().items())
    return [token for _, token in added if token.special and token.content not in names]


def _settings(folder: Path, config: Mapping[str, Any]) -> tuple[int, list[str], tuple[str, str]]:
    """Longest length, names of inputs, and sides, each checked."""
    longest = config["model_max_length"]
    if longest is None:
        longest = _NOT_STATED
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest > 0:
        raise InputError(f"{folder}: model_max_length is {longest!r}, expected a positive number")
    inputs = config["model_input_names"]
    if not isinstance(inputs, list) or not all(name in INPUTS for name in inputs):
        raise InputError(
            f"{folder}: model_input_names is {inputs!r}, expected some of {', '.join(INPUTS)}"
        )
    sides = config["padding_side"], config["truncation_side"]
    if not all(side in SIDES for side in sides):
        raise InputError(
            f"{folder}: padding and truncation side are {sides}: expected right or left"
        )
    return int(min(longest, _NOT_STATED)), inputs, sides


def _token(value: Any, where: str) -> Token:
    """A special token as files state it: its text, or a mapping with its flags."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, dict) and isinstance(value.get("content"), str) and value["content"]:
        flags = {key: value[key] for key in _FLAGS if isinstance(value.get(key), bool)}
        return AddedToken(value["content"], special=True, **flags)
    raise InputError(f"{where} is {value!r}, expected a token")


def _special_tokens(
    folder: Path, config: dict[str, Any], family: Family
) -> tuple[dict[str, Token], list[Token]]:
    """Special tokens by name, and those without one; the older map is merged into the config."""
    if "added_tokens_decoder" not in config:
        config.update(read_json(folder / "special_tokens_map.json") or {})
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    others = {
        name: value
        for name, value in config.items()
        if name.endswith("_token") and name not in NAMES and isinstance(value, str | dict)
    }
    if isinstance(extra, dict):
        others, extra = others | extra, []
    if not isinstance(extra, list):
        raise InputError(f"{folder}: extra_special_tokens is {extra!r}, expected a list of tokens")
    values = family.tokens | {name: config[name] for name in NAMES if name in config}
    values = {name: values[name] for name in NAMES if name in values} | others
    named = {
        name: _token(value, f"{folder}: {name}")
        for name, value in values.items()
        if value is not None
    }
    return named, [_token(value, f"{folder}: extra_special_tokens") for value in extra]


def _added_tokens(
    folder: Path, config: Mapping[str, Any], special: set[str]
) -> dict[int, AddedToken]:
    """Tokens beside the vocabulary, by id."""
    try:
        if "added_tokens_decoder" in config:
            return {
                int(number): AddedToken(
                    value["content"],
                    special=bool(value.get("special", False)),
                    **{flag: value[flag] for flag in _FLAGS if flag in value},
                )
                for number, value in config["added_tokens_decoder"].items()
            }
        return {
            int(number): AddedToken(text, special=text in special, normalized=text not in special)
            for text, number in (read_json(folder / "added_tokens.json") or {}).items()
        }
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: damaged list of added tokens: {error!r}") from None


def _from_vocabulary(
    folder: Path, name: str, family: Family, config: dict[str, Any], named: Mapping[str, Token]
) -> tokenizers.Tokenizer:
    """The tokenizer of a class whose vocabulary files say the rest."""
    words, pieces, merges = (folder / file for file in ("vocab.txt", "vocab.json", "merges.txt"))
    if family.files == "wordpiece" and words.is_file():
        for token in ("unk_token", "cls_token", "sep_token"):
            if token not in named:
                raise InputError(f"{folder}: a {name} needs a {token}, which is null")
        if not read_text(words).strip():
            raise InputError(f"{words}: the vocabulary is empty")
        return backends.word_pieces(words, str(named["unk_token"]), config)
    if family.files in ("bytes", "ended") and pieces.is_file() and merges.is_file():
        if not read_json(pieces):
            raise InputError(f"{pieces}: the vocabulary is empty")
        read_text(merges)
        if family.files == "ended":
            return backends.ended_words(pieces, merges, str(named["unk_token"]))
        return backends.byte_pairs(pieces, merges, config)
    save = "save it once with transformers' AutoTokenizer, which writes one"
    there = " and ".join(path.name for path in (words, pieces, merges) if path.is_file())
    if model := next((file for file in _SENTENCEPIECE if (folder / file).is_file()), None):
        why = f"a SentencePiece model ({model}) without tokenizer.json; {save}"
    elif "auto_map" in config:
        why = f"its tokenizer is code, which is never run, and tokenizer.json is missing; {save}"
    elif not there:
        why = "no vocabulary in it: no tokenizer.json, no vocab.txt, no vocab.json"
    elif not name:
        why = (
            f"it has {there} but no tokenizer.json, and neither tokenizer_config.json nor "
            "config.json says which tokenizer_class or model_type this is"
        )
    elif not family.files:
        why = f"a {name} needs tokenizer.json, {there} does not say everything; {save}"
    else:
        need = "vocab.txt" if family.files == "wordpiece" else "both vocab.json and merges.txt"
        why = f"a {name} needs tokenizer.json or {need}; there is only {there}"
    raise InputError(f"{folder}: {why}")


def _templates(folder: Path, config: Mapping[str, Any]) -> Templates:
    """Files come before the config, which holds one template or a list of named ones."""
    paths = {"default": folder / _TEMPLATE}
    paths |= {path.stem: path for path in sorted((folder / _MORE_TEMPLATES).glob("*.jinja"))}
    files = {name: read_text(path) for name, path in paths.items() if path.is_file()}
    if files:
        return files["default"] if [*files] == ["default"] else files
    stated = config.get("chat_template")
    if stated is None or isinstance(stated, str):
        return stated
    try:
        each = stated if isinstance(stated, dict) else {e["name"]: e["template"] for e in stated}
    except (TypeError, KeyError):
        each = {}
    if not each or not all(isinstance(text, str) for pair in each.items() for text in pair):
        raise InputError(f"{folder}: chat_template is neither text nor a list of named templates")
    return each
