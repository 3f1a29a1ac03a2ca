"""Losses as (sum, weight): what they add up to over a batch, and what to divide by.

Sums make a loss independent of padding, of the size of the last batch, of accumulation and of the
number of devices. Reduction is in float32, or wider where the outputs are. A position of weight 0
adds exactly nothing to the loss and to the gradient, whatever the model returned there.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from zoo.errors import InputError
from zoo.tasks.batch import IGNORED, where_counts

Sum = Float[Array, ""]


def wide(values: Array) -> Array:
    """`values` in float32, or as they are where they are wider."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def log_softmax(logits: Float[Array, "*axes C"]) -> Float[Array, "*axes C"]:
    """Log-probabilities over the last axis, in at least float32."""
    shifted, log_sum, _ = _shifted(wide(jnp.asarray(logits)))
    return shifted - log_sum[..., None]


def softmax(logits: Float[Array, "*axes C"]) -> Float[Array, "*axes C"]:
    """Probabilities over the last axis, in at least float32."""
    return jnp.exp(log_softmax(logits))


def softmax_cross_entropy(
    logits: Float[Array, "*axes C"],
    labels: Int[Array, "*axes"] | Float[Array, "*axes C"],
    weights: Float[Array, "*axes"],
    *,
    label_smoothing: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
    z_loss: float = 0.0,
) -> tuple[Sum, Sum]:
    """Cross-entropy of softmax(logits) with the labels, in nats.

    Args:
        logits: any leading axes, classes last.
        labels: class indices, `IGNORED` where there is none; or probabilities (soft targets).
        weights: weight of each position.
        label_smoothing: share of every target that is spread evenly over the C classes
            (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7).
        class_weights: one weight per class. As in PyTorch, each class's term is multiplied by its
            weight, and the weighted sum is divided by the sum of the weights of the true classes.
            A soft target weighs the mean of the weights under it.
        z_loss: factor of (log sum exp)^2, which keeps logits from drifting
            (PaLM, Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5: 1e-4).

    Returns:
        The weighted sum of the losses and the sum of the weights.

    Raises:
        InputError: the shapes do not fit.
    """
    soft = jnp.issubdtype(labels.dtype, jnp.floating)
    expected = logits.shape if soft else logits.shape[:-1]
    _expect("labels", labels.shape, expected, logits.shape)
    _expect("weights", weights.shape, logits.shape[:-1], logits.shape)
    classes = logits.shape[-1]
    if class_weights is not None:
        _expect("class_weights", (len(class_weights),), (classes,), logits.shape)
    if not soft:
        weights = jnp.where(labels != IGNORED, weights, 0)

    logits = where_counts(weights, wide(logits))
    weights = weights.astype(logits.dtype)
    labels = where_counts(weights, labels)
    shifted, log_sum, top = _shifted(logits)
    per_class = jnp.asarray(
        (1.0,) * classes if class_weights is None else class_weights, logits.dtype
    )
    if soft:
        targets = labels.astype(logits.dtype)
        emphasis = jnp.sum(targets * per_class, -1)
        loss = jnp.sum(targets * per_class * (log_sum[..., None] - shifted), -1)
    else:
        own = jnp.take_along_axis(shifted, labels[..., None], axis=-1)[..., 0]
        emphasis = jnp.ones_like(weights) if class_weights is None else per_class[labels]
        loss = emphasis * (log_sum - own)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss
        costs = per_class * (log_sum[..., None] - shifted)
        loss += label_smoothing / classes * jnp.sum(costs, -1)
    if z_loss:
        loss += z_loss * emphasis * (top + log_sum) ** 2
    return jnp.sum(weights * loss), jnp.sum(weights * emphasis)


def binary_cross_entropy(
    logits: Float[Array, "*axes"],
    labels: Int[Array, "*axes"] | Float[Array, "*axes"],
    weights: Float[Array, "*axes"],
    *,
    label_smoothing: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
) -> tuple[Sum, Sum]:
    """Cross-entropy of sigmoid(logits) with labels 0 and 1, in nats.

    Equal to `softmax_cross_entropy` of the two logits 0 and x, its options included.

    Args:
        logits: any axes.
        labels: 0 or 1, or the probability of 1; of the same shape.
        weights: weight of each position; of the same shape.
        label_smoothing: pulls each target towards 1/2: `y (1 - s) + s / 2`.
        class_weights: weights of label 0 and of label 1.

    Returns:
        The weighted sum of the losses and the sum of the weights.

    Raises:
        InputError: the shapes do not fit.
    """
    _expect("labels", labels.shape, logits.shape, logits.shape)
    _expect("weights", weights.shape, logits.shape, logits.shape)
    if class_weights is not None:
        _expect("class_weights", (len(class_weights),), (2,), logits.shape)
    negative, positive = (1.0, 1.0) if class_weights is None else class_weights
    logits = where_counts(weights, wide(logits))
    weights = weights.astype(logits.dtype)
    labels = where_counts(weights, labels).astype(logits.dtype)
    targets = labels * (1 - label_smoothing) + label_smoothing / 2
    loss = positive * targets * jax.nn.softplus(-logits)
    loss += negative * (1 - targets) * jax.nn.softplus(logits)
    emphasis = positive * labels + negative * (1 - labels)
    return jnp.sum(weights * loss), jnp.sum(weights * emphasis)


def mean_squared_error(
    outputs: Float[Array, "B K"], labels: Float[Array, "B K"], weights: Float[Array, " B"]
) -> tuple[Sum, Sum]:
    """Squared error, averaged over the K values of an example.

    Returns:
        The weighted sum over the examples and the sum of the weights.

    Raises:
        InputError: the shapes differ; nothing is broadcast.
    """
    _expect("labels", labels.shape, outputs.shape, outputs.shape)
    _expect("weights", weights.shape, outputs.shape[:1], outputs.shape)
    error = where_counts(weights, wide(outputs) - labels)
    weights = weights.astype(error.dtype)
    return jnp.sum(weights * jnp.mean(error**2, -1)), jnp.sum(weights)


def _shifted(logits: Array) -> tuple[Array, Array, Array]:
    """Logits less their maximum, the log of the sum of their exponentials, and the maximum.

    Working on shifted logits loses no digits however large they are. The gradient multiplies by
    an explicit reciprocal, and so has the same bits on any number of devices; a division by a
    broadcast sum has not.
    """
    top = jax.lax.stop_gradient(jnp.max(logits, -1))
    top = jnp.where(jnp.isfinite(top), top, 0)
    shifted = logits - top[..., None]
    return shifted, jnp.log(jnp.sum(jnp.exp(shifted), -1)), top


def _expect(name: str, got: tuple, wanted: tuple, outputs: tuple) -> None:
    if tuple(got) != tuple(wanted):
        raise InputError(
            f"{name} of shape {tuple(got)} do not fit outputs of shape {tuple(outputs)}; "
            f"they need shape {tuple(wanted)}"
        )
