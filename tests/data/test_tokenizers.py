"""Tokenizers of the hub's folders: what they give is frozen, what is wrong with them is said."""

import copy
import json
import os
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from tokenizer_folders import (
    CHAT,
    FOLDERS,
    PIECES,
    TEXTS,
    WORDS,
    bert,
    bert_whole,
    byte_files,
    chat,
    frozen,
    gpt2,
    gpt2_ends,
    roberta,
    unigram,
    write,
)  # fmt: skip

import zoo
from zoo.errors import InputError
from zoo.models.transformer import Config

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests/golden/tokenizers.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A tokenizer by the name of its folder."""
    return lambda name: zoo.load_tokenizer(FOLDERS[name](tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize("name", FOLDERS)
def test_it_gives_what_the_reference_gave(load, name):
    assert frozen(load(name)) == GOLDEN[name]


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_saved_opens_as_the_same(load, name, tmp_path):
    tokenizer = load(name)
    tokenizer.save(tmp_path / "new" / "folder")
    again = zoo.load_tokenizer(tmp_path / "new" / "folder")
    for one in (again, copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert frozen(one) == GOLDEN[name]
        assert one.special_tokens_map == tokenizer.special_tokens_map
        assert one.model_max_length == tokenizer.model_max_length
        assert one.get_vocab() == tokenizer.get_vocab() and repr(one) == repr(tokenizer)


def test_its_result_goes_into_a_model(load):
    tokenizer = load("distilbert")
    cfg = Config(vocab_size=len(tokenizer), width=8, depth=1, num_heads=2, hidden=8, num_classes=2)
    model = cfg.build("text-classification")
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=12, return_tensors="np")
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "input_ids": ((9, 12), np.int32), "attention_mask": ((9, 12), np.int32)
    }  # fmt: skip
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), **batch))
    logits = jax.eval_shape(lambda variables: model.apply(variables, **batch), variables)
    assert logits.shape == (9, 2)


def test_labels_of_words_find_their_tokens(load):
    encoded = load("bert")(WORDS, is_split_into_words=True, return_offsets_mapping=True)
    assert encoded.tokens()[:4] == ["[CLS]", "un", "##aff", "##able"]
    assert encoded.word_ids()[:4] == [None, 0, 0, 0]
    starts, ends = zip(*encoded["offset_mapping"], strict=True)
    for word, start, end in zip(encoded.word_ids(), starts, ends, strict=True):
        assert word is None or 0 <= start < end <= len(WORDS[word])


def test_an_answer_lies_in_the_second_text_of_each_row(load):
    tokenizer, context = load("bert"), "the quick brown fox jumps and the dog jumped . " * 3
    encoded = tokenizer("the fox ?", context, truncation="only_second", max_length=14, stride=3,
                        return_overflowing_tokens=True, return_offsets_mapping=True)  # fmt: skip
    assert len(encoded["input_ids"]) > 3 and set(encoded["overflow_to_sample_mapping"]) == {0}
    seen = set()
    for row, offsets in enumerate(encoded["offset_mapping"]):
        for part, (start, end) in zip(encoded.sequence_ids(row), offsets, strict=True):
            if part == 1:
                seen |= set(range(start, end))
    assert seen == {i for i, char in enumerate(context) if char != " "}


def test_special_tokens_are_attributes(load):
    tokenizer = load("gpt2")
    assert tokenizer.pad_token is tokenizer.pad_token_id is tokenizer.mask_token is None
    with pytest.raises(InputError, match="no pad token"):
        tokenizer(["a", "b"], padding=True)
    with pytest.raises(InputError, match="of the vocabulary"):
        tokenizer.pad_token = "<nowhere>"
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == tokenizer.all_special_ids[0]
    rows = tokenizer(["a", "a longer one"], padding=True, return_tensors="np")["attention_mask"]
    assert rows[0].sum() == 1 and rows[1].all()
    assert load("chat").image_token_id == load("chat").convert_tokens_to_ids("<image>")
    with pytest.raises(AttributeError):
        tokenizer.image_token  # noqa: B018
    assert tokenizer.convert_tokens_to_ids(["no such"]) == [tokenizer.unk_token_id]


def test_threads_do_not_mix_their_lengths(load):
    tokenizer, text = load("bert"), "the dog " * 20

    def length(n):
        return len(tokenizer(text, truncation=True, max_length=n)["input_ids"]) == n

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(length, [3, 9, 17, 30] * 50))


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (([],), {}, "no text"), ((None,), {}, "text 1 is None"), ((["a", 3],), {}, "text 2 is 3"),
        ((b"a",), {}, "expected a string"), (("\ud800",), {}, "surrogate"),
        (("a",), {"is_split_into_words": True}, "lists of words"),
        ((["a"], "b"), {}, "list of 1"), ((["a"], ["b", "c"]), {}, "found 2"),
        (("a",), {"max_lenght": 3}, "did you mean max_length"),
        (("a",), {"xyzzy": 3}, "no argument 'xyzzy'$"),
        (("a",), {"padding": "left"}, "padding='left'"),
        (("a",), {"truncation": 3}, "truncation=3"),
        (("a",), {"max_length": 1}, "no room for 2"), (("a",), {"max_length": -1}, "max_length=-1"),
        (("a",), {"max_length": 2.5}, "whole number"),
        (("a",), {"padding": "max_length", "max_length": 10**12}, "fit nowhere"),
        (("a",), {"max_length": 6, "stride": 4}, "less than the 4 tokens"),
        (("a b c d", "c"), {"truncation": "only_second", "max_length": 4}, "too short"),
        (("a",), {"padding": True, "pad_to_multiple_of": 0}, "at least 1"),
        ((["a"],), {"padding": True, "truncation": True, "max_length": 7, "pad_to_multiple_of": 4},
         "no multiple"),
        (("a",), {"padding_side": "up"}, "right or left"),
        (("a",), {"return_tensors": "pt"}, "expected 'np'"),
        ((["a", "the dog"],), {"return_tensors": "np"}, "padding=True"),
    ],
)  # fmt: skip
def test_calls_that_mean_nothing(load, arguments, options, message):
    with pytest.raises(InputError, match=message):
        load("bert")(*arguments, **options)


def test_ids_that_are_none(load):
    tokenizer = load("bert")
    for bad in ([-100], "abc", None, ["x"], [[1], [-1]]):
        with pytest.raises(InputError):
            tokenizer.decode(bad)
    for bad in (3, None, [3]):
        with pytest.raises(InputError):
            tokenizer.convert_tokens_to_ids(bad)
    assert tokenizer.decode(np.array([[5, 6]])) == ["the The"] and tokenizer.decode([]) == ""


def change(folder, **values):
    """The folder, with values of its tokenizer_config.json replaced."""
    path = folder / "tokenizer_config.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    return write(folder, tokenizer_config__json=before | values)


def without(folder, *names):
    for name in names:
        (folder / name).unlink()
    return folder


BROKEN = {
    "no such folder": lambda f: f / "nowhere",
    "is a file": lambda f: bert(f) / "vocab.txt",
    "no vocabulary in it": lambda f: f,
    "damaged JSON": lambda f: write(bert_whole(f), tokenizer__json='{"version": '),
    "config.json: damaged JSON": lambda f: write(bert(f), tokenizer_config__json="{,}"),
    "expected a JSON object": lambda f: write(bert(f), tokenizer_config__json="[1]"),
    "Git LFS pointer": lambda f: write(
        bert_whole(f), tokenizer__json="version https://git-lfs.github.com/spec/v1\noid 1"
    ),
    "tokenizer.json: ": lambda f: write(bert_whole(f), tokenizer__json={"model": {}}),
    r"SentencePiece model \(spiece.model\)": lambda f: write(f, spiece__model="\n\x01"),
    "is code, which is never run": lambda f: change(
        without(bert(f), "tokenizer_config.json"), auto_map={"AutoTokenizer": ["x.X", None]}
    ),
    "tokenizer_class or model_type": lambda f: without(bert(f), "tokenizer_config.json"),
    "MPNetTokenizer needs tokenizer.json": lambda f: change(
        bert(f), tokenizer_class="MPNetTokenizer"
    ),
    "both vocab.json and merges.txt": lambda f: without(gpt2(f), "merges.txt"),
    "the vocabulary is empty": lambda f: write(bert(f), vocab__txt="\n"),
    "merges.txt: ": lambda f: write(gpt2(f), merges__txt="#version: 0.2\nno such\n"),
    "vocab.json and merges.txt: ": lambda f: write(gpt2(f), vocab__json={"a": "b"}),
    "not UTF-8 at byte 0": lambda f: (
        (bert(f) / "vocab.txt").write_bytes(b"\xff\xfe") and f
    ),
    "'plain added' should have id 403": lambda f: write(
        gpt2_ends(f), added_tokens__json={"plain added": 403}
    ),
    "damaged list of added tokens": lambda f: change(bert(f), added_tokens_decoder={"x": 3}),
    "pad_token is 3": lambda f: change(bert(f), pad_token=3),
    "cls_token, which is null": lambda f: change(bert(f), cls_token=None),
    "model_max_length is 'x'": lambda f: change(bert(f), model_max_length="x"),
    "model_input_names is": lambda f: change(bert(f), model_input_names=["bbox"]),
    "right or left": lambda f: change(bert(f), padding_side="up"),
    "do_lower_case is 'no'": lambda f: change(bert(f), do_lower_case="no"),
    "tokenizer_class is 3": lambda f: change(bert(f), tokenizer_class=3),
    "expected a list of tokens": lambda f: change(bert(f), extra_special_tokens="x"),
    "chat_template is neither": lambda f: change(bert(f), chat_template=[1]),
}  # fmt: skip


@pytest.mark.parametrize("message", BROKEN)
def test_folders_that_are_broken(tmp_path, message):
    with pytest.raises(InputError, match=message) as caught:
        zoo.load_tokenizer(BROKEN[message](tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [bert, bert_whole, gpt2_ends, roberta, unigram, chat])
def test_whatever_a_config_holds_the_answer_is_a_tokenizer_or_an_input_error(tmp_path, make):
    folder = make(tmp_path)
    rng = random.Random(0)
    texts = {path: path.read_text() for path in folder.glob("*.json") if path.stem != "vocab"}
    odd = [None, 3, -1.5, True, "", "x", [], ["x", 3], {}, {"content": 3}, {"x": {}}, 10**40]
    for _ in range(60):
        path = rng.choice(sorted(texts))
        values = json.loads(texts[path])
        place, keys = values, ["tokenizer_class"]
        while isinstance(place, dict) and place:
            keys = sorted(place)
            key = rng.choice(keys)
            if not isinstance(place[key], dict) or rng.random() < 0.5:
                place[key] = rng.choice(odd)
                break
            place = place[key]
        path.write_text(json.dumps(values))
        try:
            zoo.load_tokenizer(folder)(["a text"], padding="max_length", max_length=9)
        except InputError:
            pass
        path.write_text(texts[path])


@pytest.mark.parametrize(
    "template, message",
    [
        ("{{ ''.__class__.__mro__ }}", "unsafe"), ("{{ messages.append(1) }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"), ("{% include 'x' %}", "no loader"),
        ("{% import 'os' as os %}", "no loader"), ("{{ range(10**9) }}", "Range too big"),
        ("{% set n = namespace(__class__=1) %}", "no attribute '__class__'"),
        ("{% set n = namespace() %}{% set n.__x = 1 %}", "no attribute '__x'"),
        ("{{ raise_exception('alternate!') }}", "alternate!"), ("{% if %}", "line 1"),
        ("{{ messages[0].content.x.y }}", "no attribute"), ("{{ 1 / 0 }}", "division"),
    ],
)  # fmt: skip
def test_a_template_stays_in_its_sandbox(load, template, message):
    with pytest.raises(InputError, match=message):
        load("chat").apply_chat_template([{"role": "user", "content": "x"}], chat_template=template)


def test_a_template_sees_plain_values_only(load):
    tokenizer = load("chat")
    messages = [{"role": "user", "content": "x", "image": np.zeros(3), "gone": None}]
    shown = tokenizer.apply_chat_template(
        messages, tokenize=False, path=Path("x"), n=np.float32(0.5),
        chat_template="{{ messages[0] | tojson }} {{ path }} {{ n }} {{ bos_token }} {{ tools }}",
    )  # fmt: skip
    assert shown == (
        '{"role": "user", "content": "x", "image": "<ndarray>"} <PosixPath> 0.5 <|start|> None'
    )
    assert "gone" in messages[0]


def test_conversations(load):
    tokenizer, said = load("chat"), {"role": "user", "content": "Hi"}
    one = tokenizer.apply_chat_template([said], return_tensors="np")
    assert one["input_ids"].shape == one["attention_mask"].shape and one["input_ids"].ndim == 2
    two = tokenizer.apply_chat_template([[said], [said, said]], padding=True, return_tensors="np")
    assert two["attention_mask"][0, 0] == 0 and two["input_ids"].shape[0] == 2
    ids = tokenizer.apply_chat_template([said], return_dict=False)
    assert tokenizer.decode(ids) == tokenizer.apply_chat_template([said], tokenize=False)
    begun = [said, {"role": "assistant", "content": "So far "}]
    text = tokenizer.apply_chat_template(begun, continue_final_message=True, tokenize=False)
    assert text.endswith("<|assistant|>\nSo far")
    several = load("chats")
    with_tools = several.apply_chat_template([said], tools=[{"name": "f"}], tokenize=False)
    assert with_tools.startswith('[{"name": "f"}]')
    assert several.apply_chat_template([said], chat_template="tool_use", tokenize=False)
    for bad, options in (
        ([], {}), ("x", {}), ([3], {}), ([[]], {}), ([said], {"tools": [print]}),
        ([said], {"continue_final_message": True, "add_generation_prompt": True}),
        ([said], {"continue_final_message": True, "chat_template": "nothing"}),
    ):  # fmt: skip
        with pytest.raises(InputError):
            tokenizer.apply_chat_template(bad, **options)
    with pytest.raises(InputError, match="no chat template"):
        load("bert").apply_chat_template([said])


def test_templates_are_saved_inside_the_folder_only(load, tmp_path):
    tokenizer = load("chat")
    for name in ("../out", "/out", "", ".hidden", "a/b"):
        tokenizer.chat_template = {"default": CHAT, name: "x"}
        with pytest.raises(InputError, match="no file can bear"):
            tokenizer.save(tmp_path / "saved")
    (tmp_path / "file").write_text("")
    tokenizer.chat_template = CHAT
    with pytest.raises(InputError, match="cannot be written"):
        tokenizer.save(tmp_path / "file")


WATCHED = """
import os, sys
folder = os.path.realpath(sys.argv[1])
import zoo
heavy = {"tokenizers", "jinja2", "transformers"}
assert not heavy & set(sys.modules)
import zoo.data.tokenizer, zoo.data.chat
opened = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        opened.append(os.path.realpath(arguments[0]))
    if event in ("import", "subprocess.Popen", "os.system"):
        assert not str(arguments[1]).startswith(folder), arguments
sys.addaudithook(watch)
tokenizer = zoo.load_tokenizer(folder)
tokenizer.apply_chat_template([{"role": "user", "content": "x"}])
assert not heavy & {"transformers"} & set(sys.modules)
print(*{os.path.relpath(p, folder) for p in opened if not p.endswith((".py", ".pyc"))})
"""


def test_nothing_of_a_folder_is_executed_and_nothing_beside_it_read(tmp_path):
    folder = chat(tmp_path)
    secret = str(tmp_path.parent / "secret.txt")
    change(
        folder, auto_map={"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]},
        vocab_file=secret, tokenizer_file=secret, merges_file=secret, name_or_path=secret,
    )  # fmt: skip
    for name in ("code", "tokenizers", "jinja2", "tokenization_x", "__init__"):
        (folder / f"{name}.py").write_text("raise SystemExit('executed')")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, folder], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {
        "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
    }  # fmt: skip
    zoo.load_tokenizer(folder).save(tmp_path / "saved")
    assert secret not in (tmp_path / "saved" / "tokenizer_config.json").read_text()
    assert "auto_map" not in (tmp_path / "saved" / "tokenizer_config.json").read_text()


@pytest.mark.parametrize("path", ["", "x" * 5000, "a\0b", None])
def test_paths_that_are_none(path):
    with pytest.raises(InputError, match="no such folder|no vocabulary in it"):
        zoo.load_tokenizer(path)


def test_vocabularies_may_hold_anything(tmp_path):
    odd = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a:b", "##\u00a0x", "\u2028", "dup", "dup"]
    tokenizer = zoo.load_tokenizer(write(bert(tmp_path), vocab__txt="\n".join(odd)))
    assert tokenizer.unk_token_id == 1 and tokenizer("zzz")["input_ids"] == [2, 1, 3]
    folder = tmp_path / "spaced"
    folder.mkdir()
    byte_files(folder, ["<s>", "</s>", "<pad>", "<unk>", "<mask>"])
    named = {"cls_token": "a : b $A", "sep_token": "x y:1", "tokenizer_class": "RobertaTokenizer"}
    change(folder, **named)
    tokenizer = zoo.load_tokenizer(folder)
    assert tokenizer.tokenize("", add_special_tokens=True) == ["a : b $A", "x y:1"]
    assert len(PIECES) > 5
