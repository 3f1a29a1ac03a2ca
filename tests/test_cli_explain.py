"""`zoo explain`: pictures and tables of runs trained for a second, and what it refuses."""

import json
import re

import numpy as np
import pytest
import tiny_texts
from PIL import Image
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)
from tiny_runs import features_run, images_run, sequences_run, tokens_run

from zoo import cli, cli_explain, tasks
from zoo.data import Npz, TextFiles
from zoo.models import gpt2, mlp
from zoo.training.loop import train

pytestmark = pytest.mark.slow

SHORT = {"steps": 2, "eval_every": 0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Runs of images (pictures), of token ids (tokens), of features (numbers), and an input for
    each."""
    place = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    train(images_run(place, workdir=str(place / "pictures"), **SHORT))
    train(tokens_run(place, workdir=str(place / "tokens"), **SHORT))
    train(features_run(place, workdir=str(place / "numbers"), **SHORT))
    train(sequences_run(place, workdir=str(place / "series"), **SHORT))
    train(tiny_texts.text_run(place, workdir=str(place / "texts"), **SHORT))
    (place / "text.txt").write_text("".join(f"the cat sat on mat {i}.\n" for i in range(160)))
    data = TextFiles(str(place / "text.txt"), length=16, block=48)
    task = tasks.LanguageModelling()
    model = gpt2.Config(vocab_size=256, width=8, depth=2, num_heads=2, max_length=16)
    train(features_run(place, model=model, task=task, data=data, workdir=str(place / "bytes"),
                       **SHORT))  # fmt: skip
    np.save(place / "image.npy", rng.normal(size=(1, 6, 6, 1)))
    np.save(place / "ids.npy", np.array([[1, 5, 2, 9, 9, 0, 3]]))
    np.save(place / "row.npy", rng.normal(size=(1, 4)))
    np.save(place / "steps.npy", rng.normal(size=(1, 5, 3)))
    with np.load(place / "tiny.npz") as arrays:
        np.savez(place / "sides.npz", **{k: v % 2 if k[0] == "y" else v for k, v in arrays.items()})
    sides = Npz(str(place / "sides.npz"), kind="binary")
    model = mlp.Config(input_shape=(4,), widths=(8,), num_classes=1)
    train(features_run(place, model=model, task=tasks.Binary(), data=sides,
                       workdir=str(place / "sides"), **SHORT))  # fmt: skip
    np.save(place / "two.npy", rng.normal(size=(2, 4)))
    return place


@pytest.fixture
def call(place, monkeypatch, capsys):
    """`call(...) -> (exit code, stdout, stderr)`."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(cli, "prepare", lambda _: None)
    monkeypatch.setattr(cli_explain, "configure", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments):
        capsys.readouterr()
        try:
            code = cli.main(["explain", *map(str, arguments)])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize("method", ["integrated-gradients", "gradient", "smooth-grad", "grad-cam"])
def test_an_image_becomes_a_picture(call, place, method):
    code, out, err = call("pictures", "image.npy", "--method", method, "--target", 2)
    assert code == 0, err
    name = f"image-{method}.png"
    assert out.startswith(f"{name}: {method} of 2 (score ")
    with Image.open(place / name) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 300 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    if method == "integrated-gradients":
        assert float(re.search(r"misses ([\d.]+)%", out)[1]) < 1


def test_a_picture_where_and_how_one_wants_it(call, place):
    code, _, err = call("pictures", "image.npy", "--method", "gradient", "--at", "conv1")
    assert code == 2 and "no picture of the image" in err  # smaller than it by a pixel a side
    code, out, _ = call(
        "pictures", "image.npy", "--output", "here.svg", "--method", "grad-cam", "--at", "conv1"
    )
    assert code == 0 and "here.svg" in out and "<svg" in (place / "here.svg").read_text()


def test_tokens_become_a_table(call, place):
    code, out, err = call("tokens", "ids.npy", "--target", 1, "--method", "gradient")
    assert code == 0, err
    assert "gradient of 1" in out and out.count("█") > 1
    code, out, _ = call("tokens", "ids.npy", "--output", "scores.json", "--target", 1)
    found = json.loads((place / "scores.json").read_text())
    assert (code, out) == (0, "") and found["parts"] == ["1", "5", "2", "9", "9", "0", "3"]
    assert found["missed"] < 0.05 and len(found["scores"]) == 7
    for method in ("smooth-grad", "attention-rollout"):
        code, _, err = call("tokens", "ids.npy", "--method", method, "--output", "scores.json")
        assert code == 0, err
        scores = json.loads((place / "scores.json").read_text())["scores"]
        assert min(scores) >= 0 and max(scores) > 0
    np.testing.assert_allclose(sum(scores), 1, rtol=1e-5)  # where the answer comes from, in all


def test_texts_show_their_tokens_and_classes_their_names(call):
    code, out, err = call("texts", "the good dogs", "--target", "perhaps", "--method", "gradient")
    assert code == 0, err
    assert "gradient of perhaps" in out
    assert [
        t for t in ("[CLS]", "the", "good", "dog", "##s", "[SEP]") if f"│ {t} " not in out
    ] == []


def test_a_language_model_layer_by_layer_and_token_by_token(call, place):
    code, out, err = call("bytes", "the cat", "--method", "logit-lens")
    assert code == 0 and "after token 6" in out and "block0" in out and "block1" in out, err
    code, out, err = call("bytes", "the cat", "--position", 2, "--method", "gradient",
                          "--output", "lm.json")  # fmt: skip
    found = json.loads((place / "lm.json").read_text())
    assert code == 0 and found["parts"] == list("the cat")
    assert all(found["scores"][:3]) and not any(found["scores"][3:])  # it sees what comes before


def test_rows_of_features_and_of_steps(call):
    code, out, err = call("numbers", "row.npy")
    assert code == 0 and all(f"│ {i} " in out for i in range(4)), err
    code, out, err = call("series", "steps.npy", "--method", "gradient")
    assert code == 0 and all(f"│ {i} " in out for i in range(5)), err


def test_one_output_speaks_for_the_second_class(call):
    code, out, err = call("sides", "row.npy")
    assert code == 0 and "integrated-gradients of 1 (score" in out, err
    code, _, err = call("sides", "row.npy", "--target", 0)
    assert code == 2 and "speaks for '1'" in err


def test_what_it_refuses(call):
    for arguments, message in [
        (("numbers", "two.npy"), "holds 2 examples"),
        (("numbers", "row.npy", "--target", "cat"), "no class 'cat'; there are: 0, 1, 2"),
        (("numbers", "row.npy", "--position", 1), "an output for each token"),
        (("numbers", "row.npy", "--method", "grad-cam"), "takes images"),
        (("numbers", "row.npy", "--method", "attention-rollout"), "no layers"),
        (("numbers", "row.npy", "--method", "logit-lens"), "for language models"),
        (("numbers", "row.npy", "--output", "a.png", "--method", "gradient"), "written as .json"),
        (("numbers", "row.npy", "--output", "no/a.json"), "no folder no"),
        (("pictures", "image.npy", "--output", "a.docx", "--method", "gradient"), "take .png"),
        (("pictures", "image.npy", "--at", "conv7"), "nearest: conv1"),
        (("nowhere", "row.npy"), "no run folder"),
    ]:
        code, _, err = call(*arguments)
        assert code == 2 and message in " ".join(err.split()), (arguments, err)
    assert call("numbers", "row.npy", "--method", "magic")[0] == 2
