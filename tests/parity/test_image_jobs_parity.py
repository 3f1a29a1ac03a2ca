"""A fine-tuned run in the hands of timm and transformers: their pixels, classes and logits."""

import jax
import numpy as np
import pytest
from picture_jobs import CLASSES, picture_run, write_network
from pictures import close, ours, run, timm
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.utils import logging

import zoo
from zoo import cli, runs
from zoo.config import Augment
from zoo.training.loop import train

logging.set_verbosity_error()
NETWORKS = {"vit": "timm/vit_tiny_patch16_224", "resnet": "timm/resnet18"}


@pytest.fixture(
    scope="module",
    params=["vit", pytest.param("resnet", marks=pytest.mark.full)],
)
def tuned(request, tmp_path_factory):
    """A run of one step, opened, and a picture."""
    place = tmp_path_factory.mktemp("job")
    write_network(place / "other", NETWORKS[request.param])
    trained = picture_run(place, steps=1, augment=Augment(), init_from=str(place / "other"))
    train(trained)
    pixels = np.random.default_rng(0).integers(0, 256, (52, 52), np.uint8)
    Image.fromarray(pixels).save(place / "one.png")
    return runs.open_run(trained.workdir), place / "one.png"


def logits_of(opened, file):
    _, batch = opened.run.data.encode([str(file)], opened.info)
    return batch["image"], ours(opened.module, opened.variables, batch["image"])


def test_timm(tuned, tmp_path):
    opened, file = tuned
    assert cli.main(["convert", str(opened.folder), str(tmp_path), "--format", "timm"]) == 0
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    pixels, wanted = logits_of(opened, file)
    close(run(theirs, pixels), wanted)
    told, settings = theirs.pretrained_cfg, opened.info.columns["settings"]
    for name in ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode"):
        stated = told[name]
        stated = tuple(stated) if isinstance(stated, list) else stated
        assert stated == settings[name], name
    assert theirs.num_classes == told["num_classes"] == 4


def test_transformers(tuned, tmp_path):
    opened, file = tuned
    assert cli.main(["convert", str(opened.folder), str(tmp_path)]) == 0
    theirs = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert tuple(theirs.config.id2label.values()) == CLASSES
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    given = processor(Image.open(file), return_tensors="np")["pixel_values"]
    pixels, wanted = logits_of(opened, file)
    np.testing.assert_allclose(np.moveaxis(given, 1, -1), pixels, atol=1e-6)
    found = run(theirs, pixels)
    close(found, wanted)
    model, variables = zoo.from_pretrained(tmp_path)
    close(found, [np.asarray(jax.jit(model.apply)(variables, zoo.load_processor(tmp_path)(file)))])
