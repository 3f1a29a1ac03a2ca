"""The commands: help, results, and one clear message for everything a user can get wrong."""

import dataclasses
import gc
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from tiny_runs import LAYERS, write_features, write_images

from zoo import cli, config, launch
from zoo.training.signals import Signals

ROOT = Path(__file__).parents[1]
HEAD = """\"\"\"A tiny run.\"\"\"
from zoo.config import *
from zoo.data import *
from zoo.models import cnn, mlp, rnn, transformer
from zoo.tasks import *

config = Run(
    model=mlp.Config(input_shape=(4,), widths=(8,), num_classes=3, dropout=0.25),
    task=Classification(),
    data=Npz("tiny.npz"),
    optimizer=Optimizer(learning_rate=1e-2),
    steps=6, batch_size=8, eval_every=3, log_every=1, devices=1, tensorboard=False, workdir="run",
)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with tiny.npz and tiny.py, and nothing outside it touched."""
    monkeypatch.chdir(tmp_path)
    write_features(tmp_path)
    Path("tiny.py").write_text(HEAD)
    return tmp_path


@pytest.fixture
def zoo(here, monkeypatch, capsys):
    """`zoo(...) -> (exit code, stdout, stderr)`, in this process."""
    monkeypatch.setattr(Signals, "block", classmethod(lambda cls: cls()))
    monkeypatch.setattr(launch, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(launch, "configure", lambda *_: None)
    monkeypatch.setattr(cli, "configure", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        capsys.readouterr()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with a finished run of features (run) and one of images (pictures)."""
    folder = tmp_path_factory.mktemp("cli")
    write_features(folder)
    write_images(folder)
    (folder / "tiny.py").write_text(HEAD)
    before = os.getcwd()
    os.chdir(folder)
    try:
        from zoo.training.loop import train

        _, run = config.load(Path("tiny.py"))
        train(run)
        _, images = config.load(_images_config(folder))
        train(images)
    finally:
        os.chdir(before)
    return folder


def _images_config(folder):
    (folder / "pictures.py").write_text(
        HEAD + f"config = dataclasses.replace(config, workdir='pictures', "
        f"model=cnn.Config(layers={LAYERS!r}, num_classes=3, image_size=6), "
        f"data=Npz('images.npz', form='image'))\n"
    )  # fmt: skip
    text = (folder / "pictures.py").read_text()
    (folder / "pictures.py").write_text(text.replace('run."""\n', 'run."""\nimport dataclasses\n'))
    return folder / "pictures.py"


@pytest.fixture
def finished(trained, here):
    """The two runs, copied into the working folder."""
    for name in ("run", "pictures"):
        shutil.copytree(trained / name, here / name)
    shutil.copy(trained / "images.npz", here)
    return here


def configure(**changes):
    """Writes other.py, whose config is that of tiny.py with some fields replaced by code."""
    fields = ", ".join(f"{name}={code}" for name, code in changes.items())
    Path("other.py").write_text(
        HEAD.replace('run."""\n', 'run."""\nimport dataclasses\n')
        + f"config = dataclasses.replace(config, {fields})\n"
    )
    return "other.py"


def assert_one_message(result, code, *told):
    """The exit code, one line that starts with `error:`, what it says, and no traceback."""
    found, out, err = result
    assert found == code, err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    for part in told:
        assert re.search(part, err[err.index("error: ") :]), err
    assert "Traceback" not in err + out and "Traceback" not in out


COMMANDS = {
    "train": config.Run, "models": cli.Models, "summary": cli.Summary, "evaluate": cli.Evaluate,
    "card": cli.Card, "predict": cli.Predict, "explain": cli.Explain, "generate": cli.Generate,
    "doctor": cli.Doctor, "replay": cli.Replay, "compare": cli.Compare,
}  # fmt: skip


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_has_a_sentence_for_every_option(zoo, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "79")  # one column of boxes
    code, out, _ = zoo(command, "--help")
    assert code == 0
    words = re.sub(r"[│╭╮╰╯─\s]", "", out)
    sentences = documented(COMMANDS[command])
    if command == "train":
        assert "--config FILE_OR_NAME" in out
        _, run = config.load(config.find_config("digits_cnn"))
        for part in (run.model, run.task, run.data):
            sentences |= documented(type(part))
    assert len(sentences) >= 2
    for name, sentence in sentences.items():
        assert sentence, f"{name} has no sentence"
        if name not in ("model", "task", "data"):
            assert re.sub(r"\s", "", sentence) in words, f"{name}: {sentence}"


def documented(cls):
    """The docstring of every field of a dataclass and of the dataclasses in it."""
    import ast
    import inspect
    import textwrap

    found = {}
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
    hints = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for field, text in zip(body, body[1:] + [None], strict=True):
        if isinstance(field, ast.AnnAssign) and field.target.id in hints:
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            kind = hints[field.target.id].type
            if dataclasses.is_dataclass(kind):
                found |= documented(kind)
            found[field.target.id] = " ".join(text.value.value.split()) if is_text else ""
    assert set(hints) <= set(found)
    return found


@pytest.mark.parametrize("arguments", [("--help",), ("-h",)])
def test_help_of_the_command_itself(zoo, arguments):
    code, out, _ = zoo(*arguments)
    assert code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\S", out, re.M)


def test_version_and_wrong_commands(zoo):
    code, out, _ = zoo("--version")
    assert code == 0 and re.fullmatch(r"zoo-jax \d+\.\d+\.\d+\n", out)
    for arguments in ((), ("trian",)):
        code, _, err = zoo(*arguments)
        assert code == 2 and "usage: zoo COMMAND" in err
    assert "no command 'trian'" in err


def test_train_prints_the_result_on_stdout_and_progress_on_stderr(zoo):
    code, out, err = zoo("train", "--config", "tiny.py")
    assert code == 0
    digest = json.loads(Path("run/result.json").read_text())["params_digest"]
    assert f"params_digest {digest}" in out.splitlines()
    assert "accuracy" in out
    assert "step 6/6" in err and "60" in err
    code, again, err = zoo("train", "--config", "tiny.py")
    assert (code, again) == (0, out)
    assert "resumed at step 6" in err


def test_models(zoo):
    code, out, _ = zoo("models")
    assert code == 0 and "mlp-8-10-5-1" in out and "151" in out
    code, out, _ = zoo("models", "lstm*")
    assert code == 0 and "lstm-wikitext2-200" in out and "mlp" not in out
    assert_one_message(zoo("models", "resnet9000*"), 2, "resnet9000")


def test_summary(zoo):
    code, out, _ = zoo("summary", "mlp-8-10-5-1")
    assert code == 0 and "151" in out and "dense1" in out
    code, out, _ = zoo("summary", "lenet5", "--shapes", "image=2x32x30x1", "--json", "--depth", "0")
    assert code == 0 and json.loads(out)["inputs"] == "image float32[2,32,30,1]"
    assert len(json.loads(out)["modules"]) == 1
    assert_one_message(zoo("summary", "lenet5", "--shapes", "image:2"), 2, "image=1x32x32x3")
    assert_one_message(zoo("summary", "mlp-8-10-5-2"), 2, "mlp-8-10-5-2", "mlp-8-10-5-1")
    assert_one_message(zoo("summary", "mlp-8-10-5-1", "--task", "translation"), 2, "translation")


def test_card(zoo):
    code, out, _ = zoo("card", "lenet5")
    assert code == 0 and out.startswith("lenet5\n") and "61,706 (as published)" in out
    code, out, _ = zoo("card", "mlp-8*", "--format", "json")
    assert code == 0 and json.loads(out)["parameters"] == 151
    code, out, _ = zoo("card", "mlp-8-10-5-1", "--format", "page")
    assert code == 0 and out.startswith("# Models\n") and "## mlp" in out and "| 151 |" in out
    assert_one_message(zoo("card", "mlp-8-10-5-2"), 2, "mlp-8-10-5-1")


def test_evaluate(finished, zoo):
    code, out, _ = zoo("evaluate", "run", "--devices", "1")
    assert code == 0
    found = json.loads(out)
    result = json.loads(Path("run/result.json").read_text())
    assert (found["step"], found["split"]) == (6, "test")
    assert found["metrics"] == result["metrics"]
    options = ("--split", "validation", "--checkpoint", "3", "--devices", "1")
    code, out, _ = zoo("evaluate", "run", *options)
    assert json.loads(out)["step"] == 3
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line["step"] == 3 and "eval/loss" in line]
    assert json.loads(out)["metrics"]["loss"] == line["eval/loss"]
    for options in (("--parallel", "pmap", "--devices", "2"), ("--batch-size", "5")):
        code, out, _ = zoo("evaluate", "run", *options)
        metrics = json.loads(out)["metrics"]
        assert metrics["accuracy"] == result["metrics"]["accuracy"]
        assert metrics["loss"] == pytest.approx(result["metrics"]["loss"], rel=1e-6)


def test_predict(finished, zoo):
    rows = np.load("tiny.npz")["x_test"][:5]
    np.savez("new.npz", x=rows)
    code, out, _ = zoo("predict", "run", "new.npz", "--format", "jsonl", "--batch-size", "2")
    assert code == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) == 5
    for row in found:
        assert set(row) == {"input", "label", "probabilities"}
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
        assert "new.npz" in row["input"]
    code, out, _ = zoo("predict", "run", "new.npz")
    assert code == 0 and "label" in out and "new.npz" in out


def test_predict_says_what_the_model_says(finished, zoo):
    """Normalised as in training, by the statistics of the checkpoint; without the training data."""
    from zoo import runs

    rows = np.load("tiny.npz")["x_test"]
    np.savez("new.npz", x=rows)
    opened = runs.open_run("run")
    test = opened.run.data.open().splits["test"].rows(np.arange(21))
    logits = np.asarray(opened.module.apply(opened.variables, test["features"]))
    Path("tiny.npz").unlink()
    code, out, _ = zoo("predict", "run", "new.npz", "--format", "jsonl")
    assert code == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["label"] for row in found] == [str(index) for index in logits.argmax(-1)]
    shares = np.asarray(jax.nn.softmax(logits))
    got = np.array([list(row["probabilities"].values()) for row in found])
    np.testing.assert_allclose(got, shares, atol=1e-6)


# What a user can get wrong: (fields of the config, what the message says).
WRONG = {
    "shape of the data": ({"model": "mlp.Config(input_shape=(5,))"}, [r"\[B, 5\]", r"\[B, 4\]"]),
    "classes": (
        {"model": "mlp.Config(input_shape=(4,), num_classes=2)"}, ["num_classes=3", r"2\)"],
    ),
    "no such file": ({"data": "Npz('nowhere.npz')"}, ["nowhere.npz"]),
    "label": ({"data": "Npz('label.npz')"}, [r"label.npz: x_train\[7\]: label -1"]),
    "not finite": ({"data": "Npz('nan.npz')"}, [r"nan.npz: x_test\[2\]"]),
    "token id": (
        {"data": "Npz('ids.npz', form='input_ids')",
         "model": "transformer.Config(vocab_size=9, width=8, depth=1, num_heads=1, hidden=8)"},
        ["12 tokens, the model 9", "--model.vocab-size 12"],
    ),
    "too long": (
        {"data": "Npz('ids.npz', form='input_ids')",
         "model": "transformer.Config(vocab_size=12, width=8, depth=1, num_heads=1, hidden=8, "
                  "max_length=5, num_classes=3)"},
        ["7", "5", "max_length"],
    ),
    "empty split": ({"data": "Csv('few.csv', target='y')"}, ["few.csv", "test|validation|train"]),
    "malformed row": ({"data": "Csv('bad.csv', target='y')"}, ["bad.csv", "23"]),
    "unreadable image": (
        {"data": "ImageFolder('images', image_size=6)",
         "model": "cnn.Config(image_size=6, channels=3)"},
        ["broken.png"],
    ),
    "head": ({"task": "Translation()"}, ["Translation"]),
    "task": ({"task": "Regression()"}, ["Regression"]),
    "adam": ({"optimizer": "Optimizer(weight_decay=0.1)"}, ["adamw"]),
    "batch": ({"batch_size": "0"}, ["batch_size"]),
    "layers": ({"model": "cnn.Config(layers=('convv 3',))"}, ["convv"]),
    "activation": ({"model": "mlp.Config(input_shape=(4,), activation='rely')"}, ["rely", "relu"]),
    "init_from": ({"init_from": "'nowhere'"}, ["nowhere is no run folder"]),
    "best_metric": ({"best_metric": "'beauty'", "best_mode": "'max'"}, ["beauty", "accuracy"]),
}  # fmt: skip


def write_wrong_data():
    good = dict(np.load("tiny.npz"))
    label = dict(good) | {"y_train": good["y_train"].copy()}
    label["y_train"][7] = -1
    np.savez("label.npz", **label)
    nan = dict(good) | {"x_test": good["x_test"].copy()}
    nan["x_test"][2, 1] = np.nan
    np.savez("nan.npz", **nan)
    ids = np.random.default_rng(0).integers(0, 12, (90, 7))
    ids[0, 0] = 11
    np.savez("ids.npz", x=ids, y=np.arange(90) % 3)
    Path("few.csv").write_text("a,b,y\n1,2,p\n3,4,q\n")
    rows = [f"{n},{n % 7},{'pq'[n % 2]}" for n in range(60)]
    rows[21] = "5,p"
    Path("bad.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    for seed, name in enumerate(("cats", "dogs")):
        Path("images", name).mkdir(parents=True)
        for n in range(20):
            pixels = np.random.default_rng([seed, n]).integers(0, 255, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(f"images/{name}/{n}.png")
    Path("images/cats/broken.png").write_bytes(Path("images/cats/1.png").read_bytes()[:60])


@pytest.mark.parametrize("name", sorted(WRONG))
def test_wrong_input_is_one_message_and_exit_2(zoo, name):
    write_wrong_data()
    fields, told = WRONG[name]
    result = zoo("train", "--config", configure(**fields), "--workdir", "wrong")
    assert_one_message(result, 2, *told)
    assert not Path("wrong/result.json").exists()


@pytest.mark.parametrize(
    "data, model, name",
    [
        ("Csv('bad.csv', target='y', on_bad='skip')", "mlp.Config(input_shape=(2,), num_classes=2)",
         "bad.csv:23"),
        ("ImageFolder('images', image_size=6, on_bad='skip')",
         "cnn.Config(image_size=6, channels=3, num_classes=2)", "broken.png"),
    ],
)  # fmt: skip
def test_malformed_records_are_skipped_and_counted_when_asked(zoo, data, model, name):
    write_wrong_data()
    path = configure(data=data, model=model, batch_size=4, steps=1)
    code, _, err = zoo("train", "--config", path)
    assert code == 0, err
    (start,) = json.loads(Path("run/receipt.json").read_text())["starts"]
    assert start["data"]["skipped"]["count"] == 1
    assert name in start["data"]["skipped"]["names"][0]
    assert "warning: 1 malformed records skipped" in err and name in err


def test_another_experiment_in_the_folder(finished, zoo):
    result = zoo("train", "--config", "tiny.py", "--seed", "3", "--optimizer.learning-rate", "0.1")
    assert_one_message(
        result, 2, "seed: 0 -> 3", "optimizer.learning_rate: 0.01 -> 0.1", "--workdir"
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_checkpoints(finished, zoo):
    for path in Path("run/checkpoints/6/state").rglob("d/*"):
        path.write_bytes(b"")
    code, out, err = zoo("evaluate", "run")
    assert code == 0 and json.loads(out)["step"] == 3
    assert "warning: checkpoint 6 is damaged" in err
    code, out, err = zoo("train", "--config", "tiny.py")
    assert code == 0
    assert "warning: checkpoint 6 cannot be used" in err and "quarantine" in err
    for path in Path("run/checkpoints").rglob("meta/metadata"):
        path.write_bytes(b"?")
    assert_one_message(zoo("evaluate", "run"), 1, "no whole checkpoint")
    assert_one_message(zoo("train", "--config", "tiny.py"), 1, "no whole checkpoint")
    gc.collect()  # what the damage left behind, while it is still filtered


@pytest.mark.parametrize("command", [("evaluate",), ("predict", "new.npz")])
def test_what_is_no_run_folder(finished, zoo, command):
    name, *inputs = command
    assert_one_message(zoo(name, "nowhere", *inputs), 2, "nowhere is no run folder")
    Path("empty").mkdir()
    assert_one_message(zoo(name, "empty", *inputs), 2, "empty is no run folder")
    assert_one_message(zoo(name, "tiny.npz", *inputs), 2, "tiny.npz is no run folder")
    shutil.copy("run/config.json", "empty/config.json")
    assert_one_message(zoo(name, "empty", *inputs), 2, "no checkpoints yet")
    Path("run/config.json").write_text("{")
    assert_one_message(zoo(name, "run", *inputs), 2, "config.json is damaged")


def test_replay_and_compare(finished, zoo):
    code, out, _ = zoo("replay", "run")
    assert (code, out) == (0, "run: identical through step 6 (7 steps compared)\n")
    code, out, err = zoo("replay", "pictures", "--steps", "3:4")
    assert code == 0 and out == "pictures: identical through step 4 (2 steps compared)\n"
    shutil.copytree("run", "other")
    code, out, _ = zoo("compare", "run", "other")
    assert (code, out) == (0, "run and other: identical through step 6 (7 steps compared)\n")
    code, out, _ = zoo("compare", "run", "pictures")
    assert code == 1 and "first difference at step 0" in out and "likely cause: model" in out


@pytest.mark.slow
def test_replay_names_the_file_that_was_edited(zoo):
    Path("own.py").write_text(OWN)
    assert zoo("train", "--config", "own.py")[0] == 0
    assert_one_message(zoo("replay", "own"), 2, "Mine", "--config")
    assert zoo("replay", "own", "--config", "own.py")[0] == 0
    Path("own.py").write_text(OWN.replace("nn.relu", "nn.tanh"))
    code, out, _ = zoo("replay", "own", "--config", "own.py")
    assert code == 1
    assert "first difference at step 1; identical through step 0" in out
    assert "first parameter: hidden/bias" in out
    assert "likely cause: edited source: own.py" in out


def test_what_cannot_be_replayed_or_compared(finished, zoo):
    shutil.copytree("run", "other")
    for command in (("replay",), ("compare", "other")):
        assert_one_message(zoo(*command, "nowhere"), 2, "nowhere is no run folder")
        assert_one_message(zoo(*command, "tiny.npz"), 2, "tiny.npz is no run folder")
        lines = Path("run/trace.jsonl").read_text().splitlines()
        Path("run/trace.jsonl").write_text("\n".join([*lines[:3], lines[3][:-9], *lines[4:], ""]))
        assert_one_message(zoo(*command, "run"), 2, "run/trace.jsonl, line 4 is damaged")
        Path("run/trace.jsonl").unlink()
        assert_one_message(zoo(*command, "run"), 2, "run has no trace.jsonl")
        shutil.copy("other/trace.jsonl", "run")
        Path("run/receipt.json").write_text("[]")
        assert_one_message(zoo(*command, "run"), 2, "run/receipt.json is damaged")
        Path("run/receipt.json").unlink()
        assert_one_message(zoo(*command, "run"), 2, "run has no receipt.json")
        shutil.copy("other/receipt.json", "run")
    for steps in ("3:9", "5:4", "7:"):
        assert_one_message(zoo("replay", "run", "--steps", steps), 2, "recorded steps 0 to 6")
    assert_one_message(zoo("replay", "run", "--steps", "three"), 2, "write a:b")
    receipt = json.loads(Path("run/receipt.json").read_text())
    receipt["starts"][0]["devices"]["mesh"] = {"data": "1; rm"}
    Path("run/receipt.json").write_text(json.dumps(receipt))
    assert_one_message(zoo("replay", "run"), 2, "no devices that could be")
    lines = Path("run/trace.jsonl").read_text().splitlines()
    Path("run/trace.jsonl").write_text("\n".join([lines[0], *lines[5:], ""]))
    Path("other/trace.jsonl").write_text("\n".join([*lines[:5], ""]))
    assert_one_message(zoo("compare", "run", "other"), 2, "no logged step in common")


def test_wrong_checkpoints_and_splits(finished, zoo):
    assert_one_message(zoo("evaluate", "run", "--checkpoint", "5"), 2, "no checkpoint '5'", "3, 6")
    assert_one_message(zoo("evaluate", "run", "--checkpoint", "newest"), 2, "last, best")
    code, _, err = zoo("evaluate", "run", "--split", "tests")
    assert code == 2 and "Traceback" not in err
    assert_one_message(zoo("evaluate", "run", "--devices", "9"), 2, "9 asked for")
    assert_one_message(zoo("evaluate", "run", "--batch-size", "-1"), 2, "batch_size")


def test_wrong_inputs_of_predict(finished, zoo):
    assert_one_message(zoo("predict", "run", "nowhere.npz"), 2, "nowhere.npz: no such file")
    Path("text.npz").write_text("not an archive")
    assert_one_message(zoo("predict", "run", "text.npz"), 2, "text.npz")
    np.savez("wide.npz", x=np.zeros((2, 5)))
    assert_one_message(zoo("predict", "run", "wide.npz"), 2, "wide.npz", "4", "5")
    np.savez("nan.npz", x=np.full((2, 4), np.nan))
    assert_one_message(zoo("predict", "run", "nan.npz"), 2, "nan.npz")
    np.savez("none.npz", x=np.zeros((0, 4)))
    code, _, err = zoo("predict", "run", "none.npz")
    assert code == 2 and "Traceback" not in err
    np.savez("new.npz", x=np.zeros((2, 4)))
    assert_one_message(zoo("predict", "run", "new.npz", "--batch-size", "0"), 2, "batch_size")


def test_a_missing_extra_is_named(zoo, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    path = configure(
        data="Dates(count=200)", task="Translation()",
        model="transformer.Config(vocab_size=45, width=8, depth=1, num_heads=1, hidden=8)",
    )  # fmt: skip
    result = zoo("train", "--config", path)
    assert_one_message(result, 2, "sacrebleu is not installed", r"pip install 'zoo-jax\[text\]'")


def test_a_loss_that_explodes(zoo):
    path = configure(optimizer="Optimizer(name='sgd', learning_rate=1e30)", steps=20, save_every=1)
    result = zoo("train", "--config", path)
    assert_one_message(
        result, 1, r"step \d+ is NaN or infinite", "last good checkpoint", "clip-norm"
    )
    assert "run/checkpoints" in result[2]


def test_another_writer(zoo):
    from zoo.training.lock import Lock

    Path("run").mkdir()
    with Lock(Path("run")):
        result = zoo("train", "--config", "tiny.py")
    assert_one_message(result, 1, "another run writes in run", str(os.getpid()))


def test_a_full_disk_and_a_file_in_the_way(zoo, monkeypatch):
    Path("run").write_text("a file")
    assert_one_message(zoo("train", "--config", "tiny.py"), 2, "workdir run")
    Path("run").unlink()

    def full(*_, **__):
        raise OSError(28, "No space left on device", "run/metrics.jsonl")

    monkeypatch.setattr("zoo.training.log.Log._write", full)
    assert_one_message(zoo("train", "--config", "tiny.py"), 1, "No space left on device")


OWN = '''"""A run whose model, task and data are the user's own."""
from dataclasses import dataclass
from typing import Any
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import jax
from zoo.config import Run
from zoo.data import Npz
from zoo.tasks import Classification

class Net(nn.Module):
    width: int
    @nn.compact
    def __call__(self, features, train=False):
        x = nn.relu(nn.Dense(self.width, name="hidden")(features))
        return nn.Dense(3, name="out")(x)

@dataclass(frozen=True)
class Mine:
    width: int = 6
    """Hidden features."""
    def build(self, task=None, dtype=jnp.float32, param_dtype=jnp.float32):
        return Net(self.width)
    def inputs(self, batch=1):
        return {"features": jax.ShapeDtypeStruct((batch, 4), jnp.float32)}

@dataclass(frozen=True)
class Halved(Classification):
    def loss(self, apply, variables, batch, rngs=None, train=False):
        loss, weight, aux = super().loss(apply, variables, batch, rngs, train)
        return loss / 2, weight, aux

@dataclass(frozen=True)
class Same(Npz):
    pass

config = Run(model=Mine(), task=Halved(), data=Same("tiny.npz"), steps=4, batch_size=8,
             devices=1, tensorboard=False, workdir="own")
'''


@pytest.mark.slow
def test_the_users_own_classes(zoo):
    Path("own.py").write_text(OWN)
    code, out, err = zoo("train", "--config", "own.py")
    assert code == 0, err
    shutil.rmtree("own/checkpoints/4")
    code, again, _ = zoo("train", "--config", "own.py")
    assert (code, again) == (0, out)
    np.savez("new.npz", x=np.zeros((2, 4)))
    for command in (("evaluate", "own"), ("predict", "own", "new.npz")):
        code, out, _ = zoo(*command, "--config", "own.py")
        assert code == 0 and out
        assert_one_message(zoo(*command), 2, "Mine", "--config")
    assert_one_message(zoo("train", "--config", "tiny.py", "--init-from", "own"), 2, "own")


def test_a_config_that_fails(zoo):
    Path("broken.py").write_text("a = 1\nb = a +\n")
    assert_one_message(zoo("train", "--config", "broken.py"), 2, r"broken.py:2: SyntaxError")
    assert_one_message(zoo("train", "--config", "digits_cmn"), 2, "did you mean digits_cnn")
    assert_one_message(zoo("train", "--config"), 2, "--config needs")


def process(*command, folder):
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=120,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")},
    )  # fmt: skip


@pytest.mark.slow
def test_as_processes(here):
    """Four real ones: what is imported when, the exit code, nothing but results on stdout."""
    done = process("-c", "import zoo, sys; print('jax' in sys.modules)", folder=here)
    assert done.stdout.strip() == "False", "import zoo stays cheap"
    done = process(str(ROOT / "train.py"), "--config", "tiny.py", "--devices", "2", folder=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("params_digest ")
    assert "2 device(s) by jit" in done.stderr and "Warning" not in done.stderr
    done = process("-m", "zoo.cli", "replay", "run", folder=here)
    assert (done.returncode, done.stdout.splitlines()) == (
        0, ["run: identical through step 6 (7 steps compared)"],
    ), done.stderr  # fmt: skip
    done = process("-m", "zoo.cli", "evaluate", "nowhere", folder=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == ["error: nowhere is no run folder: it has no config.json"]
