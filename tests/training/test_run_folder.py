"""What a finished run leaves behind, and how runs end early, fail, and start from another."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from tiny_runs import (
    CLASSES,
    again,
    features_run,
    images_run,
    losses_of,
    metrics_of,
    write_features,
)

from zoo import runs, tasks
from zoo.config import Optimizer
from zoo.data import Npz
from zoo.errors import InputError, RunError
from zoo.models import mlp
from zoo.training.checkpoints import Checkpoints
from zoo.training.receipt import read_receipt
from zoo.training.state import params_digest


def digest_of(params):
    """DESIGN 3.5's definition, written out once more."""
    total = hashlib.sha256()
    found = {}

    def walk(path, tree):
        for name, value in tree.items():
            where = (*path, name)
            walk(where, value) if isinstance(value, dict) else found.update(
                {"/".join(where): value}
            )

    walk((), params)
    for path in sorted(found, key=str.encode):
        array = np.asarray(found[path])
        total.update(path.encode() + b"\0" + array.dtype.name.encode() + b"\0")
        total.update("x".join(str(n) for n in array.shape).encode() + b"\0")
        total.update(array.astype(array.dtype.newbyteorder("<")).tobytes(order="C"))
    return total.hexdigest()


def test_the_digest_is_the_defined_one(finished):
    opened = runs.open_run(finished.workdir)
    result = json.loads((Path(finished.workdir) / "result.json").read_text())
    averaged = opened.variables["params"]
    assert result["params_digest"] != digest_of(averaged), "the raw parameters, not the average"
    plain = {"b": {"x": np.ones((2, 3), np.float32)}, "a": {"é": np.int32(4)}, "B": np.zeros(0)}
    assert params_digest(plain) == digest_of(plain)
    expected = hashlib.sha256(
        b"B\0float64\0" + b"0\0" + b"a/\xc3\xa9\0int32\0\0\x04\0\0\0"
        + b"b/x\0float32\0" + b"2x3\0" + np.ones(6, "<f4").tobytes()
    )  # fmt: skip
    assert params_digest(plain) == expected.hexdigest()


def test_the_digest_is_of_the_raw_parameters(tmp_path):
    run = features_run(tmp_path)
    result = again(run)
    assert result["params_digest"] == digest_of(
        jax.device_get(runs.open_run(run.workdir).variables["params"])
    )


def test_the_files(finished):
    folder = Path(finished.workdir)
    result = json.loads((folder / "result.json").read_text())
    assert set(result) == {"step", "metrics", "params_digest"}
    assert result["step"] == 12 and len(result["params_digest"]) == 64
    matrix = np.asarray(result["metrics"]["confusion_matrix"])
    assert matrix.shape == (CLASSES, CLASSES) and matrix.sum() == 21
    accuracy = result["metrics"]["accuracy"]
    np.testing.assert_allclose(accuracy, np.trace(matrix) / 21)
    for name in ("curves.png", "confusion.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 200
            assert len(picture.getcolors(10**6)) > 10, "something is drawn"
    config = json.loads((folder / "config.json").read_text())
    assert config["model"]["class"] == "mlp" and config["data"]["class"] == "npz"
    assert config["task"]["class"] == "classification" and config["seed"] == 0
    left = {path.name for path in folder.iterdir()}
    assert left == {
        ".lock", "checkpoints", "config.json", "confusion.png", "curves.png", "metrics.jsonl",
        "receipt.json", "result.json", "tensorboard", "trace.jsonl",
    }  # fmt: skip


def test_the_receipt(finished):
    (start,) = json.loads((Path(finished.workdir) / "receipt.json").read_text())["starts"]
    assert start["resumed_at"] == 0 and start["seed"] == 0 and start["parallel"] == "jit"
    assert start["versions"]["jax"] == jax.__version__
    assert {"python", "jaxlib", "flax", "optax", "numpy"} <= set(start["versions"])
    assert start["devices"]["used"] == 1 and start["devices"]["processes"] == 1
    assert start["flags"]["JAX_PLATFORMS"] == "cpu"
    assert start["data"]["examples"] == {"train": 60, "validation": 20, "test": 21}
    assert len(start["data"]["fingerprint"]) == 64
    assert start["steps_per_dispatch"] == 1 and start["argv"]
    assert start["devices"]["mesh"] == {"data": 1, "fsdp": 1, "tensor": 1}
    assert start["settings"]["jax_threefry_partitionable"] is True
    assert start["host"]["cores"] >= 1 and len(start["host"]["instruction_set"]) == 16
    assert start["config"] == json.loads((Path(finished.workdir) / "config.json").read_text()) | {
        name: start["config"][name] for name in ("save_every", "eval_batch_size")
    }, "as it was resolved"
    assert start["config"]["save_every"] == 4


def test_the_receipt_hashes_the_source(finished):
    receipt = read_receipt(Path(finished.workdir))
    (start,) = receipt["starts"]
    files = receipt["sources"][start["source"]["sha256"]]
    path = Path(mlp.__file__)
    assert files["zoo/models/mlp.py"] == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert len(files) == len(list(path.parents[1].rglob("*.py")))


def test_the_receipt_is_in_the_checkpoint_and_comes_back_from_it(trained):
    folder = Path(trained.workdir)
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    assert checkpoints.meta(12)["receipt"] == read_receipt(folder)
    checkpoints.close()
    (folder / "receipt.json").unlink()
    again(trained)
    receipt = read_receipt(folder)
    assert [start["resumed_at"] for start in receipt["starts"]] == [0, 12]
    assert len(receipt["sources"]) == 1, "the files of one source are listed once"


def test_the_metrics(finished):
    lines = metrics_of(finished)
    training = [line for line in lines if "loss" in line]
    assert [line["step"] for line in training] == list(range(1, 13))
    for line in training:
        assert set(line) == {"step", "loss", "learning_rate", "gradient_norm"}
        assert line["learning_rate"] == pytest.approx(1e-2)
    assert [line["step"] for line in lines if "eval/accuracy" in line] == [4, 8, 12]
    assert [line["step"] for line in lines if "test/accuracy" in line] == [12]
    assert lines[-1]["test/loss"] == pytest.approx(
        json.loads((Path(finished.workdir) / "result.json").read_text())["metrics"]["loss"]
    )


def events_of(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(Path(run.workdir) / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_tensorboard_reads_the_events(finished):
    events = events_of(finished)
    assert [step for step, _ in events["loss"]] == list(range(1, 13))
    np.testing.assert_allclose(
        [value for _, value in events["loss"]], losses_of(finished), rtol=1e-6
    )
    assert [step for step, _ in events["eval/accuracy"]] == [4, 8, 12]


def test_early_stopping(tmp_path):
    """A rate of zero never improves after the first evaluation."""
    run = features_run(
        tmp_path, optimizer=Optimizer(name="sgd", learning_rate=0.0), early_stopping=2, steps=40,
        eval_every=2,
    )  # fmt: skip
    result = again(run)
    assert result["step"] == 6
    assert len(losses_of(run)) == 6
    assert again(run) == result, "and stays stopped"
    assert runs.open_run(run.workdir, "best").step == 2


@pytest.mark.parametrize("save_every", [1, 3, 40])
def test_early_stopping_saves_where_it_stops(tmp_path, save_every):
    run = features_run(
        tmp_path, optimizer=Optimizer(name="sgd", learning_rate=0.0), early_stopping=1, steps=40,
        eval_every=3, save_every=save_every,
    )  # fmt: skip
    assert again(run)["step"] == 6
    assert runs.open_run(run.workdir).step == 6


def test_the_best_checkpoint_is_that_of_the_validation_score(tmp_path):
    run = features_run(
        tmp_path, steps=24, eval_every=2, keep=1, best_metric="loss", best_mode="min",
        optimizer=Optimizer(name="sgd", learning_rate=0.6),
    )  # fmt: skip
    again(run)
    losses = {line["step"]: line["eval/loss"] for line in metrics_of(run) if "eval/loss" in line}
    best = min(losses, key=lambda step: (losses[step], step))
    assert runs.open_run(run.workdir, "best").step == best
    assert runs.open_run(run.workdir, "last").step == runs.open_run(run.workdir, "24").step == 24
    with pytest.raises(InputError, match="no checkpoint '5'"):
        runs.open_run(run.workdir, "5")


def test_an_unknown_best_metric_is_named(tmp_path):
    with pytest.raises(InputError, match="best_metric sharpness: the task has .*accuracy"):
        again(features_run(tmp_path, best_metric="sharpness", best_mode="max"))


EXPLODES = Optimizer(name="sgd", learning_rate=1e30)


@pytest.mark.parametrize("log, save, chunk", [(1, 1, 1), (5, 1, 1), (12, 3, 4), (12, 12, 1)])
def test_a_nan_stops_the_run_and_what_was_saved_stays(tmp_path, log, save, chunk):
    run = images_run(
        tmp_path, optimizer=EXPLODES, log_every=log, save_every=save, eval_every=12,
        steps_per_dispatch=chunk, steps=24,
    )  # fmt: skip
    for _ in range(2):  # and again when it is resumed
        with pytest.raises(RunError) as told:
            again(run)
        message = str(told.value)
        assert "is NaN or infinite" in message and "--optimizer.learning-rate" in message
    folder = Path(run.workdir) / "checkpoints"
    saved = sorted(int(p.name) for p in folder.iterdir())
    failed = int(re.search(r"of step (\d+) is NaN", message)[1])
    assert all(step <= failed for step in saved)
    if saved:
        assert f"the last good checkpoint is step {saved[-1]}" in message
        opened = runs.open_run(run.workdir)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(opened.variables))
    else:
        assert "nothing was saved yet" in message
    assert not (Path(run.workdir) / "result.json").exists()


def test_skipped_updates_are_counted_and_the_run_goes_on(tmp_path):
    """A rate at which float16 overflows now and then."""
    run = features_run(
        tmp_path, dtype="float16", optimizer=Optimizer(name="sgd", learning_rate=3e4),
        on_nonfinite="skip",
    )  # fmt: skip
    assert again(run)["step"] == 12
    lines = [line for line in metrics_of(run) if "loss" in line]
    assert len(lines) == 12
    assert lines[-1]["skipped"] > 0
    assert any(line["loss"] is None for line in lines)


STILL = Optimizer(name="sgd", learning_rate=0.0)


def four_classes(folder):
    """The same data with one class more."""
    path = write_features(folder, "four.npz")
    np.savez(path, **(dict(np.load(path)) | {"y_train": np.arange(60) % 4}))
    return Npz(str(path))


def test_a_warm_start_takes_what_fits(tmp_path, finished, capfd):
    run = features_run(tmp_path, init_from=finished.workdir, steps=1, optimizer=STILL)
    again(run)
    source, target = runs.open_run(finished.workdir), runs.open_run(run.workdir)
    for ours, theirs in zip(
        jax.tree.leaves(target.variables), jax.tree.leaves(source.variables), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    capfd.readouterr()
    run = features_run(
        tmp_path, init_from=finished.workdir, steps=1, optimizer=STILL,
        workdir=str(tmp_path / "head"), data=four_classes(tmp_path),
        model=dataclasses.replace(run.model, num_classes=4),
    )  # fmt: skip
    again(run)
    target = runs.open_run(run.workdir)
    np.testing.assert_array_equal(
        target.variables["params"]["dense1"]["kernel"],
        source.variables["params"]["dense1"]["kernel"],
    )
    told = capfd.readouterr().err
    assert "params/head/kernel" in told and "params/dense1/kernel" not in told


def test_a_warm_start_averages_from_what_it_took(tmp_path, finished):
    run = features_run(tmp_path, init_from=finished.workdir, steps=1, optimizer=STILL, average=0.9)
    again(run)
    source, target = runs.open_run(finished.workdir), runs.open_run(run.workdir)
    np.testing.assert_array_equal(
        target.variables["params"]["head"]["kernel"], source.variables["params"]["head"]["kernel"]
    )


def test_a_resume_does_not_warm_start_again(tmp_path, finished):
    run = features_run(tmp_path, init_from=finished.workdir)
    result = again(run)
    assert again(run) == result


def test_a_warm_start_from_another_kind_of_model_is_refused(tmp_path, finished):
    with pytest.raises(InputError, match="no parameter of .* fits this model"):
        model = mlp.Config(input_shape=(4,), widths=(7,), num_classes=4)
        again(features_run(
            tmp_path, init_from=finished.workdir, model=model, data=four_classes(tmp_path)
        ))  # fmt: skip
    with pytest.raises(InputError, match="no run folder"):
        again(features_run(tmp_path, init_from=str(tmp_path / "nowhere")))


def test_models_and_data_that_do_not_fit(tmp_path):
    with pytest.raises(
        InputError, match=r"takes features float32\[B, 5\], the data give features float32\[B, 4\]"
    ):
        again(features_run(tmp_path, model=mlp.Config(input_shape=(5,), num_classes=CLASSES)))
    with pytest.raises(InputError, match="num_classes"):
        again(features_run(tmp_path, model=mlp.Config(input_shape=(4,), num_classes=CLASSES + 1)))
    with pytest.raises(InputError, match="TokenClassification does not fit labels"):
        again(features_run(tmp_path, task=tasks.TokenClassification()))
    with pytest.raises(InputError):
        again(features_run(tmp_path, task=tasks.Regression()))


def test_a_split_without_validation_or_test_is_trained_all_the_same(tmp_path):
    path = write_features(tmp_path)
    arrays = {k: v for k, v in np.load(path).items() if "train" in k}
    np.savez(path, **arrays)
    run = features_run(tmp_path)
    try:
        result = again(run)
    except InputError as error:  # or is refused, and says which split is empty
        assert "validation" in str(error) or "test" in str(error)
    else:
        assert result["step"] == 12


def test_no_files_of_a_run_are_changed_by_opening_it(finished):
    folder = Path(finished.workdir)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}
    runs.open_run(folder)
    runs.open_run(folder, "best")
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")} == before
