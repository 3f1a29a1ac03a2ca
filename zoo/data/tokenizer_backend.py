"""The tokenizers library's object: from `tokenizer.json`, or built of vocabulary files.

Pipelines and templates are those of transformers' BertTokenizer, CLIPTokenizer, GPT2Tokenizer,
RobertaTokenizer.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from zoo.data.tokenizer_classes import Family
from zoo.errors import InputError

T = TypeVar("T")
Token = AddedToken | str
Config = Mapping[str, Any]

END_OF_WORD = "</w>"
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""Special tokens, endings, words, single digits, and signs that follow each other."""


def attempt(where: str | Path, call: Callable[[], T]) -> T:
    """What a function of the tokenizers library returns; its failures name a place.

    Raises:
        InputError: it failed. A panic of the library, which is no Exception, counts as well.
    """
    try:
        return call()
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{where}: {error}") from None


def whole(path: Path, text: str) -> tokenizers.Tokenizer:
    """The tokenizer of a `tokenizer.json`."""
    return attempt(path, lambda: tokenizers.Tokenizer.from_str(text))


def is_byte_level(backend: tokenizers.Tokenizer) -> bool:
    """Whether it splits or joins bytes as GPT-2 does."""
    return any(
        part is not None and b'"ByteLevel"' in part.__getstate__()
        for part in (backend.pre_tokenizer, backend.decoder)
    )


def word_pieces(vocabulary: Path, unknown: str, config: Config) -> tokenizers.Tokenizer:
    """BERT's: split at spaces and punctuation, words into the longest known pieces."""

    def build() -> tokenizers.Tokenizer:
        ids = models.WordPiece.read_file(str(vocabulary))
        return tokenizers.Tokenizer(models.WordPiece(ids, unk_token=unknown))

    backend = attempt(vocabulary, build)
    backend.normalizer = _bert_normalizer(config)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def byte_pairs(vocabulary: Path, merges: Path, config: Config) -> tokenizers.Tokenizer:
    """GPT-2's and RoBERTa's: bytes of words, merged in the order of a table."""

    def build() -> tokenizers.Tokenizer:
        ids, pairs = models.BPE.read_file(str(vocabulary), str(merges))
        return tokenizers.Tokenizer(models.BPE(ids, pairs))

    backend = attempt(f"{vocabulary} and {merges.name}", build)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(_flag(config, "add_prefix_space", False))
    backend.decoder = decoders.ByteLevel()
    return backend


def ended_words(vocabulary: Path, merges: Path, unknown: str) -> tokenizers.Tokenizer:
    """CLIP's: bytes of lower-case words, the last of which bears the word's end, merged in the
    order of a table."""

    def build() -> tokenizers.Tokenizer:
        ids, pairs = models.BPE.read_file(str(vocabulary), str(merges))
        model = models.BPE(
            ids, pairs, unk_token=unknown, end_of_word_suffix=END_OF_WORD,
            continuing_subword_prefix="",
        )  # fmt: skip
        return tokenizers.Tokenizer(model)

    backend = attempt(f"{vocabulary} and {merges.name}", build)
    spaces = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = pre_tokenizers.Split(tokenizers.Regex(_CLIP_WORDS), "removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = _spaced()
    return backend


def _spaced() -> decoders.Decoder:
    """Bytes joined, a space where a word ends and none around the text."""
    space = rf"(?:{END_OF_WORD}|[\s\x1c-\x1f])+"  # what Python strips
    around = tokenizers.Regex(rf"\A{space}|{space}\z")
    parts = [decoders.Replace(around, ""), decoders.Replace(END_OF_WORD, " ")]
    return decoders.Sequence([decoders.ByteLevel(), *parts])


def follow_config(
    backend: tokenizers.Tokenizer, family: Family, config: Config, named: Mapping[str, Token]
) -> None:
    """Where `tokenizer.json` and the config differ on these, the hub's libraries follow the config.

    A config that is silent means its class's default.
    """
    if family.files == "wordpiece" and isinstance(backend.normalizer, normalizers.BertNormalizer):
        backend.normalizer = _bert_normalizer(config)
    before = backend.pre_tokenizer
    if family.files == "bytes" and isinstance(before, pre_tokenizers.ByteLevel):
        prefix = _flag(config, "add_prefix_space", False)
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(prefix, use_regex=before.use_regex)
    if family.files == "ended" and isinstance(backend.decoder, decoders.ByteLevel):
        backend.decoder = _spaced()
    if "cls_token" in named and isinstance(backend.post_processor, processors.RobertaProcessing):
        if family.files == "bytes" and all(_pairs(backend, named, "sep_token", "cls_token")):
            backend.post_processor = _roberta(backend, config, named)


def add_tokens(
    where: Path,
    backend: tokenizers.Tokenizer,
    stated: Mapping[int, AddedToken],
    special: Sequence[Token],
) -> None:
    """Adds the tokens that files state beside the vocabulary, by id, then the special ones.

    What the backend knows as an added token already stays as it is.

    Raises:
        InputError: a stated token cannot have the id that it should have.
    """
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    texts = {str(token) for token in special}
    for number, token in sorted(stated.items()):
        if token.content in known:
            continue
        token.special = token.special or token.content in texts
        backend.add_tokens([token])
        known.add(token.content)
        found = backend.token_to_id(token.content)
        if found != number:
            raise InputError(
                f"{where}: the added token {token.content!r} should have id {number}, but beside "
                f"this vocabulary it has {found}; some of the vocabulary is missing"
            )
    for token in special:
        if str(token) not in known:
            whole_token = AddedToken(token, special=True) if isinstance(token, str) else token
            backend.add_tokens([whole_token])
            known.add(str(token))


def set_template(
    where: Path,
    backend: tokenizers.Tokenizer,
    family: Family,
    config: Config,
    named: Mapping[str, Token],
) -> None:
    """Puts the class's special tokens around one text or two."""
    token = {name: str(value) for name, value in named.items()}
    if family.files == "bytes" and "cls_token" in family.tokens:
        backend.post_processor = attempt(where, lambda: _roberta(backend, config, named))
        return
    if family.files == "ended":
        end, start = _pairs(backend, named, "eos_token", "bos_token")
        backend.post_processor = attempt(
            where, lambda: processors.RobertaProcessing(end, start, False, False)
        )
        return
    if family.files == "wordpiece":
        first, last, second = token.get("cls_token"), token.get("sep_token"), None
    else:
        first = token.get("bos_token") if _flag(config, "add_bos_token", False) else None
        last = token.get("eos_token") if _flag(config, "add_eos_token", False) else None
        second = first
    around = [(first, "$A:0", last, 0), (second, "$B:1", last, 1)]
    single, more = (
        [f"{a}:{i}"] * bool(a) + [text] + [f"{z}:{i}"] * bool(z) for a, text, z, i in around
    )
    used = [(text, backend.token_to_id(text)) for text in dict.fromkeys((first, last)) if text]
    backend.post_processor = attempt(
        where,
        lambda: processors.TemplateProcessing(
            single=single, pair=single + more, special_tokens=used
        ),
    )


def _bert_normalizer(config: Config) -> normalizers.Normalizer:
    accents = config.get("strip_accents")
    if accents is not None:
        accents = _flag(config, "strip_accents", False)
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=_flag(config, "tokenize_chinese_chars", True),
        strip_accents=accents,
        lowercase=_flag(config, "do_lower_case", True),
    )


def _roberta(
    backend: tokenizers.Tokenizer, config: Config, named: Mapping[str, Token]
) -> processors.PostProcessor:
    sep, cls = _pairs(backend, named, "sep_token", "cls_token")
    return processors.RobertaProcessing(
        sep, cls, _flag(config, "trim_offsets", True), _flag(config, "add_prefix_space", False)
    )


def _pairs(backend: tokenizers.Tokenizer, named: Mapping[str, Token], *names: str) -> list[Any]:
    """Text and id of special tokens; None for one that has no id."""
    texts = [str(named.get(name, "")) for name in names]
    ids = [backend.token_to_id(text) for text in texts]
    return [
        (text, number) if number is not None else None
        for text, number in zip(texts, ids, strict=True)
    ]


def _flag(config: Config, name: str, default: bool) -> bool:
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise InputError(f"tokenizer_config.json: {name} is {value!r}, expected true or false")
    return value
