"""Activation functions by name, and softmax.

They are written as formulas that compile to fast and fused loops: the logistic function through
tanh, softmax with an explicit reciprocal.
"""

import difflib
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from zoo.errors import InputError


def sigmoid(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Logistic function ``1 / (1 + exp(-x))``, as ``tanh(x / 2) / 2 + 1 / 2``.

    Good to 1e-7 in float32, which is no relative precision near 0: a log-likelihood takes the
    logits themselves.
    """
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


def silu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """``x * sigmoid(x)`` (Elfwing et al., 2017, https://arxiv.org/abs/1702.03118)."""
    return x * sigmoid(x)


def gelu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """``x * Phi(x)`` with the normal distribution's exact ``Phi`` (Hendrycks and Gimpel, 2016,
    https://arxiv.org/abs/1606.08415)."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def gelu_tanh(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The same paper's approximation of ``gelu`` by tanh."""
    return 0.5 * x * (1.0 + jnp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def quick_gelu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The same paper's approximation of ``gelu`` by the logistic function."""
    return x * sigmoid(1.702 * x)


def relu6(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """``x`` kept between 0 and 6 (Krizhevsky, 2010); gradient 0 at both ends, as in PyTorch."""
    return jnp.where(x >= 6.0, 6.0, jax.nn.relu(x)).astype(x.dtype)


def hard_sigmoid(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """A line in the place of the logistic function (Howard et al., 2019,
    https://arxiv.org/abs/1905.02244)."""
    return relu6(x + 3.0) * (1.0 / 6.0)


def hard_swish(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """``x * hard_sigmoid(x)``, of the same paper."""
    return x * hard_sigmoid(x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": sigmoid,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": silu,
    "elu": jax.nn.elu,
    "leaky_relu": jax.nn.leaky_relu,
    "relu6": relu6,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The activation function of that name.

    Raises:
        InputError: there is none; the message gives the nearest names.
    """
    if name not in ACTIVATIONS:
        near = difflib.get_close_matches(name, ACTIVATIONS, cutoff=0.5) or list(ACTIVATIONS)
        raise InputError(f"unknown activation {name!r}; nearest: {', '.join(near)}")
    return ACTIVATIONS[name]


def softmax(
    x: Float[Array, "..."], axis: int = -1, where: Bool[Array, "..."] | None = None
) -> Float[Array, "..."]:
    """``exp(x) / sum(exp(x))`` along ``axis``, in at least float32, returned in the dtype of ``x``.

    Args:
        x: scores of any shape.
        axis: the dimension that sums to one.
        where: broadcastable to ``x``; False leaves an element out, with result 0. Where nothing is
            left along ``axis`` the result is all zeros, not NaN.
    """
    scores = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if where is not None:
        scores = jnp.where(where, scores, -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(scores, axis=axis, keepdims=True))
    if where is not None:
        top = jnp.where(jnp.isfinite(top), top, 0.0)
    e = jnp.exp(scores - top)
    total = jnp.sum(e, axis=axis, keepdims=True)
    if where is not None:
        total = jnp.where(total == 0.0, 1.0, total)
    return (e * (1.0 / total)).astype(x.dtype)
