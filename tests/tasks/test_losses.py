"""Losses against formulas written out in float64, and what must never change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.tasks.batch import IGNORED
from zoo.tasks.losses import (
    binary_cross_entropy,
    mean_squared_error,
    softmax,
    softmax_cross_entropy,
)

CLASSES = 5
WEIGHTS = (0.5, 2.0, 1.0, 0.0, 3.0)


def exact_log_softmax(x):
    x = np.asarray(x, np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def reference(logits, targets, weights, smoothing, class_weights, z_loss):
    """Softmax cross-entropy of one-hot or soft targets [N, C], one example at a time."""
    total = weight = 0.0
    for row, target, w in zip(np.asarray(logits, np.float64), targets, weights, strict=True):
        logp = exact_log_softmax(row)
        emphasis = sum(c * t for c, t in zip(class_weights, target, strict=True))
        smooth = (1 - smoothing) * np.asarray(target, np.float64) + smoothing / CLASSES
        loss = -sum(c * t * lp for c, t, lp in zip(class_weights, smooth, logp, strict=True))
        total += w * (loss + z_loss * emphasis * np.log(np.exp(row).sum()) ** 2)
        weight += w * emphasis
    return total, weight


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    "smoothing, class_weights, z_loss",
    [(0.0, None, 0.0), (0.1, None, 0.0), (0.2, WEIGHTS, 0.0), (0.1, WEIGHTS, 1e-2)],
)
def test_softmax_cross_entropy_equals_the_formula(soft, smoothing, class_weights, z_loss):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (12, CLASSES)).astype(np.float32)
    index = rng.integers(0, CLASSES, 12).astype(np.int32)
    weights = rng.uniform(0, 2, 12).astype(np.float32)
    targets = np.eye(CLASSES)[index]
    labels = index
    if soft:
        targets = rng.dirichlet(np.ones(CLASSES), 12)
        labels = targets.astype(np.float32)
    loss = jax.jit(
        lambda x, y, w: softmax_cross_entropy(
            x, y, w, label_smoothing=smoothing, class_weights=class_weights, z_loss=z_loss
        )
    )
    got = loss(logits, labels, weights)
    want = reference(logits, targets, weights, smoothing, class_weights or (1,) * CLASSES, z_loss)
    np.testing.assert_allclose(got, want, rtol=2e-6)


def test_one_hot_soft_labels_equal_class_indices():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(9, CLASSES)), jnp.float32)
    index = jnp.asarray(rng.integers(0, CLASSES, 9), jnp.int32)
    options = {"label_smoothing": 0.1, "class_weights": WEIGHTS, "z_loss": 1e-3}
    ones = jnp.ones(9)
    hard = softmax_cross_entropy(logits, index, ones, **options)
    soft = softmax_cross_entropy(logits, jax.nn.one_hot(index, CLASSES), ones, **options)
    np.testing.assert_allclose(hard, soft, rtol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing, class_weights", [(0.0, None), (0.2, None), (0.1, (0.5, 3.0))])
def test_binary_cross_entropy_is_the_softmax_of_two_logits(soft, smoothing, class_weights):
    rng = np.random.default_rng(2)
    logits = jnp.asarray(rng.normal(0, 4, 20), jnp.float32)
    weights = jnp.asarray(rng.uniform(0, 2, 20), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 2, 20), jnp.int32)
    pair = labels
    if soft:
        labels = jnp.asarray(rng.uniform(0, 1, 20), jnp.float32)
        pair = jnp.stack([1 - labels, labels], -1)
    options = {"label_smoothing": smoothing, "class_weights": class_weights}
    got = jax.jit(lambda *a: binary_cross_entropy(*a, **options))(logits, labels, weights)
    both = jnp.stack([jnp.zeros(20), logits], -1)
    want = softmax_cross_entropy(both, pair, weights, **options)
    np.testing.assert_allclose(got, want, rtol=3e-6)


def test_binary_cross_entropy_is_exact_for_confident_logits():
    logits = jnp.asarray([20.0, -20.0, 100.0, -100.0])
    total, _ = binary_cross_entropy(logits, jnp.asarray([1, 0, 0, 1]), jnp.ones(4))
    tiny, _ = binary_cross_entropy(logits[:2], jnp.asarray([1, 0]), jnp.ones(2))
    np.testing.assert_allclose(total, 200, rtol=1e-6)
    np.testing.assert_allclose(tiny, 2 * np.log1p(np.exp(-20.0)), rtol=1e-6)


def test_mean_squared_error_is_a_mean_over_the_values_of_an_example():
    outputs, labels = jnp.asarray([[1.0, 2.0], [0.0, 0.0]]), jnp.asarray([[0.0, 4.0], [3.0, 1.0]])
    total, weight = mean_squared_error(outputs, labels, jnp.asarray([1.0, 0.5]))
    np.testing.assert_allclose([total, weight], [2.5 + 0.5 * 5, 1.5])


def test_mean_squared_error_never_broadcasts():
    with pytest.raises(InputError, match="do not fit"):
        mean_squared_error(jnp.zeros((4, 1)), jnp.zeros((4,)), jnp.ones(4))
    with pytest.raises(InputError, match="weights of shape"):
        mean_squared_error(jnp.zeros((4, 1)), jnp.zeros((4, 1)), jnp.ones((1,)))


@pytest.mark.parametrize(
    "logits, labels, weights",
    [((4, 3), (4, 1), (4,)), ((4, 3), (1,), (4,)), ((4, 3), (4,), (4, 1)), ((2, 4, 3), (2,), (2,))],
)
def test_softmax_cross_entropy_never_broadcasts(logits, labels, weights):
    with pytest.raises(InputError, match="do not fit outputs"):
        softmax_cross_entropy(jnp.zeros(logits), jnp.zeros(labels, jnp.int32), jnp.ones(weights))


def test_binary_cross_entropy_never_broadcasts():
    with pytest.raises(InputError, match="do not fit outputs"):
        binary_cross_entropy(jnp.zeros((4,)), jnp.zeros((4, 1), jnp.int32), jnp.ones(4))


def test_class_weights_must_be_one_per_class():
    with pytest.raises(InputError, match="class_weights of shape"):
        softmax_cross_entropy(
            jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32), jnp.ones(4), class_weights=(1.0, 2.0)
        )


def test_ignored_positions_count_nothing_and_get_no_gradient():
    rng = np.random.default_rng(3)
    logits = jnp.asarray(rng.normal(size=(2, 4, CLASSES)), jnp.float32)
    logits = logits.at[0, 2].set(jnp.nan).at[1, 3].set(jnp.inf)
    labels = jnp.asarray([[0, 1, IGNORED, 3], [4, 0, 2, IGNORED]], jnp.int32)

    def loss(x):
        return softmax_cross_entropy(x, labels, jnp.ones((2, 4)), z_loss=1e-2, label_smoothing=0.1)

    (total, weight), gradient = jax.jit(lambda x: (loss(x), jax.grad(lambda x: loss(x)[0])(x)))(
        logits
    )
    kept = labels != IGNORED
    alone = softmax_cross_entropy(
        logits[kept], labels[kept], jnp.ones(6), z_loss=1e-2, label_smoothing=0.1
    )
    np.testing.assert_allclose((total, weight), alone, rtol=1e-6)
    assert weight == 6
    assert np.all(np.asarray(gradient)[~np.asarray(kept)] == 0)
    assert np.all(np.isfinite(gradient)) and np.any(np.asarray(gradient)[0, 0] != 0)


def test_reduction_is_wide():
    logits = jnp.zeros((4096, 2), jnp.bfloat16)
    total, weight = softmax_cross_entropy(logits, jnp.zeros(4096, jnp.int32), jnp.ones(4096))
    assert total.dtype == weight.dtype == jnp.float32
    np.testing.assert_allclose(total, 4096 * np.log(2), rtol=1e-6)
    with jax.enable_x64(True):
        x = np.random.default_rng(4).normal(size=(6, 3))
        total, _ = softmax_cross_entropy(jnp.asarray(x), jnp.zeros(6, jnp.int32), jnp.ones(6))
        assert total.dtype == jnp.float64
        np.testing.assert_allclose(total, -exact_log_softmax(x)[:, 0].sum(), rtol=1e-14)


def test_large_logits_lose_no_digits():
    logits = jnp.asarray([[1e4, 1e4 - 1, -1e4], [-jnp.inf, 0.0, 0.0], [-1e4, -1e4, -1e4]])
    np.testing.assert_allclose(softmax(logits).sum(-1), 1, rtol=1e-6)
    for row, want in zip(logits, (np.log1p(np.exp(-1.0)), np.log(2), np.log(3)), strict=True):
        got, _ = softmax_cross_entropy(row[None], jnp.asarray([1]), jnp.ones(1))
        np.testing.assert_allclose(got, want + (row[0] == 1e4), rtol=1e-6)
