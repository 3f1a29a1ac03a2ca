"""Attribution of a ResNet and a ViT: the axioms hold, and of models that were trained on drawn
shapes the heat is on the shape, wherever it stands."""

import dataclasses
import functools

import draw as parameters
import drawn_shapes as shapes
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs
from flax.traverse_util import flatten_dict, unflatten_dict

from zoo import runs
from zoo.config import Optimizer
from zoo.data import Npz
from zoo.inspect import (
    attention_rollout,
    grad_cam,
    input_gradient,
    integrated_gradients,
    smooth_grad,
)
from zoo.inspect.explain import Explanation, draw
from zoo.models import resnet, vit
from zoo.nn.conv_norm import fold
from zoo.training.loop import train

MODELS = {
    "resnet": resnet.Config("basic", (1, 1), (16, 32), stem_width=16, num_classes=4,
                            image_size=shapes.SIDE),
    "vit": vit.Config(image_size=shapes.SIDE, patch_size=6, width=32, depth=2, num_heads=4,
                      num_classes=4),
}  # fmt: skip
STEPS = {"resnet": 120, "vit": 250}
COLOURED = {"resnet": False, "vit": True}
"""Forms take a Transformer of this size too long; it learns which colour differs from the rest."""
PLACES = [(kind, *corner) for kind in shapes.KINDS for corner in ((2, 30), (31, 4))]
"""Shapes, and upper left corners that are not in the middle."""


def speaking_for(scores):
    return np.maximum(scores.sum(-1), 0)


def rollout(model, variables, image):
    """From the class token, as a picture of the size of the image."""
    found = attention_rollout(model, variables, image)[:, 0, 1:]
    side = model.cfg.image_size // model.cfg.patch_size
    return jax.image.resize(found.reshape(-1, side, side), image.shape[:3], "linear")


SHARES = {"integrated gradients": 0.4, "Grad-CAM": 0.4, "attention rollout": 0.3, "SmoothGrad": 0.2}
"""How much of the heat is on the shape at least, which is 0.16 of the area: gradients by themselves
also tell what a shape elsewhere would change, and attention mixes tokens that it leaves where they
are."""
METHODS = {
    "integrated gradients": lambda *call: speaking_for(integrated_gradients(*call)),
    "SmoothGrad": lambda *call: jnp.abs(smooth_grad(*call, jax.random.key(0))).sum(-1),
    "Grad-CAM": grad_cam,
    "attention rollout": rollout,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a trained run of each model, and pictures of shapes for each."""
    place = tmp_path_factory.mktemp("heat")
    for name, model in MODELS.items():
        coloured, rng = COLOURED[name], np.random.default_rng(1)
        data = shapes.write(place / f"{name}.npz", coloured=coloured)
        np.save(place / f"{name}.npy", [shapes.draw(*p, rng, coloured) for p in PLACES])
        result = train(
            tiny_runs.features_run(
                place, model=model, data=Npz(str(data), form="image"), workdir=str(place / name),
                steps=STEPS[name], batch_size=32, log_every=50, eval_every=0,
                optimizer=Optimizer(name="adamw", learning_rate=3e-3),
            )
        )  # fmt: skip
        assert result["metrics"]["accuracy"] > 0.85, name
    return place


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "method"),
    [
        *(("resnet", method) for method in METHODS if method != "attention rollout"),
        # Noise takes the class from this ViT: the mean gradient then is of other pictures.
        *(("vit", method) for method in ("integrated gradients", "attention rollout")),
    ],
)
def test_the_heat_is_on_the_shape(place, name, method):
    opened = runs.open_run(place / name)
    _, batch = opened.run.data.encode([str(place / f"{name}.npy")], opened.info)
    call = (opened.module, opened.variables, batch["image"])
    heat = np.asarray(METHODS[method](*call))
    on_shape = [shapes.share(h, *corner) for h, (_, *corner) in zip(heat, PLACES, strict=True)]
    off = [
        max(abs(a - b) for a, b in zip(shapes.hottest(h), corner, strict=True))
        for h, (_, *corner) in zip(heat, PLACES, strict=True)
    ]
    print(name, method, np.round(on_shape, 2), off)
    for h, image, (kind, *corner) in zip(heat, batch["image"], PLACES, strict=True):
        picture = (image - image.min()) / np.ptp(image)
        shown = Explanation(kind, method, kind, 0.0, h, image=picture)
        draw(shown, place / f"{name} {method} {kind} {corner[0]}.png")
    assert np.mean(on_shape) > SHARES[method]
    assert sum(pixels < shapes.SHAPE // 2 for pixels in off) >= len(PLACES) - 2


SMALL = {
    "resnet": resnet.Config("basic", (1, 1), (4, 6), stem_width=4, num_classes=3, image_size=16),
    "vit": vit.Config(image_size=12, patch_size=4, width=8, depth=2, num_heads=2, hidden=6,
                      num_classes=3),
}  # fmt: skip


@pytest.fixture(params=SMALL)
def drawn(request):
    """A model with random weights, and two images."""
    model = SMALL[request.param].build()
    side = model.cfg.image_size
    image = np.random.default_rng(2).normal(size=(2, side, side, 3)).astype(np.float32)
    variables = parameters.variables(model, image, scale=0.3)
    if "batch_stats" in variables:  # variances are positive
        variables["batch_stats"] = jax.tree.map(jnp.abs, variables["batch_stats"])
    return model, variables, image


@pytest.mark.slow
def test_integrated_gradients_are_complete_and_sensitive(drawn):
    model, variables, image = drawn
    apply = jax.jit(model.apply)
    found = integrated_gradients(model, variables, image, 1, steps=512)
    wanted = (apply(variables, image) - apply(variables, jnp.zeros_like(image)))[:, 1]
    assert np.abs((found.sum((1, 2, 3)) - wanted) / wanted).max() < 1e-3
    # Where input and baseline differ in one number, that number gets all of the difference.
    baseline = image.copy()
    baseline[:, 5, 7, 2] += 1.5
    found = np.array(integrated_gradients(model, variables, image, 1, baseline=baseline))
    wanted = (apply(variables, image) - apply(variables, baseline))[:, 1]
    np.testing.assert_allclose(found[:, 5, 7, 2], wanted, rtol=1e-3, atol=1e-6)
    found[:, 5, 7, 2] = 0
    assert not found.any()
    # What the function does not depend on gets nothing.
    blind = jax.tree.map(lambda x: x, variables)
    first = blind["params"]["stem" if "stem" in blind["params"] else "tokens"]
    (kernel,) = [path for path in flatten_dict(first) if path[-1] == "kernel"]
    inner = functools.reduce(lambda tree, key: tree[key], kernel[:-1], first)
    inner["kernel"] = inner["kernel"].at[..., 0, :].set(0)
    for method in (input_gradient, integrated_gradients):
        assert not np.asarray(method(model, blind, image, 1))[..., 0].any()


@pytest.mark.slow
def test_attributions_do_not_depend_on_how_a_function_is_computed(drawn):
    model, variables, image = drawn
    if isinstance(model.cfg, resnet.Config):  # its norms become part of the convolutions
        other = dataclasses.replace(model.cfg, folded=True).build()
        theirs = fold(variables)
    else:  # hidden features twice, each counting half
        other = dataclasses.replace(model.cfg, hidden=12).build()
        flat = flatten_dict(variables["params"])
        for path, value in flat.items():
            if "up" in path:
                flat[path] = jnp.concatenate([value, value], -1)
            if path[-2:] == ("down", "kernel"):
                flat[path] = jnp.concatenate([value, value]) / 2
        theirs = {"params": unflatten_dict(flat)}
    for method in (input_gradient, integrated_gradients):
        one, two = method(model, variables, image, 1), method(other, theirs, image, 1)
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-4 * np.abs(one).max())
