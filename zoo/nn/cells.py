"""Recurrent cells: the formulas of a step and of its gradient.

With the gates' derivatives as coefficients, every cell's step back is linear in the gradients of
its state, so the coefficients of all steps are computed at once, outside the loop over time.

T time, B batch, H features, G = gates * H.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array

State = tuple[Array, ...]
"""State of one layer, arrays ``[B, H]``: ``(h,)``, for the LSTM ``(h, c)``."""


@dataclass(frozen=True)
class Cell:
    """The formulas of one step, and of its gradient as coefficients."""

    gates: int
    """Number of gates, G / H."""
    states: int
    """Number of arrays in the state; the output ``h`` is the first."""
    step: Callable
    """``(x, r, h, c) -> (h, c, saved)``: ``x`` ``[B, G]`` from the input, ``r`` ``[B, G]`` from
    the previous ``h``; ``c`` is the second state, or an array that only the gradient needs."""
    derive: Callable
    """``(saved, c, previous h, previous c) -> (a, keep, p, f)`` over all T at once."""
    pull: Callable
    """``(dh, dc, a, p, f) -> (dx, dr, dc)``, with ``dr`` for ``r``; ``dh`` of the step before is
    ``dr @ kernel.T + keep * dh``."""


def _split(x: Array, parts: int) -> list[Array]:
    return jnp.split(x, parts, axis=-1)


def _elman_step(x: Array, r: Array, h: Array, c: None) -> tuple:
    h = jnp.tanh(x + r)
    return h, None, h


def _elman_derive(saved: Array, c: None, h0: Array, c0: None) -> tuple:
    return 1 - saved * saved, None, None, None


def _elman_pull(dh: Array, dc: None, a: Array, p: None, f: None) -> tuple:
    return dh * a, dh * a, None


def _lstm_step(x: Array, r: Array, h: Array, c: Array) -> tuple:
    # One tanh over all gates: the logistic ones (i, f, o) are tanh(x / 2) / 2 + 1 / 2.
    half = jnp.repeat(jnp.array([0.5, 0.5, 1.0, 0.5], x.dtype), h.shape[-1])
    saved = jnp.tanh((x + r) * half)
    i, f, g, o = _lstm_gates(saved)
    c = f * c + i * g
    return o * jnp.tanh(c), c, saved


def _lstm_gates(saved: Array) -> tuple[Array, Array, Array, Array]:
    i, f, g, o = _split(saved, 4)
    return 0.5 * i + 0.5, 0.5 * f + 0.5, g, 0.5 * o + 0.5


def _lstm_derive(saved: Array, c: Array, h0: Array, c0: Array) -> tuple:
    i, f, g, o = _lstm_gates(saved)
    t = jnp.tanh(c)
    a = (g * i * (1 - i), c0 * f * (1 - f), i * (1 - g * g), t * o * (1 - o))
    return jnp.concatenate(a, -1), None, o * (1 - t * t), f


def _lstm_pull(dh: Array, dc: Array, a: Array, p: Array, f: Array) -> tuple:
    dc = dc + dh * p
    d = jnp.concatenate([dc, dc, dc, dh], -1) * a
    return d, d, dc * f


def _gru_step(x: Array, r: Array, h: Array, c: Array) -> tuple:
    reset_x, update_x, new_x = _split(x, 3)
    reset_r, update_r, new_r = _split(r, 3)
    reset = 0.5 * jnp.tanh(0.5 * (reset_x + reset_r)) + 0.5
    update = 0.5 * jnp.tanh(0.5 * (update_x + update_r)) + 0.5
    new = jnp.tanh(new_x + reset * new_r)
    return new + update * (h - new), new_r, jnp.concatenate([reset, update, new], -1)


def _gru_derive(saved: Array, c: Array, h0: Array, c0: None) -> tuple:
    reset, update, new = _split(saved, 3)
    a_new = (1 - update) * (1 - new * new)
    a = (a_new * c * reset * (1 - reset), (h0 - new) * update * (1 - update), a_new)
    return jnp.concatenate(a, -1), update, reset, None


def _gru_pull(dh: Array, dc: None, a: Array, p: Array, f: None) -> tuple:
    dx = jnp.concatenate([dh, dh, dh], -1) * a
    return dx, gru_recurrent(dx, p), dc


def gru_recurrent(dx: Array, reset: Array) -> Array:
    """Gradient of the recurrent product: the candidate's passed through the reset gate."""
    dr, dz, dn = _split(dx, 3)
    return jnp.concatenate([dr, dz, dn * reset], -1)


CELLS = {
    "rnn": Cell(1, 1, _elman_step, _elman_derive, _elman_pull),
    "lstm": Cell(4, 2, _lstm_step, _lstm_derive, _lstm_pull),
    "gru": Cell(3, 1, _gru_step, _gru_derive, _gru_pull),
}
"""Gates in PyTorch's order. ``rnn``: ``h = tanh(x + r)`` (Elman, 1990,
https://doi.org/10.1207/s15516709cog1402_1). ``lstm``: i, f, g, o (Hochreiter and Schmidhuber, 1997,
with the forget gate of Gers et al., 2000, https://doi.org/10.1162/089976600300015015). ``gru``: r,
z, n (Cho et al., 2014, https://arxiv.org/abs/1406.1078) with PyTorch's and cuDNN's candidate
``n = tanh(x_n + r * (W h + b))``; the paper resets before the product, ``tanh(x_n + W (r * h))``.
Also as in PyTorch, z weighs the old state and 1 - z the candidate."""
