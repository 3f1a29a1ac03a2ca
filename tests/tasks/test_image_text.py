"""Contrastive learning of pictures and texts: the loss over all devices, and retrieval."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo import assemble
from zoo.config import Run
from zoo.data import CaptionedShapes
from zoo.errors import InputError
from zoo.models import bert, clip
from zoo.tasks import Classification, ImageTextContrastive
from zoo.tasks.metrics import recalls
from zoo.tasks.metrics.retrieval import likeliest

N, E = 8, 3
TASK = ImageTextContrastive()


def make(seed=0):
    """(two projections and a scale, a batch) of a linear model of both towers."""
    rng = np.random.default_rng(seed)
    params = {"image": rng.normal(size=(5, E)), "text": rng.normal(size=(4, E)), "scale": 3.0}
    batch = {
        "image": rng.normal(size=(N, 5)), "input_ids": rng.normal(size=(N, 4)),
        "label": np.arange(N), "weight": np.ones(N),
    }  # fmt: skip
    return jax.tree.map(np.float32, params), jax.tree.map(np.float32, batch)


def apply(params, image, input_ids, train, rngs):
    vectors = [clip.unit(image @ params["image"]), clip.unit(input_ids @ params["text"])]
    outputs = SimpleNamespace(
        image_embeds=vectors[0], text_embeds=vectors[1], logit_scale=params["scale"]
    )
    return outputs, {}


def sums(params, batch):
    def loss(params):
        total, weight, _ = TASK.loss(apply, params, batch)
        return total, weight

    return jax.value_and_grad(loss, has_aux=True)(params)


def test_the_loss_is_the_mean_of_both_cross_entropies():
    params, batch = make()
    given = jax.tree.map(jnp.asarray, (params, batch["image"], batch["input_ids"]))
    outputs, _ = apply(*given, False, None)
    logits = np.float64(3 * outputs.image_embeds @ outputs.text_embeds.T)
    wanted = 0.0
    for scores in (logits, logits.T):
        shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        wanted -= np.log(np.diag(shares)).sum() / 2
    (found, weight), _ = jax.jit(sums)(params, batch)
    assert weight == N and found == pytest.approx(wanted, rel=1e-5)
    hot = params | {"scale": np.float32(1e4)}
    limited = jax.jit(sums)(params | {"scale": np.float32(100)}, batch)[0][0]
    (found, _), gradient = jax.jit(sums)(hot, batch)
    assert found == pytest.approx(float(limited), rel=1e-5) and gradient["scale"] == 0


def test_rows_that_only_pad_are_nobodys_strangers():
    params, batch = make()
    part = {key: value[:6] for key, value in batch.items()}
    (wanted, _), wanted_gradient = jax.jit(sums)(params, part)
    padded = dict(batch)
    padded["weight"] = np.float32([1, 1, 1, 1, 1, 1, 0, 0])
    padded["image"] = batch["image"] * np.float32([[1]] * 6 + [[0]] * 2)  # of length 0: NaN
    (found, weight), gradient = jax.jit(sums)(params, padded)
    assert weight == 6 and found == pytest.approx(float(wanted), rel=1e-5)
    np.testing.assert_allclose(gradient["text"], wanted_gradient["text"], rtol=1e-4, atol=1e-5)


def test_the_batch_may_lie_on_several_devices():
    """Every row is compared with those of all devices; sums are as on one."""
    params, batch = make()
    batch["weight"][5] = 0
    (wanted, weight), gradient = jax.jit(sums)(params, batch)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))

    def shard(params, batch):
        return jax.lax.psum(sums(params, batch), "data")

    mapped = jax.shard_map(
        shard, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=False
    )
    (found, total), found_gradient = jax.jit(mapped)(params, batch)
    assert total == weight == 7 and found == pytest.approx(float(wanted), rel=1e-5)
    for name, leaf in gradient.items():
        np.testing.assert_allclose(found_gradient[name], leaf, rtol=1e-4, atol=1e-5)


def test_recalls():
    """Two texts of the first picture; the third and fourth pictures share their text."""
    images = np.eye(4)[[0, 0, 1, 2, 3]]
    texts = np.array([[0.9, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 1, 2.0]])
    found = recalls(images, texts, np.array([5, 5, 6, 7, 8]), np.array([0, 1, 2, 3, 3]))
    # The third picture's nearest are the second text, a stranger, and as near its own.
    assert found["image_to_text_recall_at_1"] == 3 / 4
    assert found["text_to_image_recall_at_1"] == 3 / 4  # the second text finds another picture
    assert found["image_to_text_recall_at_5"] == found["text_to_image_recall_at_10"] == 1
    assert found["mean_recall"] == pytest.approx((3 / 4 + 3 / 4 + 4) / 6)
    assert likeliest(images, texts).tolist() == [0, 0, 2, 1, 3]


def test_a_model_for_which_all_is_alike_finds_nothing():
    rows, numbers = np.ones((30, 2), np.float32), np.arange(30)
    assert set(recalls(rows, rows, numbers, numbers).values()) == {0}
    lost = np.full((30, 2), np.nan, np.float32)
    assert set(recalls(lost, rows, numbers, numbers).values()) == {0}
    assert set(recalls(rows[:0], rows[:0], numbers[:0], numbers[:0]).values()) == {None}


RUN = Run(model=clip.Config(), task=TASK, data=CaptionedShapes(count=9), batch_size=8)


@pytest.mark.parametrize("changes", [{"reproducible": 2}, {"accumulate": 2}])
def test_a_batch_in_parts_is_refused(changes):
    with pytest.raises(InputError, match="ImageTextContrastive needs the whole batch in one piece"):
        assemble.parallelism(dataclasses.replace(RUN, **changes))


def test_other_data_and_models_are_refused():
    with pytest.raises(InputError, match="these data have no image"):
        TASK.bind(SimpleNamespace(inputs={"input_ids": ((3,), "int32")}))
    with pytest.raises(InputError, match="have no image and no input_ids"):
        TASK.bind(SimpleNamespace(inputs={}))
    with pytest.raises(InputError, match="the model returns no image_embeds"):
        TASK.objective(jnp.zeros((2, 3)), {})
    with pytest.raises(InputError, match="max_scale is 0"):
        ImageTextContrastive(max_scale=0.0)
    with pytest.raises(InputError, match="bert has no head for zero-shot-image-classification"):
        assemble.build_model(dataclasses.replace(RUN, model=bert.Config()), TASK)
    with pytest.raises(InputError, match="Classification needs classes"):
        info = SimpleNamespace(num_classes=None, vocab_size=257, label_mean=None)
        Classification().bind(info)
