"""A user's first job with pictures: a pretrained folder, a folder of images, and what comes out."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from compile_cache import compiled_once  # noqa: F401 (a fixture of every test here)
from odd_pictures import picture
from picture_jobs import (
    CLASSES,
    hostile_files,
    odd_files,
    picture_run,
    write_files,
    write_network,
)
from quick_compile import compiled_quickly  # noqa: F401 (likewise)
from tiny_runs import again, arrays_of, metrics_of

import zoo
from zoo import cli, config, runs
from zoo.config import Optimizer, Pretrained
from zoo.data import ImageFolder
from zoo.errors import InputError
from zoo.training.receipt import read_receipt


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A finished run whose pretrained folder is gone. Read only."""
    place = tmp_path_factory.mktemp("tuned")
    run = picture_run(place)
    write_files(place / "pictures" / "bee", hostile_files() | odd_files())
    again(run)
    shutil.rmtree(place / "net")
    return run


def test_the_pretrained_folder_says_how_pictures_are_prepared(tuned):
    folder = Path(tuned.workdir)
    values = json.loads((folder / "config.json").read_text())
    assert values["data"]["processor"] == tuned.init_from
    assert (values["model"]["image_size"], values["model"]["num_classes"]) == ([19, 26], 4)
    assert tuple(values["model"]["labels"]) == CLASSES
    info = runs.open_run(folder).info
    assert info.inputs["image"][0] == (19, 26, 1) and info.columns["processor"] == "timm"
    start = read_receipt(folder)["starts"][0]
    assert start["warm_start"]["fresh"] == ["head/bias", "head/kernel"]
    names = {Path(name).name for name in start["data"]["skipped"]["names"]}
    assert {name.split(":")[0] for name in names} >= {"bomb.png", "cut.png", "text.jpg"}
    assert start["data"]["skipped"]["count"] == len(hostile_files())
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    assert 0 <= metrics["accuracy"] <= metrics["top_2_accuracy"] <= 1
    assert (folder / "confusion.png").stat().st_size > 1000


def test_pictures_are_predicted(tuned, tmp_path, capsys):
    write_files(tmp_path / "new", odd_files())
    assert cli.main(["predict", tuned.workdir, str(tmp_path / "new"), "--format", "jsonl",
                     "--top", "2"]) == 0  # fmt: skip
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(row["input"]).name for row in rows] == sorted(odd_files())
    for row in rows:
        first, second = row["probabilities"].items()
        assert first[0] == row["label"] in CLASSES and first[1] >= second[1]
    assert cli.main(["predict", tuned.workdir, str(tmp_path / "new" / "noname")]) == 0
    assert rows[-2]["label"] in capsys.readouterr().out
    assert cli.main(["predict", tuned.workdir, str(tmp_path / "new"), "--top", "-1"]) == 2


def test_hostile_files_are_named_or_left_out(tuned, tmp_path, capsys):
    write_files(tmp_path / "new", hostile_files() | {"good.png": odd_files()["thin.png"]})
    names = sorted(hostile_files())
    assert cli.main(["predict", tuned.workdir, str(tmp_path / "new"), "--on-bad", "stop"]) == 2
    out, err = capsys.readouterr()
    assert not out and all(f"{name}: " in err for name in names) and "Traceback" not in err
    arguments = ["predict", tuned.workdir, str(tmp_path / "new"), "--format", "jsonl"]
    assert cli.main(arguments) == 0  # the run was told to skip them
    out, err = capsys.readouterr()
    assert [Path(json.loads(line)["input"]).name for line in out.splitlines()] == ["good.png"]
    assert f"warning: {len(names)} of {len(names) + 1} images skipped" in err
    (tmp_path / "new" / "good.png").unlink()
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.count("error: ") == 1


@pytest.mark.parametrize("format", ["timm", pytest.param("transformers", marks=pytest.mark.slow)])
def test_a_folder_for_the_library_predicts_the_same(format, tuned, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["convert", tuned.workdir, str(out), "--format", format]) == 0
    assert f"as {format} keeps it" in capsys.readouterr().out
    opened, (model, variables) = runs.open_run(tuned.workdir), zoo.from_pretrained(out)
    assert model.cfg.labels == CLASSES and model.task == "image-classification"
    file = tmp_path / "one.png"
    picture("RGB", 52, 52).save(file)
    _, batch = opened.run.data.encode([str(file)], opened.info)
    pixels = zoo.load_processor(out)(file)
    np.testing.assert_allclose(pixels, batch["image"], atol=1e-6)
    before, after = arrays_of(opened.variables), arrays_of(variables)
    assert before.keys() == after.keys()
    for path, leaf in before.items():
        np.testing.assert_array_equal(leaf, after[path])
    rows = []
    for name in (tuned.workdir, str(out)):
        assert cli.main(["predict", name, str(file), "--format", "jsonl"]) == 0
        rows.append(json.loads(capsys.readouterr().out))
    assert rows[0]["label"] == rows[1]["label"]
    for name, share in rows[0]["probabilities"].items():
        assert share == pytest.approx(rows[1]["probabilities"][name], abs=1e-5)
    assert cli.main(["predict", str(out), str(file), "--checkpoint", "best"]) == 2


def test_what_predict_cannot_open(tuned, tmp_path, capsys):
    write_network(tmp_path / "net")
    config = tmp_path / "net" / "config.json"
    values = json.loads(config.read_text())
    values["num_classes"] = values["pretrained_cfg"]["num_classes"] = 0
    values["model_args"]["num_classes"] = 0
    config.write_text(json.dumps(values))
    assert cli.main(["predict", str(tmp_path / "net"), "x.png"]) == 2
    assert "this folder is for feature-extraction" in capsys.readouterr().err


@pytest.mark.slow
def test_resumed_without_the_folder_to_the_same_bits(tuned, tmp_path):
    run = dataclasses.replace(
        picture_run(tmp_path), data=tuned.data, init_from=tuned.init_from, steps=1
    )
    write_network(Path(tuned.init_from))
    again(run)  # inside the steps of the head alone
    shutil.rmtree(tuned.init_from)
    again(dataclasses.replace(run, steps=3))
    wanted = json.loads((Path(tuned.workdir) / "result.json").read_text())
    assert again(dataclasses.replace(run, steps=4)) == wanted
    ours, theirs = ([line for line in metrics_of(r) if "loss" in line] for r in (run, tuned))
    assert [line["loss"] for line in ours] == [line["loss"] for line in theirs]


@pytest.mark.slow
def test_the_config_has_the_last_word(tmp_path, capfd):
    data = ImageFolder(str(tmp_path / "pictures"), image_size=20, crop_pct=1.0, mean=(0.1,))
    write_network(tmp_path / "resnet", "timm/resnet18")
    run = picture_run(
        tmp_path, data=data, steps=1, model=Pretrained(frozen_norm=True),
        init_from=str(tmp_path / "resnet"),
    )  # fmt: skip
    again(run)
    opened = runs.open_run(run.workdir)
    assert opened.module.cfg.image_size == 20 and opened.module.cfg.frozen_norm
    settings = opened.info.columns["settings"]
    assert (tuple(settings["mean"]), settings["crop_pct"]) == ((0.1,), 1.0)
    _, saved = zoo.from_pretrained(tmp_path / "resnet")
    for path, leaf in arrays_of(saved["batch_stats"]).items():
        np.testing.assert_array_equal(arrays_of(opened.variables["batch_stats"])[path], leaf)
    # A second run starts from the first and prepares pictures as it did.
    second = picture_run(
        tmp_path, init_from=run.workdir, workdir=str(tmp_path / "second"), steps=1,
        optimizer=Optimizer(learning_rate=0.0),
    )  # fmt: skip
    again(second)
    again(dataclasses.replace(second, steps=2))  # resumed: what it kept is what it began with
    assert runs.open_run(second.workdir).info.columns["settings"] == settings
    own = ImageFolder(str(tmp_path / "pictures"), image_size=20, channels=1, processor="none")
    again(dataclasses.replace(second, data=own, workdir=str(tmp_path / "own")))
    assert runs.open_run(tmp_path / "own").info.statistics
    write_network(tmp_path / "dense", "timm/densenet121")
    for name, model in (
        ("net", Pretrained(frozen_norm=True)),
        ("dense", Pretrained(drop_path=0.1)),
    ):
        strange = picture_run(tmp_path, model=model, workdir=str(tmp_path / "x"))
        with pytest.raises(InputError, match="frozen_norm" if name == "net" else "drop_path"):
            again(dataclasses.replace(strange, init_from=str(tmp_path / name)))


@pytest.mark.slow
def test_positions_are_resized_to_the_pictures(tmp_path):
    data = ImageFolder(str(tmp_path / "pictures"), image_size=27)
    run = picture_run(tmp_path, data=data, steps=1, optimizer=Optimizer(learning_rate=0.0),
                      model=Pretrained(drop_path=0.2))  # fmt: skip
    again(run)
    opened = runs.open_run(run.workdir)
    assert opened.module.cfg.image_size == 27 and opened.module.cfg.drop_path == 0.2
    _, wanted = zoo.from_pretrained(tmp_path / "net", image_size=27)
    ours, theirs = arrays_of(opened.variables["params"]), arrays_of(wanted["params"])
    for path in ours.keys() - {"head/kernel", "head/bias"}:
        np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_command_line_alone_fine_tunes_pictures(tmp_path, capfd):
    run = picture_run(tmp_path)
    arguments = [
        "--config", "image_classification", "--init-from", run.init_from, "--data.path",
        run.data.path, "--steps", "2", "--batch-size", "4", "--devices", "1", "--workdir",
        str(tmp_path / "cli"), "--optimizer.freeze-steps", "1",
    ]  # fmt: skip
    parsed, _ = config.parse(arguments)
    assert again(parsed)["step"] == 2
