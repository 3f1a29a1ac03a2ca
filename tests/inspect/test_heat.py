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
from zoo.inspect import input_gradient, integrated_gradients
from zoo.inspect.explain import draw, explain
from zoo.models import resnet, vit
from zoo.nn.conv_norm import fold
from zoo.training.loop import train

MODELS = {
    "resnet": resnet.Config("basic", (1, 1), (16, 32), stem_width=16, num_classes=4,
                            image_size=shapes.SIDE),
    "vit": vit.Config(image_size=shapes.SIDE, patch_size=6, width=32, depth=2, num_heads=4,
                      num_classes=4),
}  # fmt: skip
METHODS = {
    "resnet": ("gradient", "integrated-gradients", "smooth-grad", "grad-cam"),
    "vit": ("gradient", "integrated-gradients", "smooth-grad", "attention-rollout"),
}
STEPS = {"resnet": 100, "vit": 300}
PLACES = ((2, 30), (31, 4))
"""Upper left corners of shapes that are not in the middle."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a trained run of each model, and pictures of shapes as files."""
    place = tmp_path_factory.mktemp("heat")
    data = Npz(str(shapes.write(place / "shapes.npz")), form="image")
    rng = np.random.default_rng(1)
    for kind in shapes.KINDS:
        for top, left in PLACES:
            np.save(place / f"{kind}-{top}-{left}.npy", shapes.draw(kind, top, left, rng)[None])
    for name, model in MODELS.items():
        result = train(
            tiny_runs.features_run(
                place, model=model, data=data, workdir=str(place / name), steps=STEPS[name],
                batch_size=32, log_every=50, eval_every=0,
                optimizer=Optimizer(name="adamw", learning_rate=3e-3),
            )
        )  # fmt: skip
        print(name, result["metrics"])
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name, of in METHODS.items() for method in of]
)
def test_the_heat_is_on_the_shape(place, name, method):
    opened = runs.open_run(place / name)
    on_shape, right = [], 0
    for n, kind in enumerate(shapes.KINDS):
        for corner in PLACES:
            picture = "-".join(map(str, (kind, *corner)))
            found = explain(opened, str(place / f"{picture}.npy"), method)
            right += found.target == str(n)
            on_shape.append(shapes.share(found.scores, *corner))
            assert found.scores.shape == (shapes.SIDE, shapes.SIDE)
            assert found.missed is None or found.missed < 1e-3
            draw(found, place / f"{name}-{method}-{picture}.png")
    print(name, method, right, np.round(on_shape, 2))
    assert right >= 7
    assert np.mean(on_shape) > 0.5  # of an area of 0.13


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
