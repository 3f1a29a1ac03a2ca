"""Runs that start from a pretrained folder: what they take, keep, and never need again."""

import dataclasses
import json
import shutil
from pathlib import Path

import golden_images
import golden_models
import jax
import numpy as np
import pytest
import tiny_texts
from compile_cache import compiled_once  # noqa: F401 (a fixture of every test here)
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from tiny_runs import again, arrays_of, assert_same_bits, features_run, images_run, metrics_of
from tiny_texts import text_run

import zoo
from zoo import cli, pretrained, replay, runs, tasks
from zoo import config as configs
from zoo.config import MeshShape, Optimizer, Pretrained
from zoo.data import Npz
from zoo.data.tokenizer import load_tokenizer
from zoo.errors import InputError
from zoo.inference.export import convert
from zoo.training.checkpoints import Checkpoints
from zoo.training.receipt import read_receipt

STILL = Optimizer(name="sgd", learning_rate=0.0)
ADAM = Optimizer(name="adam", learning_rate=1e-2)
HEAD = {"head/bias", "head/kernel"}


@pytest.fixture
def folder(tmp_path):
    """A tiny BERT with a head of three classes, as transformers writes it."""
    config, _, tensors, _ = golden_models.read("BertForSequenceClassification")
    return golden_models.write_folder(tmp_path / "bert", config, tensors)


def ids_run(tmp_path, folder, **changes):
    """A fine-tuning of ids below 13 in three classes, 6 steps of 8."""
    path = tmp_path / "ids.npz"
    if not path.exists():
        ids = np.random.default_rng(5).integers(1, 13, (90, 7))
        np.savez(path, x=ids, y=ids[:, 0] % 3)
    given = {
        "model": Pretrained(), "init_from": str(folder), "steps": 6, "eval_every": 3,
        "data": Npz(str(path), form="input_ids"), "optimizer": ADAM,
    }  # fmt: skip
    return features_run(tmp_path, **(given | changes))


def params_of(run):
    return runs.open_run(run.workdir).variables["params"]


@pytest.mark.slow
def test_the_first_state_is_what_was_saved(tmp_path, folder, capfd):
    run = ids_run(tmp_path, folder, steps=1, optimizer=STILL, average=0.5)
    again(run)
    _, saved = zoo.from_pretrained(folder)
    assert_same_bits(params_of(run), saved["params"])
    assert "initialised" not in capfd.readouterr().err
    start = read_receipt(Path(run.workdir))["starts"][0]["warm_start"]
    assert start["folder"] == str(folder) and list(start["sha256"]) == ["model.safetensors"]
    assert start["fresh"] == [] and len(start["params_digest"]) == 64
    config = json.loads((Path(run.workdir) / "config.json").read_text())["model"]
    assert config["class"] == "bert" and config["width"] == 6 and config["num_classes"] == 3


@pytest.mark.slow
def test_a_head_of_other_classes_is_new_and_named(tmp_path, folder, capfd):
    ids = np.random.default_rng(5).integers(1, 13, (90, 7))
    np.savez(tmp_path / "five.npz", x=ids, y=ids[:, 0] % 5)
    run = ids_run(
        tmp_path, folder, steps=1, optimizer=STILL,
        data=Npz(str(tmp_path / "five.npz"), form="input_ids"),
    )  # fmt: skip
    again(run)
    assert "has no head/bias, head/kernel; initialised" in capfd.readouterr().err
    ours, theirs = arrays_of(params_of(run)), arrays_of(zoo.from_pretrained(folder)[1]["params"])
    assert ours["head/kernel"].shape == (6, 5)
    for path in ours.keys() - HEAD:
        np.testing.assert_array_equal(ours[path], theirs[path])
    assert read_receipt(Path(run.workdir))["starts"][0]["warm_start"]["fresh"] == sorted(HEAD)


def test_classes_are_told_by_their_names(folder):
    path = folder / "config.json"
    named = json.loads(path.read_text()) | {"id2label": {"0": "a", "1": "b", "2": "c"}}
    path.write_text(json.dumps(named))
    saved = pretrained.read_saved(folder)
    head = zoo.from_pretrained(folder)[1]["params"]["head"]
    for labels, fresh in ((("c", "a", "b"), []), (("c", "a", "x"), sorted(HEAD)), ((), [])):
        module = saved.config(labels=labels).build("text-classification")
        variables = zoo.init(module, jax.random.key(0))
        taken, new = pretrained.fill(saved, module, variables)
        assert new == fresh
        wanted = variables["params"]["head"] if fresh else head
        order = [2, 0, 1] if labels and not fresh else [0, 1, 2]
        for name, leaf in wanted.items():
            np.testing.assert_array_equal(taken["params"]["head"][name], leaf[..., np.array(order)])


@pytest.mark.slow
def test_one_of_two_classes_is_one_output(tmp_path, folder):
    ids = np.random.default_rng(5).integers(1, 13, (90, 7))
    np.savez(tmp_path / "two.npz", x=ids, y=ids[:, 0] % 2)
    data = Npz(str(tmp_path / "two.npz"), form="input_ids", kind="binary")
    run = ids_run(tmp_path, folder, task=tasks.Binary(), data=data, steps=1)
    again(run)
    assert arrays_of(params_of(run))["head/kernel"].shape == (6, 1)


@pytest.mark.full
def test_a_mesh_starts_from_the_same_parameters(tmp_path, folder):
    base = ids_run(tmp_path, folder, steps=1, optimizer=STILL, devices=2)
    wanted = zoo.from_pretrained(folder)[1]["params"]
    for name, changes in (
        ("tensor", {"mesh": MeshShape(tensor=2)}),
        ("fsdp", {"mesh": MeshShape(fsdp=2)}),
    ):
        run = dataclasses.replace(base, workdir=str(tmp_path / name), **changes)
        again(run)
        assert_same_bits(params_of(run), wanted)


@pytest.mark.full
def test_jit_and_pmap_train_to_the_same_bits(tmp_path, folder):
    digests = {
        again(
            ids_run(tmp_path, folder, devices=2, parallel=way, workdir=str(tmp_path / way))
        )["params_digest"]
        for way in ("jit", "pmap")
    }  # fmt: skip
    assert len(digests) == 1


@pytest.mark.full
def test_a_run_starts_from_a_run_that_was_fine_tuned(tmp_path, folder):
    first = ids_run(tmp_path, folder, workdir=str(tmp_path / "first"))
    again(first)
    second = ids_run(tmp_path, first.workdir, steps=1, optimizer=STILL)
    again(second)
    assert_same_bits(params_of(second), params_of(first))


@pytest.mark.slow
def test_what_computes_something_else_is_refused(tmp_path, folder):
    def refused(match, **changes):
        with pytest.raises(InputError, match=match):
            again(ids_run(tmp_path, folder, **changes))
        assert not (tmp_path / "run" / "config.json").exists()

    cfg = runs_config(folder)
    again(ids_run(tmp_path, folder, model=cfg, workdir=str(tmp_path / "same"), steps=1))
    refused("epsilon 0.001, not 0.5", model=dataclasses.replace(cfg, epsilon=0.5))
    refused("num_heads 2, not 3", model=dataclasses.replace(cfg, num_heads=3))
    refused("no head for image-classification", model=cfg, task=Odd())
    refused("nowhere is no run folder", init_from=str(tmp_path / "nowhere"))
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    refused("model.safetensors: its header is damaged", model=cfg)


FROZEN = Optimizer(
    name="adamw", learning_rate=1e-2, weight_decay=0.1, clip_norm=1.0,
    freeze=("embed*", "layer0/attention"), layer_decay=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A run on labelled texts with frozen parts; its pretrained folder is gone. Read only."""
    place = tmp_path_factory.mktemp("tuned")
    run = text_run(place, optimizer=FROZEN)
    again(run)
    shutil.rmtree(place / "bert")
    return run


@pytest.mark.slow
def test_frozen_parameters_keep_their_bits_and_have_no_state(tuned, tmp_path):
    before = arrays_of(zoo.from_pretrained(tiny_texts.write_bert(tmp_path / "bert"))[1]["params"])
    after = arrays_of(params_of(tuned))
    frozen = {p for p in before if p.startswith(("embed", "layer0/attention/"))}
    assert len(frozen) == 13
    for path in before:
        same = before[path].tobytes() == after[path].tobytes()
        assert same == (path in frozen), path
    meta = Checkpoints(Path(tuned.workdir) / "checkpoints", read_only=True).meta(6)
    state = [path for path in meta["shapes"] if path.startswith("opt_state")]
    assert any(path.endswith("head/kernel") for path in state)
    assert not any(path.endswith(tuple(frozen)) for path in state)


@pytest.mark.slow
def test_metrics_are_those_of_scikit_learn(tuned):
    opened = runs.open_run(tuned.workdir)
    split = opened.run.data.open().splits["test"]
    batch = split.rows(np.arange(len(split)))
    label = batch.pop("label")
    logits = opened.module.apply(opened.variables, **batch)
    found = np.argmax(logits, -1)
    metrics = json.loads((Path(tuned.workdir) / "result.json").read_text())["metrics"]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(label, found))
    for average in ("macro", "micro"):
        wanted = precision_recall_fscore_support(label, found, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), wanted, strict=False):
            assert metrics[f"{name}_{average}"] == pytest.approx(value), name


@pytest.mark.slow
def test_a_sentence_is_predicted_without_the_folder(tuned, capsys):
    assert cli.main(["predict", tuned.workdir, "the good dog runs", "--format", "jsonl"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["label"] in ("no", "yes", "perhaps")
    assert sorted(row["probabilities"]) == ["no", "perhaps", "yes"]
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert cli.main(["evaluate", tuned.workdir]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    wanted = json.loads((Path(tuned.workdir) / "result.json").read_text())["metrics"]
    assert found["f1_macro"] == pytest.approx(wanted["f1_macro"])


@pytest.mark.slow
def test_resumed_and_replayed_without_the_folder(tuned, tmp_path):
    run = dataclasses.replace(text_run(tmp_path, optimizer=FROZEN), data=tuned.data)
    again(dataclasses.replace(run, steps=3))
    shutil.rmtree(tmp_path / "bert")
    wanted = json.loads((Path(tuned.workdir) / "result.json").read_text())
    assert again(run) == wanted and metrics_of(run) == metrics_of(tuned)
    assert replay.replay(replay.plan(Path(run.workdir), "")).identical
    kept = {path.name for path in (tmp_path / "run" / "pretrained").iterdir()}
    assert kept == {"config.json", "model.safetensors"}


@pytest.mark.slow
def test_a_network_of_timm_is_trained_and_given_back(tmp_path):
    """Its running statistics are the run's first ones, and those of the run are written."""
    config, _, tensors, _ = golden_images.read("timm/resnet18")
    config["pretrained_cfg"]["input_size"] = [1, 6, 6]  # that of the data
    source = golden_models.write_folder(tmp_path / "timm", config, tensors)
    run = images_run(tmp_path, model=Pretrained(), init_from=str(source), optimizer=STILL, steps=2,
                     eval_every=2)  # fmt: skip
    again(run)
    out = tmp_path / "out"
    assert cli.main(["convert", run.workdir, str(out), "--format", "timm"]) == 0
    opened, (model, variables) = runs.open_run(run.workdir), zoo.from_pretrained(out)
    assert model.cfg == opened.module.cfg
    jax.tree.map(np.testing.assert_array_equal, variables, opened.variables)
    before = tensors["bn1.running_mean"]
    after = variables["batch_stats"]["stem"]["norm"]["mean"]
    assert not np.array_equal(after, before)
    assert np.corrcoef(after, before)[0, 1] > 0.5  # two steps of a tenth from where they were
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], tensors["fc.weight"].T)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(k, marks=pytest.mark.slow if k == "classification" else pytest.mark.full)
        for k in tiny_texts.KINDS
    ],
)
def test_a_run_becomes_a_folder_of_the_reference(kind, tmp_path, capsys):
    run = tiny_texts.kind_run(tmp_path, kind)
    again(run)
    assert cli.main(["convert", run.workdir, str(tmp_path / "out")]) == 0
    opened, (model, variables) = runs.open_run(run.workdir), zoo.from_pretrained(tmp_path / "out")
    tokens = load_tokenizer(tmp_path / "out")("the good dog", return_tensors="np", padding=True)
    ours = opened.module.apply(opened.variables, **tokens)
    theirs = model.apply(variables, **tokens)
    values = json.loads((tmp_path / "out" / "config.json").read_text())
    if kind == "regression":
        wanted = opened.task.predict(ours)["value"]
        np.testing.assert_allclose(theirs[:, 0], wanted, rtol=1e-5)
        assert values["problem_type"] == "regression"
    else:
        np.testing.assert_array_equal(ours, theirs)
        assert tuple(values["id2label"].values()) == opened.info.class_names == model.cfg.labels
    with pytest.raises(InputError, match="is a run folder"):
        convert(opened, Path(run.workdir))


@pytest.mark.slow
def test_the_command_line_alone_fine_tunes(tmp_path, capfd):
    text_run(tmp_path)
    arguments = [
        "--config", "text_classification", "--init-from", str(tmp_path / "bert"),
        "--data.path", str(tmp_path / "rows.jsonl"), "--data.max-length", "8", "--steps", "2",
        "--model.dropout", "0.2", "--optimizer.freeze", "embed*", "--optimizer.layer-decay", "0.9",
        "--workdir", str(tmp_path / "run"), "--devices", "1", "--batch-size", "8",
    ]  # fmt: skip
    run, _ = configs.parse(arguments)
    assert run.model == Pretrained(dropout=0.2) and run.optimizer.freeze == ("embed*",)
    assert again(run)["step"] == 2
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"]["dropout"] == 0.2
    assert config["model"]["labels"] == ["no", "perhaps", "yes"]
    assert config["data"]["tokenizer"] == str(tmp_path / "bert")


@dataclasses.dataclass(frozen=True)
class Odd(tasks.Classification):
    """A task that no text model has a head for."""

    names = ("image-classification",)


def runs_config(folder):
    return zoo.from_pretrained(folder)[0].cfg
