"""`zoo generate`: a hub folder and a run folder, texts, lines, streams, and what it refuses."""

import json
import sys

import draw
import jax
import numpy as np
import pytest
import tokenizer_folders as folders
from tiny_runs import features_run

import zoo
from zoo import cli, cli_generate, tasks
from zoo.data import TextFiles
from zoo.models import bert, gpt2, rnn
from zoo.training.loop import train


def _save(folder, model, seed=0, vocabulary=True, **files):
    variables = draw.variables(model, **model.cfg.inputs(), scale=0.3, seed=seed)
    zoo.save_pretrained(folder, model, variables)
    if vocabulary:
        folders.byte_files(folder, ["<|endoftext|>"])
    folders.write(folder, **files)
    return variables


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders: of a tiny GPT-2 (lm), of a smaller one, without tokenizer, and of a classifier."""
    place = tmp_path_factory.mktemp("lm")
    config = gpt2.Config(vocab_size=400, width=12, depth=2, num_heads=2, max_length=64)
    model = config.build("text-generation")
    _save(place / "lm", model, generation_config__json={"eos_token_id": [7, 9]})
    _save(place / "small", gpt2.Config(400, 8, 1, 2, max_length=64).build("text-generation"), 1,
          tokenizer_config__json={"chat_template": folders.CHAT,
                                  "eos_token": "<|endoftext|>"})  # fmt: skip
    _save(place / "mute", model, vocabulary=False)
    classifier = bert.Config(vocab_size=60, width=8, depth=1, num_heads=2, hidden=8, max_length=16)
    _save(place / "classes", classifier.build("text-classification"), vocabulary=False)
    folders.bert(place / "classes")
    return place


@pytest.fixture
def call(place, monkeypatch, capsys):
    """`call(...) -> (exit code, stdout, stderr)`."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(cli, "prepare", lambda _: None)
    monkeypatch.setattr(cli_generate, "configure", lambda *_: None)

    def call(*arguments):
        capsys.readouterr()
        try:
            code = cli.main(["generate", *map(str, arguments)])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


def expected(place, prompt, **options):
    """The continuation, by the package's verbs."""
    model, variables = zoo.from_pretrained(place / "lm")
    tokenizer = zoo.load_tokenizer(place / "lm")
    ids = np.asarray([tokenizer(prompt)["input_ids"]])
    found = zoo.generate(model, variables, ids, max_new_tokens=8, eos_token_id=[7, 9], **options)
    row = np.asarray(found)[0, ids.shape[1] :].tolist()
    ends = [i for i, token in enumerate(row) if token in (7, 9)]
    return tokenizer.decode(row[: ends[0]] if ends else row, skip_special_tokens=True)


PROMPTS = ("The quick brown", "dogs")


def test_texts_and_lines(call, place):
    code, out, _ = call("lm", *PROMPTS, "--max-new-tokens", 8)
    texts = [expected(place, prompt) for prompt in PROMPTS]
    assert (code, out) == (0, "".join(f"{p}{t}\n" for p, t in zip(PROMPTS, texts, strict=True)))
    code, out, _ = call("lm", *PROMPTS, "--max-new-tokens", 8, "--format", "jsonl")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["text"] for line in lines] == texts
    assert [line["prompt"] for line in lines] == list(PROMPTS)
    assert all(0 <= line["tokens"] <= 8 for line in lines)


@pytest.mark.slow
def test_beams_draws_and_drafts(call, place):
    code, out, _ = call("lm", PROMPTS[0], "--max-new-tokens", 8, "--beams", 3)
    assert (code, out) == (0, PROMPTS[0] + expected(place, PROMPTS[0], num_beams=3) + "\n")
    drawn = ("lm", PROMPTS[0], "--max-new-tokens", 8, "--temperature", 1.5, "--top-k", 50)
    code, out, _ = call(*drawn, "--seed", 4)
    options = {"do_sample": True, "temperature": 1.5, "top_k": 50, "key": jax.random.key(4)}
    assert (code, out) == (0, PROMPTS[0] + expected(place, PROMPTS[0], **options) + "\n")
    assert call(*drawn, "--seed", 5)[1] != out
    plain = call("lm", *PROMPTS, "--max-new-tokens", 8)
    assert call("lm", *PROMPTS, "--max-new-tokens", 8, "--draft", "small") == plain


@pytest.mark.slow
def test_a_terminal_sees_the_same_text_as_it_comes(call, monkeypatch):
    plain = call("lm", PROMPTS[0], "--max-new-tokens", 8)
    assert call("lm", PROMPTS[0], "--max-new-tokens", 8, "--stream") == plain
    streamed = []
    stream = cli_generate._stream
    monkeypatch.setattr(cli_generate, "_stream", lambda *x: (streamed.append(1), stream(*x)))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert call("lm", PROMPTS[0], "--max-new-tokens", 8) == plain
    assert call("lm", *PROMPTS, "--max-new-tokens", 8)[0] == 0
    assert streamed == [1]


def test_a_chat_prints_the_answer_alone(call, place):
    code, out, _ = call("small", "Hi", "--chat", "--max-new-tokens", 5)
    assert code == 0 and "Hi" not in out
    assert call("small", "Hi", "--chat", "--max-new-tokens", 5, "--stream")[1] == out


@pytest.mark.slow
def test_a_run_folder_writes_in_its_own_vocabulary(call, place):
    (place / "text.txt").write_text("".join(f"the cat sat on mat {i}.\n" for i in range(160)))
    model = rnn.Config(cell="lstm", vocab_size=256, embedding=8, hidden=(12,), length=16)
    run = features_run(
        place, model=model, task=tasks.LanguageModelling(),
        data=TextFiles(str(place / "text.txt"), length=16, block=48), workdir=str(place / "bytes"),
        steps=30, eval_every=30,
    )  # fmt: skip
    train(run)
    code, out, err = call("bytes", "the caté", "--max-new-tokens", 12, "--format", "jsonl")
    assert code == 0, err
    line = json.loads(out)
    assert line["prompt"] == "the caté" and 0 < line["tokens"] <= 12
    code, streamed, _ = call("bytes", "the caté", "--max-new-tokens", 12, "--stream")
    assert (code, streamed) == (0, "the caté" + line["text"] + "\n")
    code, _, err = call("bytes", "x", "--chat")
    assert code == 2 and "has no chat template" in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("lm",), "there is no prompt"),
        (("lm", "a", ""), "prompt 2 is empty"),
        (("nowhere/at/all", "a"), "no such folder"),
        (("mute", "a"), "mute"),
        (("classes", "a"), "a model for text-classification; generate needs text-generation"),
        (("lm", "the " * 60), r"more than the model's 64 positions"),
        (("lm", "a", "--max-new-tokens", "64"), r"with --max-new-tokens 64"),
        (("lm", "a", "--chat"), "has no chat template"),
        (("lm", "a", "b", "--stream"), "--stream is for one prompt"),
        (("lm", "a", "--top-k", "4"), "set --temperature"),
        (("lm", "a", "--temperature=-1"), "temperature is above 0"),
        (("lm", "a", "--draft", "small", "--beams", "2"), "a beam search takes no draft"),
    ],
)
def test_errors_are_one_message_and_exit_2(call, arguments, message):
    code, out, err = call(*arguments)
    assert code == 2 and out == ""
    assert message in err.replace("\n", " "), err
    assert "Traceback" not in err and err.count("error: ") == 1
