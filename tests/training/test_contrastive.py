"""A run on pictures with texts: the same losses on any devices, predictions, a later start."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from tiny_runs import again, losses_of

from zoo import runs
from zoo.config import MeshShape, Optimizer, Run
from zoo.data import CaptionedShapes, ImageTextPairs
from zoo.inference.prediction import predict
from zoo.models import clip
from zoo.tasks import ImageTextContrastive

MODEL = clip.Config(
    image_size=8, patch_size=4, vision_width=8, vision_depth=1, vision_num_heads=2,
    vision_hidden=12, vocab_size=257, max_length=36, text_width=8, text_depth=1, text_num_heads=2,
    text_hidden=12, projection_width=6,
)  # fmt: skip
MODES = {
    "pmap": {"devices": 4, "parallel": "pmap"},
    "jit": {"devices": 4},
    "mesh": {"devices": 4, "mesh": MeshShape(fsdp=2, tensor=2)},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three steps on one device."""
    run = Run(
        model=MODEL, task=ImageTextContrastive(), data=CaptionedShapes(count=60, image_size=8),
        optimizer=Optimizer(name="adam", learning_rate=1e-2), steps=3, batch_size=8, eval_every=3,
        log_every=1, devices=1, steps_per_dispatch=1, tensorboard=False, loader_threads=1,
        workdir=str(tmp_path_factory.mktemp("clip") / "run"),
    )  # fmt: skip
    return run, again(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", [pytest.param(m, marks=[pytest.mark.full] * (m != "jit")) for m in MODES]
)
def test_losses_do_not_depend_on_the_devices(run, tmp_path, mode):
    run, wanted = run
    other = dataclasses.replace(run, workdir=str(tmp_path / "run"), **MODES[mode])
    found = again(other)
    np.testing.assert_allclose(losses_of(other), losses_of(run), rtol=1e-5)
    assert found["metrics"].keys() == wanted["metrics"].keys()
    assert found["metrics"]["loss"] == pytest.approx(wanted["metrics"]["loss"], rel=1e-4)


@pytest.mark.slow
def test_predictions_and_another_start(run, tmp_path):
    run, result = run
    assert {"loss", "mean_recall", "image_to_text_recall_at_1", "text_to_image_recall_at_10"} <= {
        name for name, value in result["metrics"].items() if 0 <= value < 9
    }
    lines = ["image,text"]
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,number {number}")
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n")
    rows = predict(runs.open_run(run.workdir), [str(tmp_path / "captions.csv")], 8)
    assert [row["text"] for row in rows] == [f"number {i}" for i in range(20)]
    assert all(-1.001 <= row["similarity"] <= 1.001 for row in rows)
    assert {row["nearest_text"] for row in rows} <= {row["text"] for row in rows}

    own = ImageTextPairs(str(tmp_path / "captions.csv"), image_size=8, max_length=36)
    later = dataclasses.replace(
        run, data=own, init_from=run.workdir, steps=1, workdir=str(tmp_path / "later")
    )
    assert again(later)["step"] == 1
