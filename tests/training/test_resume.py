"""A run stopped anywhere and started again is the run that was never stopped."""

import dataclasses
import gc
import json
import shutil
import time
from pathlib import Path

import pytest
from tiny_runs import again, features_run, images_run, losses_of, metrics_of

from zoo.config import Optimizer, Schedule
from zoo.errors import InputError, RunError
from zoo.training import loop
from zoo.training.lock import Lock
from zoo.training.log import cut_back
from zoo.training.signals import Signals

CONSTANT = Optimizer(name="adam", learning_rate=1e-2)
COSINE = dataclasses.replace(CONSTANT, schedule=Schedule(name="cosine", warmup_steps=2))


def result_of(run):
    return json.loads((Path(run.workdir) / "result.json").read_text())


def checkpoints_of(run):
    return sorted(int(p.name) for p in (Path(run.workdir) / "checkpoints").iterdir())


class StopAt(Signals):
    """A signal that arrives while the given step runs."""

    def __init__(self, step, number=15):
        super().__init__()
        self.step, self.number, self.asked = step, number, 0

    @property
    def received(self):
        self.asked += 1
        return self.number if self.asked >= self.step else None

    @received.setter
    def received(self, value):
        pass


def train_in_pieces(run, stops):
    """Trains, stopped by a signal after so many steps of each start; then to the end."""
    for count in stops:
        with pytest.raises(loop.Stopped) as stopped:
            loop.train(run, StopAt(count))
        assert stopped.value.exit_code == 143
    return loop.train(run)


@pytest.mark.parametrize(
    "make, stops",
    [(features_run, [1, 1, 5]), pytest.param(images_run, [3, 6], marks=pytest.mark.slow)],
)
def test_stopped_by_signals_and_resumed(tmp_path, make, stops):
    run = make(tmp_path, average=0.9, optimizer=COSINE, workdir=str(tmp_path / "whole"))
    whole = again(run)
    cut = dataclasses.replace(run, workdir=str(tmp_path / "cut"))
    assert train_in_pieces(cut, stops) == whole
    assert metrics_of(cut) == metrics_of(run)
    receipt = json.loads((tmp_path / "cut" / "receipt.json").read_text())
    sums = [sum(stops[:n]) for n in range(len(stops) + 1)]
    assert [start["resumed_at"] for start in receipt["starts"]] == sums


def test_stopped_inside_a_dispatch_of_several_steps(tmp_path):
    """With 5 steps a dispatch, logged, evaluated and saved in between."""
    run = features_run(
        tmp_path, steps_per_dispatch=5, log_every=3, save_every=7, workdir=str(tmp_path / "whole")
    )
    whole = again(run)
    cut = dataclasses.replace(run, workdir=str(tmp_path / "cut"))
    assert train_in_pieces(cut, [1, 2]) == whole
    assert metrics_of(cut) == metrics_of(run)


@pytest.mark.slow
def test_how_often_it_logs_and_saves_does_not_change_the_bits(tmp_path):
    digests = set()
    for number, (log, save, evaluate) in enumerate([(1, 1, 12), (5, 12, 12), (12, 3, 12)]):
        run = features_run(
            tmp_path, steps_per_dispatch=4, log_every=log, save_every=save, eval_every=evaluate,
            workdir=str(tmp_path / str(number)),
        )  # fmt: skip
        digests.add(again(run)["params_digest"])
    assert len(digests) == 1


def test_stop_after_saves_and_exits_with_0(tmp_path, monkeypatch):
    run = features_run(tmp_path, stop_after="1h")
    monkeypatch.setattr(time, "monotonic", iter(range(0, 10**6, 1000)).__next__)
    with pytest.raises(loop.Stopped) as stopped:
        again(run)
    assert stopped.value.exit_code == 0
    monkeypatch.undo()
    assert 0 < checkpoints_of(run)[-1] < 12
    again(run)
    assert losses_of(run) == losses_of(features_run(tmp_path)) and len(losses_of(run)) == 12


def test_a_finished_run_run_again_changes_nothing(trained):
    folder = Path(trained.workdir)
    before, lines = result_of(trained), metrics_of(trained)
    digests = {p: p.read_bytes() for p in (folder / "checkpoints").rglob("*") if p.is_file()}
    assert again(trained) == before
    assert result_of(trained) == before
    assert metrics_of(trained) == lines
    assert {
        p: p.read_bytes() for p in (folder / "checkpoints").rglob("*") if p.is_file()
    } == digests


def test_metrics_are_cut_back_to_the_restored_step(trained):
    folder = Path(trained.workdir)
    lines = metrics_of(trained)
    shutil.rmtree(folder / "checkpoints" / "12")
    shutil.rmtree(folder / "checkpoints" / "8")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 13, "loss": 1.0}\n{"step": 14, "lo')
    again(trained)
    assert metrics_of(trained) == lines


def test_cut_back_by_hand(tmp_path):
    path = tmp_path / "metrics.jsonl"
    cut_back(path, 3)  # nothing there
    path.write_bytes(
        b'{"step": 1, "loss": 0.1}\n\xff\xfe\n[1]\n{"step": "x"}\n{"step": 3, "eval/loss": 2.0}\n'
        b'{"step": 3, "test/loss": 2.0}\n{"step": 4, "loss": 0.30000000000000004}\n{"st'
    )
    cut_back(path, 4)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "loss": 0.1}, {"step": 3, "eval/loss": 2.0},
        {"step": 4, "loss": 0.30000000000000004},
    ]  # fmt: skip


def test_a_run_killed_before_its_first_checkpoint_starts_anew(trained):
    lines = metrics_of(trained)
    for path in (Path(trained.workdir) / "checkpoints").iterdir():
        shutil.rmtree(path)
    again(trained)
    assert metrics_of(trained) == lines


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_newest_checkpoint_costs_only_its_steps(trained, capfd):
    folder, before, lines = Path(trained.workdir), result_of(trained), metrics_of(trained)
    for path in (folder / "checkpoints" / "12" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:-20] + bytes(20))
    assert again(trained) == before
    assert metrics_of(trained) == lines
    told = capfd.readouterr().err
    assert "checkpoint 12 cannot be used" in told and "resumed at step 8" in told
    assert (folder / "quarantine" / "12").is_dir()
    gc.collect()  # what the damage left behind, while it is still filtered


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_all_checkpoints_damaged_is_an_error(trained):
    for path in (Path(trained.workdir) / "checkpoints").rglob("meta/metadata"):
        path.write_bytes(b"{")
    with pytest.raises(RunError, match="no whole checkpoint"):
        again(trained)
    gc.collect()  # what the damage left behind, while it is still filtered


def test_another_experiment_is_refused_and_named(trained):
    before = (Path(trained.workdir) / "config.json").read_bytes()
    optimizer = dataclasses.replace(trained.optimizer, learning_rate=3e-2)
    with pytest.raises(InputError) as told:
        again(trained, optimizer=optimizer, seed=5, batch_size=4)
    for part in ("optimizer.learning_rate: 0.01 -> 0.03", "seed: 0 -> 5", "batch_size: 8 -> 4"):
        assert part in str(told.value)
    with pytest.raises(InputError, match="model.widths"):
        again(trained, model=dataclasses.replace(trained.model, widths=(9,)))
    assert (Path(trained.workdir) / "config.json").read_bytes() == before


def test_execution_may_change(trained):
    shutil.rmtree(Path(trained.workdir) / "checkpoints" / "12")
    before = result_of(trained)
    result = again(
        trained, parallel="pmap", keep=5, log_every=2, save_every=3, eval_batch_size=5,
        loader_threads=3, tensorboard=False, stop_after="1h",
    )  # fmt: skip
    assert result["params_digest"] == before["params_digest"]
    assert json.loads((Path(trained.workdir) / "config.json").read_text())["keep"] == 5


def test_steps_may_be_raised_with_a_constant_schedule(tmp_path, trained):
    longer = dataclasses.replace(trained, steps=20)
    result = again(longer)
    whole = again(longer, workdir=str(tmp_path / "whole"))
    assert (result["step"], result["params_digest"]) == (20, whole["params_digest"])
    assert losses_of(longer) == losses_of(dataclasses.replace(longer, workdir=tmp_path / "whole"))
    assert sum("test/loss" in line for line in metrics_of(longer)) == 1
    with pytest.raises(InputError, match="steps: 20 -> 12"):
        again(longer, steps=12)


def test_steps_may_not_be_raised_under_a_schedule_that_ends_with_them(tmp_path):
    run = features_run(tmp_path, optimizer=COSINE)
    again(run)
    with pytest.raises(InputError, match="steps: 12 -> 20"):
        again(run, steps=20)


def test_a_checkpoint_of_another_run_is_set_aside(tmp_path, trained, capfd):
    """Of the same shapes, whole, under its right name: its config tells."""
    other = dataclasses.replace(trained, seed=1, workdir=str(tmp_path / "other"))
    loop.train(other)
    expected = result_of(trained)
    newest = Path(trained.workdir) / "checkpoints/12"
    shutil.rmtree(newest)
    shutil.copytree(Path(other.workdir) / "checkpoints/12", newest)
    assert again(trained) == expected
    assert "seed: 0 -> 1" in capfd.readouterr().err
    assert checkpoints_of(trained)[-1] == 12
    assert (Path(trained.workdir) / "quarantine/12").is_dir()


def test_a_run_that_lost_its_lock_saves_no_more(tmp_path, monkeypatch):
    run = features_run(tmp_path)

    def lost(lock):
        (Path(run.workdir) / ".lock").write_text(
            '{"host": "elsewhere", "pid": 7, "boot": "x", "beat": "2026-01-01T00:00:00+00:00"}'
        )
        check(lock)

    check = Lock.check
    monkeypatch.setattr(Lock, "check", lost)
    with pytest.raises(RunError, match="host elsewhere, process 7"):
        loop.train(run)
    assert checkpoints_of(run) == []


def test_changed_data_are_refused(tmp_path):
    from tiny_runs import write_features

    run = features_run(tmp_path)
    again(run)
    write_features(tmp_path, seed=3)
    with pytest.raises(InputError, match="the data have changed"):
        again(run, steps=20)


def test_a_start_that_is_refused_leaves_the_folder_free(tmp_path):
    run = features_run(tmp_path)
    with pytest.raises(InputError, match="devices"):
        again(run, batch_size=7, devices=2)
    again(run)


def test_checkpoints_without_a_config_are_refused(trained):
    (Path(trained.workdir) / "config.json").unlink()
    with pytest.raises(InputError, match="no config.json"):
        again(trained)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
def test_a_damaged_config_is_refused(trained, text):
    (Path(trained.workdir) / "config.json").write_text(text)
    with pytest.raises(InputError, match="damaged"):
        again(trained)


def test_one_folder_one_writer(trained):
    from zoo.training.lock import Lock

    with Lock(Path(trained.workdir)):
        with pytest.raises(RunError, match="another run writes in"):
            again(trained)
    again(trained)


@pytest.mark.parametrize("number, code", [(15, 143), (2, 130)])
def test_exit_codes_of_signals(tmp_path, number, code):
    with pytest.raises(loop.Stopped) as stopped:
        loop.train(features_run(tmp_path), StopAt(2, number))
    assert stopped.value.exit_code == code
