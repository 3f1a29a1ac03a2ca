"""The doctor names what is wrong with a run folder, and touches nothing."""

import gc
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import jax
import pytest
from tiny_runs import again, features_run

from zoo import cli, known_bad
from zoo.data import Npz
from zoo.errors import InputError
from zoo.inspect import canaries, doctor
from zoo.training.lock import Lock

# Orbax leaves coroutines behind after an error, which "ignore" it when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with the checkpoints 8 and 12. Read only."""
    run = features_run(tmp_path_factory.mktemp("doctor"), keep=2)
    again(run)
    return Path(run.workdir)


@pytest.fixture
def folder(finished, tmp_path):
    """A copy to damage."""
    yield shutil.copytree(finished, tmp_path / "run")
    gc.collect()


def contents(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
    }


def examined(folder):
    """The findings; nothing changed."""
    before = contents(folder)
    found = doctor.examine(folder)
    assert contents(folder) == before
    for finding in found:
        assert finding.what and finding.state in (doctor.OK, doctor.NOTE, doctor.WRONG)
        assert finding.advice or finding.state != doctor.WRONG
    return found


def unusual(folder):
    """(part, state, what) of all that is not just right."""
    found = examined(folder)
    return [(f.part, f.state, f.what) for f in found if f.state != doctor.OK]


def test_a_finished_run_is_healthy(finished):
    found = examined(finished)
    assert unusual(finished) == []
    assert [finding.part for finding in found] == [
        "lock", "config.json", "receipt.json", "metrics.jsonl", "checkpoints/8", "checkpoints/12",
        "result.json", "disk",
    ]  # fmt: skip
    told = {finding.part: finding.what for finding in found}
    assert "all leaves verified" in told["checkpoints/12"]
    assert "the parameters of checkpoint 12" in told["result.json"]
    assert "up to step 12" in told["metrics.jsonl"]
    assert doctor.healthy(found)


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def flip(folder, step):
    """Other bits in every data file of a step: alone, some are no longer read by anybody."""
    for path in (folder / "checkpoints" / str(step) / "state").rglob("d/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)


def own_class(folder):
    def change(config):
        config["model"] = {"class": "user:Mine", "width": 3}

    edit(folder / "config.json", change)


def cut(path, count):
    path.write_bytes(path.read_bytes()[:-count])


def insert(folder, line, at):
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:at], line + "\n", *lines[at:]]))


def receipt(folder, package, version):
    def change(value):
        value["starts"][0]["versions"][package] = version

    edit(folder / "receipt.json", change)


def of_another_step(folder):
    shutil.rmtree(folder / "checkpoints/12")


DAMAGE = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json", "wrong", "no config.json"),
    "half a config": (lambda f: cut(f / "config.json", 9), "config.json", "wrong", "damaged"),
    "unknown model": (
        lambda f: edit(f / "config.json", lambda c: c["model"].update({"class": "nothing"})),
        "config.json", "wrong", "'nothing'",
    ),
    "no receipt": (lambda f: (f / "receipt.json").unlink(), "receipt.json", "wrong", "missing"),
    "half a receipt": (lambda f: cut(f / "receipt.json", 9), "receipt.json", "wrong", "damaged"),
    "list as receipt": (
        lambda f: (f / "receipt.json").write_text("[]"), "receipt.json", "wrong", "damaged",
    ),
    "empty receipt": (
        lambda f: (f / "receipt.json").write_text('{"starts": []}'),
        "receipt.json", "wrong", "no start",
    ),
    "bad jax": (
        lambda f: receipt(f, "jax", "0.10.2"), "receipt.json", "wrong", "0.10.2, which computes",
    ),
    "other jaxlib": (
        lambda f: receipt(f, "jaxlib", "0.9.9"), "receipt.json", "note", "jaxlib 0.9.9; here is",
    ),
    "no metrics": (lambda f: (f / "metrics.jsonl").unlink(), "metrics.jsonl", "note", "missing"),
    "cut line": (lambda f: cut(f / "metrics.jsonl", 5), "metrics.jsonl", "wrong", "cut off"),
    "bad line": (lambda f: insert(f, "{]", 2), "metrics.jsonl", "wrong", "unreadable: line 3"),
    "no step": (lambda f: insert(f, "{}", 0), "metrics.jsonl", "wrong", "unreadable: line 1"),
    "earlier step": (
        lambda f: insert(f, '{"step": 2, "loss": 1.0}', 8), "metrics.jsonl", "wrong",
        "go back or repeat at line 9",
    ),
    "flipped": (lambda f: flip(f, 8), "checkpoints/8", "wrong", "damaged: "),
    "partial": (
        lambda f: (f / "checkpoints/20/state").mkdir(parents=True), "checkpoints/20", "wrong",
        "partial: no meta",
    ),
    "renamed": (
        lambda f: shutil.copytree(f / "checkpoints/8", f / "checkpoints/9"), "checkpoints/9",
        "wrong", "it says that it is step 8",
    ),
    "temporary": (
        lambda f: (f / "checkpoints/16.orbax-checkpoint-tmp-3").mkdir(),
        "checkpoints/16.orbax-checkpoint-tmp-3", "note", "did not end",
    ),
    "foreign": (
        lambda f: (f / "checkpoints/notes.txt").write_text("mine"), "checkpoints", "note",
        "not ours: notes.txt",
    ),
    "quarantine": (
        lambda f: (f / "quarantine/4/state").mkdir(parents=True), "quarantine", "note", "4 (",
    ),
    "no result": (
        lambda f: (f / "result.json").unlink(), "result.json", "note", "has not ended",
    ),
    "half a result": (lambda f: cut(f / "result.json", 9), "result.json", "wrong", "damaged"),
    "other digest": (
        lambda f: edit(f / "result.json", lambda r: r.update(params_digest="0" * 64)),
        "result.json", "wrong", "not that of checkpoint 12",
    ),
    "lost step": (of_another_step, "result.json", "wrong", "no whole checkpoint has that step"),
    "longer": (
        lambda f: edit(f / "result.json", lambda r: r.update(step=4)), "result.json", "note",
        "gone on to 12",
    ),
    "damaged lock": (lambda f: (f / ".lock").write_text("?"), "lock", "note", "damaged"),
    "stale lock": (
        lambda f: (f / ".lock").write_text(json.dumps(
            {"host": "elsewhere", "pid": 3, "boot": "x", "beat": "2020-01-01T00:00:00+00:00"}
        )),
        "lock", "note", "host elsewhere",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_each_kind_of_damage_is_named_and_nothing_else(folder, name):
    damage, *expected = DAMAGE[name]
    damage(folder)
    ((part, state, what),) = unusual(folder)
    assert [part, state] == expected[:2] and expected[2] in what


def test_when_no_checkpoint_is_whole(folder):
    for step in (8, 12):
        flip(folder, step)
    found = {(part, state) for part, state, _ in unusual(folder)}
    assert found == {
        ("checkpoints/8", "wrong"), ("checkpoints/12", "wrong"), ("checkpoints", "wrong"),
        ("result.json", "wrong"),
    }  # fmt: skip


@pytest.mark.slow
def test_a_checkpoint_from_another_run(folder, tmp_path):
    """Of another seed by its config; of the same config by the chain of saves."""
    data = Npz(json.loads((folder / "config.json").read_text())["data"]["path"])
    other = features_run(tmp_path, keep=2, seed=1, data=data, workdir=str(tmp_path / "other"))
    again(other)
    shutil.rmtree(folder / "checkpoints/8")
    shutil.copytree(Path(other.workdir) / "checkpoints/8", folder / "checkpoints/8")
    assert ("checkpoints/8", "wrong", "it is of another run; seed: 0 -> 1") in unusual(folder)
    again(other, seed=0, workdir=str(tmp_path / "twin"))
    shutil.rmtree(folder / "checkpoints/8")
    shutil.copytree(tmp_path / "twin/checkpoints/8", folder / "checkpoints/8")
    found = {(part, state): what for part, state, what in unusual(folder)}
    assert "was not trained on from the checkpoint 8" in found["checkpoints/12", "wrong"]


def test_a_run_without_checkpoints(folder):
    shutil.rmtree(folder / "checkpoints")
    assert [found[:2] for found in unusual(folder)] == [
        ("checkpoints", "wrong"), ("result.json", "wrong"),
    ]  # fmt: skip
    for name in ("result.json", "metrics.jsonl"):
        (folder / name).unlink()
    assert {state for _, state, _ in unusual(folder)} == {"note"}


def test_a_users_own_classes_are_no_damage(folder):
    own_class(folder)
    (found,) = [found for found in examined(folder) if found.part == "config.json"]
    assert found.state == doctor.OK and "Mine" in found.what and "--config" in found.advice


def test_a_run_that_is_writing(folder):
    with Lock(folder):
        (folder / "checkpoints/16.orbax-checkpoint-tmp-3").mkdir()
        (folder / "metrics.jsonl").open("a").write('{"step": 13')
        found = {f.part: f for f in doctor.examine(folder)}
    assert "a run is writing here" in found["lock"].what and str(os.getpid()) in found["lock"].what
    assert all(finding.state == doctor.OK for finding in found.values())


def test_a_lock_of_another_host_counts_while_its_heart_beats(folder):
    beat = datetime.now(UTC).isoformat()
    holder = {"host": "elsewhere", "pid": 3, "boot": "x", "beat": beat}
    (folder / ".lock").write_text(json.dumps(holder))
    assert "a run is writing here (host elsewhere" in examined(folder)[0].what


def test_a_full_disk(folder, monkeypatch):
    usage = shutil.disk_usage(folder)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    ((part, state, what),) = unusual(folder)
    assert (part, state) == ("disk", "wrong") and what.startswith("100 B free, less than one")


@pytest.mark.parametrize("make", [lambda f: None, Path.mkdir, lambda f: f.write_text("")])
def test_no_run_folder(tmp_path, make):
    make(tmp_path / "none")
    with pytest.raises(InputError, match="no folder|no run folder"):
        doctor.examine(tmp_path / "none")


@pytest.fixture
def zoo(monkeypatch, capsys):
    """`zoo doctor ... -> (exit code, stdout, stderr)`, with canaries that sing at once."""
    monkeypatch.setattr(cli, "configure", lambda *_: None)
    monkeypatch.setattr(cli, "prepare", lambda *_: None)
    monkeypatch.setattr(canaries, "failing", lambda: [])
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        code = cli.main(["doctor", *map(str, arguments)])
        return (code, *capsys.readouterr())

    return call


def test_the_command(folder, zoo, tmp_path):
    code, out, _ = zoo(folder)
    assert code == 0
    for part in ("config.json", "checkpoints/12", "all canaries compute right", jax.__version__):
        assert part in out
    flip(folder, 12)
    code, out, _ = zoo(folder)
    assert code == 1 and "damaged" in out and "moved to quarantine/" in out
    code, out, err = zoo(tmp_path / "nowhere")
    assert (code, out) == (2, "") and err.startswith("error: ")


def test_json_for_machines(folder, zoo):
    code, out, _ = zoo(folder, "--json")
    value = json.loads(out)
    assert (code, value["healthy"], value["run"]) == (0, True, str(folder))
    (folder / "result.json").write_text("")
    code, out, _ = zoo(folder, "--json")
    value = json.loads(out)
    assert (code, value["healthy"]) == (1, False)
    (wrong,) = [found for found in value["findings"] if found["state"] == "wrong"]
    assert set(wrong) == {"part", "state", "what", "advice"} and wrong["part"] == "result.json"


def test_the_installation_alone(zoo, monkeypatch):
    code, out, _ = zoo("--json")
    value = json.loads(out)
    assert (code, value["run"]) == (0, None)
    assert [found["part"] for found in value["findings"]] == ["versions", "devices", "compiler"]
    assert f"jax {jax.__version__}" in value["findings"][0]["what"]
    sentence = "sum 3, compiled: 1 of 1 numbers are wrong, by up to 4"
    monkeypatch.setattr(canaries, "failing", lambda: [sentence])
    monkeypatch.setattr(known_bad, "JAX", {jax.__version__: "computes wrong numbers"})
    code, out, _ = zoo()
    assert code == 1 and sentence in out and f"{jax.__version__} computes wrong numbers" in out
