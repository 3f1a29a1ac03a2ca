"""Runs that start from a pretrained folder: what they take, keep, and never need again."""

import dataclasses
import json
import shutil
from pathlib import Path

import golden_models
import numpy as np
import pytest
from compile_cache import compiled_once  # noqa: F401 (a fixture of every test here)
from tiny_runs import again, arrays_of, assert_same_bits, features_run, metrics_of

import zoo
from zoo import replay, runs, tasks
from zoo.config import MeshShape, Optimizer, Pretrained
from zoo.data import Npz
from zoo.errors import InputError
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


@pytest.mark.parametrize(
    "task, label, width",
    [
        (tasks.Binary(), lambda ids: ids[:, 0] % 2, 1),
        (tasks.Multilabel(), lambda ids: ids[:, :4] % 2, 4),
        (tasks.Regression(), lambda ids: ids[:, 0] / 7.0, 1),
    ],
)
def test_the_head_has_the_outputs_that_the_task_needs(tmp_path, folder, task, label, width):
    ids = np.random.default_rng(5).integers(1, 13, (90, 7))
    np.savez(tmp_path / "other.npz", x=ids, y=label(ids))
    kind = type(task).__name__.lower()
    data = Npz(str(tmp_path / "other.npz"), form="input_ids", kind=kind)
    run = ids_run(tmp_path, folder, task=task, data=data)
    result = again(run)
    assert result["step"] == 6 and arrays_of(params_of(run))["head/kernel"].shape == (6, width)


def test_resumed_replayed_and_evaluated_without_the_folder(tmp_path, folder):
    run = ids_run(tmp_path, folder, model=Pretrained(dropout=0.3), workdir=str(tmp_path / "whole"))
    whole = again(run)
    cut = dataclasses.replace(run, workdir=str(tmp_path / "cut"))
    shorter = dataclasses.replace(cut, steps=3)
    again(shorter)
    shutil.rmtree(folder)
    assert again(cut) == whole and metrics_of(cut) == metrics_of(run)
    found = replay.replay(replay.plan(Path(cut.workdir), ""))
    assert found.identical
    opened = runs.open_run(cut.workdir)
    assert opened.run.model.dropout == opened.run.model.head_dropout == 0.3
    assert (Path(cut.workdir) / "pretrained" / "model.safetensors").is_file()


def test_a_mesh_and_pmap_start_from_the_same_parameters(tmp_path, folder):
    base = ids_run(tmp_path, folder, steps=1, optimizer=STILL, devices=2)
    wanted = zoo.from_pretrained(folder)[1]["params"]
    for name, changes in (
        ("pmap", {"parallel": "pmap"}),
        ("tensor", {"mesh": MeshShape(tensor=2)}),
        ("fsdp", {"mesh": MeshShape(fsdp=2)}),
    ):
        run = dataclasses.replace(base, workdir=str(tmp_path / name), **changes)
        again(run)
        assert_same_bits(params_of(run), wanted)


def test_jit_and_pmap_train_to_the_same_bits(tmp_path, folder):
    digests = {
        again(
            ids_run(tmp_path, folder, devices=2, parallel=way, workdir=str(tmp_path / way))
        )["params_digest"]
        for way in ("jit", "pmap")
    }  # fmt: skip
    assert len(digests) == 1


def test_a_run_starts_from_a_run_that_was_fine_tuned(tmp_path, folder):
    first = ids_run(tmp_path, folder, workdir=str(tmp_path / "first"))
    again(first)
    second = ids_run(tmp_path, first.workdir, steps=1, optimizer=STILL)
    again(second)
    assert_same_bits(params_of(second), params_of(first))


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


@dataclasses.dataclass(frozen=True)
class Odd(tasks.Classification):
    """A task that no text model has a head for."""

    names = ("image-classification",)


def runs_config(folder):
    return zoo.from_pretrained(folder)[0].cfg
