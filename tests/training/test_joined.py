"""Tasks that join rows, through the trainer: questions on long texts, tags of long sentences."""

import dataclasses
import json
import shutil
import types

import golden_models
import numpy as np
import pytest
from compile_cache import compiled_once  # noqa: F401 (a fixture of every test here)
from question_data import (
    questions,
    sentences,
    write_bert,
    write_columns,
    write_jsonl,
    write_squad,
)
from tiny_runs import again, assert_same_bits, features_run, metrics_of

import zoo
from zoo import assemble, runs, tasks
from zoo.cli import main
from zoo.config import Optimizer, Pretrained
from zoo.data import Squad, TaggedWords
from zoo.inference.prediction import predict
from zoo.training import loop
from zoo.training.evaluator import Evaluator

FEW = {"model": Pretrained(), "steps": 6, "eval_every": 3, "batch_size": 8}
OPTIMIZER = Optimizer(name="adamw", learning_rate=6e-3, clip_norm=1.0)
LONG = {
    "model": Pretrained(dropout=0.0), "steps": 120, "eval_every": 40, "batch_size": 32,
    "log_every": 40, "steps_per_dispatch": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("joined")


def squad_run(folder, impossible=False, **changes):
    """Questions whose contexts take one window or several."""
    bert = folder / "bert"
    if not bert.exists():
        write_bert(bert)
    path = write_squad(folder / f"q{impossible}.json", questions(90, impossible=impossible))
    given = {
        "task": tasks.QuestionAnswering(n_best=4, no_answer=impossible, max_answer_length=3),
        "data": Squad(path, max_length=14, stride=4, max_question=3),
        "optimizer": OPTIMIZER,
        "init_from": str(bert),
    }
    return features_run(folder, **(FEW | given | changes))


def tags_run(folder, **changes):
    """Sentences of which the longer take two rows."""
    given = {
        "task": tasks.TokenClassification(),
        "data": TaggedWords(
            write_columns(folder / "t.conll", sentences(150)), max_length=8, stride=2
        ),
    }
    return squad_run(folder, **(given | changes))


@pytest.fixture(scope="module")
def answered(place):
    run = squad_run(place, workdir=str(place / "qa"), **LONG)
    return run, again(run)


@pytest.fixture(scope="module")
def tagged(place):
    run = tags_run(place, workdir=str(place / "ner"), **(LONG | {"steps": 80}))
    return run, again(run)


@pytest.mark.slow
def test_questions_are_learnt(answered):
    run, result = answered
    metrics = result["metrics"]
    assert metrics["exact_match"] > 0.9 and metrics["f1"] >= metrics["exact_match"]
    lines = [line for line in metrics_of(run) if "eval/f1" in line]
    assert [line["step"] for line in lines] == [40, 80, 120]


@pytest.mark.slow
def test_tags_are_learnt(tagged):
    _, result = tagged
    metrics = result["metrics"]
    assert metrics["entity_f1"] > 0.9 and metrics["accuracy"] > 0.95
    assert set(metrics["entity_f1_per_type"]) == {"PER", "LOC"}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(squad_run, marks=pytest.mark.slow),
        pytest.param(tags_run, marks=pytest.mark.full),
    ],
)
def test_a_run_that_was_cut_ends_with_the_same_bits(tmp_path, make):
    run = make(tmp_path, workdir=str(tmp_path / "whole"))
    whole = again(run)
    cut = dataclasses.replace(run, workdir=str(tmp_path / "cut"))
    again(cut, steps=3)
    shutil.rmtree(tmp_path / "bert")
    assert again(cut) == whole and metrics_of(cut) == metrics_of(run)


def evaluated(run, **changes):
    """Metrics of the test split by the run's last checkpoint."""
    opened = runs.open_run(run.workdir)
    run = dataclasses.replace(opened.run, **changes)
    data = run.data.open()
    parallel = assemble.parallelism(run)
    evaluator = Evaluator(opened.module, opened.task, parallel)
    variables = parallel.place_state(opened.variables)
    return loop.evaluate(evaluator, variables, data.splits["test"], run, opened.info)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["answered", pytest.param("tagged", marks=pytest.mark.full)])
def test_scores_do_not_depend_on_how_they_are_computed(request, which):
    run, result = request.getfixturevalue(which)
    for changes in (
        {"eval_batch_size": 7},
        {"eval_batch_size": 500},
        {"eval_batch_size": 12, "parallel": "pmap", "devices": 4},
        {"eval_batch_size": 10, "devices": 2},
        {"eval_batch_size": 16, "reproducible": 4, "devices": 2, "steps_per_dispatch": 1},
    ):
        found = evaluated(run, **changes)
        for name, value in result["metrics"].items():
            if name not in ("loss", "confusion_matrix", "entity_f1_per_type"):
                assert found[name] == pytest.approx(value, abs=1e-9), (changes, name)
        assert found["loss"] == pytest.approx(result["metrics"]["loss"], rel=1e-4)


@pytest.mark.slow
def test_scores_are_those_of_the_predictions(answered):
    """The test questions, asked as new ones: what is scored is what is shown."""
    run, result = answered
    opened = runs.open_run(run.workdir)
    test = opened.run.data.open().splits["test"]
    texts = [f"{one.question}\t{one.context}" for one in test.examples]
    rows = predict(opened, texts, 16)
    right = [row["answer"] in one.answers for row, one in zip(rows, test.examples, strict=True)]
    assert np.mean(right) == pytest.approx(result["metrics"]["exact_match"])
    for row, one in zip(rows, test.examples, strict=True):
        assert one.context[row["start"] : row["end"]] == row["answer"]
        assert len(row["candidates"]) <= 4 and row["candidates"][0]["answer"] == row["answer"]


@pytest.mark.slow
def test_an_answer_far_into_a_long_text_is_found(answered):
    opened = runs.open_run(answered[0].workdir)
    context = "New, " * 40 + "Dora works in Oslo. " + "new. " * 30
    (row,) = predict(opened, [f"Who?\t{context}"], 5)
    assert row["answer"] in ("Dora", "Oslo")  # which of them, so small a model has not learnt
    assert row["start"] == context.index(row["answer"]) > 190


@pytest.mark.slow
def test_no_answer_is_an_answer(place):
    run = squad_run(place, True, workdir=str(place / "v2"), **LONG)
    metrics = again(run)["metrics"]
    assert metrics["no_answer_accuracy"] > 0.9 and metrics["has_answer_f1"] > 0.8
    rows = predict(runs.open_run(run.workdir), ["New?\tBob lives in Rome."], 4)
    assert rows[0]["answer"] == "" and rows[0]["start"] == rows[0]["end"] == 0
    with pytest.raises(Exception, match="--task.no-answer"):
        again(run, task=tasks.QuestionAnswering(), workdir=str(place / "v1"))


@pytest.mark.slow
def test_words_of_a_long_sentence_are_all_tagged(tagged):
    opened = runs.open_run(tagged[0].workdir)
    text = "new " * 9 + "Anna lives in New Paris. " + "new " * 7 + "Bob works in Oslo ."
    (row,) = predict(opened, [text], 3)
    assert len(row["words"]) == len(row["tags"]) == len(row["probabilities"]) == 27
    assert row["words"][11:16] == ["in", "New", "Paris", ".", "new"]
    assert {"type": "PER", "text": "Anna"} in row["entities"] and None not in row["tags"]


@pytest.mark.slow
def test_a_word_of_which_nothing_is_left_has_no_tag(tagged):
    (row,) = predict(runs.open_run(tagged[0].workdir), ["Bob \u200b works ."], 3)
    assert row["words"][1] == "\u200b" and row["tags"][1] is row["probabilities"][1] is None
    assert row["tags"][0] == "B-PER"


def test_tags_that_mark_no_entities(tmp_path):
    rows = [(words, ["W" if word.isalpha() else "P" for word in words])
            for words, _ in sentences(60)]  # fmt: skip
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    source = TaggedWords(path, str(write_bert(tmp_path / "bert")), max_length=16, stride=0)
    info = source.open().info
    task = tasks.TokenClassification().bind(info)
    assert not task.joins and task.best == ("accuracy", "max")
    split = source.read(["Bob."], info)
    kept = {"predicted": np.array([[0, 1, 0, 0]]), "probability": np.full((1, 4), 0.5)}
    expected = {"words": ["Bob", "."], "tags": ["W", "P"], "probabilities": [0.5, 0.5]}
    assert task.show(kept, split) == [expected]


@pytest.mark.slow
def test_the_command_line(answered, tagged, capfd):
    folder = answered[0].workdir
    assert main(["predict", folder, "Who?\tBob lives in Rome.", "--format", "jsonl"]) == 0
    row = json.loads(capfd.readouterr().out)
    assert row["answer"] == "Bob" and row["input"] == "text 1" and row["candidates"]
    assert main(["predict", folder, "Who?\tBob lives in Rome."]) == 0
    told = capfd.readouterr().out
    assert "Bob" in told and "candidates" not in told
    assert main(["predict", folder, "Who is it?"]) == 2
    assert "a question, a tab" in capfd.readouterr().err
    assert main(["predict", tagged[0].workdir, "Bob lives in Rome."]) == 0
    assert "B-PER, O, O, B-LOC, O" in " ".join(capfd.readouterr().out.replace("│", " ").split())
    assert main(["evaluate", tagged[0].workdir]) == 0
    found = json.loads(capfd.readouterr().out)["metrics"]
    assert found["entity_f1"] == tagged[1]["metrics"]["entity_f1"]


def test_a_split_without_sentences_is_a_sequence_a_row():
    task = dataclasses.replace(tasks.TokenClassification())
    task = task.bind(types.SimpleNamespace(num_classes=3, class_names=("O", "B-X", "I-X")))
    assert task.joins and task.best == ("entity_f1", "max")
    label = np.array([[1, 2, -100, 0], [1, -100, 1, 2]])
    kept = {"label": label, "predicted": np.array([[1, 2, 1, 0], [1, 2, 2, 2]])}
    found = task.score(kept, object())
    assert found["entity_precision"] == 1 / 2 and found["entity_recall"] == 1 / 3


@pytest.mark.full
@pytest.mark.parametrize("head", ["BertForQuestionAnswering", "BertForTokenClassification"])
def test_a_frozen_head_of_the_reference_goes_on(tmp_path, capfd, head):
    """Its head is used, not made anew; windows of eight tokens are all that its positions allow."""
    config, _, tensors, _ = golden_models.read(head)
    bert = golden_models.write_folder(tmp_path / "bert", config, tensors)
    pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] who where ? bob paris lives in .".split()
    (bert / "vocab.txt").write_text("\n".join(pieces))
    (bert / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    if head.endswith("QuestionAnswering"):
        run, cut = squad_run(tmp_path, steps=1), {"max_length": 8, "stride": 1, "max_question": 2}
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, **cut))
    else:
        path = write_jsonl(tmp_path / "t.jsonl", sentences(80, scheme="IOB1"))
        run = tags_run(tmp_path, steps=1, data=TaggedWords(path, max_length=8, stride=2))
    still = Optimizer(name="sgd", learning_rate=0.0)
    run = dataclasses.replace(run, init_from=str(bert), optimizer=still)
    metrics = again(run)["metrics"]
    assert 0 <= metrics.get("f1", metrics.get("entity_f1")) <= 1
    assert_same_bits(
        runs.open_run(run.workdir).variables["params"], zoo.from_pretrained(bert)[1]["params"]
    )
    assert "initialised" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("which", ["answered", "tagged"])
def test_converted_runs_compute_the_same(request, tmp_path, which):
    run, _ = request.getfixturevalue(which)
    assert main(["convert", run.workdir, str(tmp_path / "hub")]) == 0
    opened = runs.open_run(run.workdir)
    model, variables = zoo.from_pretrained(tmp_path / "hub")
    assert model.task == opened.module.task
    assert_same_bits(variables["params"], opened.variables["params"])
    if which == "tagged":
        labels = json.loads((tmp_path / "hub" / "config.json").read_text())["id2label"]
        assert list(labels.values()) == list(opened.info.class_names)
    assert zoo.load_tokenizer(tmp_path / "hub")("Bob")["input_ids"][0] == 2
