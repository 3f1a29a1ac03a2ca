"""The loop over time of a recurrent layer, and its gradient.

All that does not depend on the step before is taken out of the loop: the products with the input
and, in the gradient, the products for the weights and the gates' derivatives. What stays is one
product of ``[B, H]`` with ``[H, G]`` a step and one of ``[B, G]`` with ``[G, H]`` a step back. The
loops write the gates over the input's products, and the gradients over the coefficients, so that
neither needs memory of its own.

T time, B batch, H features, G = gates * H.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from zoo.nn.cells import CELLS, State, gru_recurrent


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def recur(
    cell: str,
    reverse: bool,
    x: Float[Array, "T B G"],
    kernel: Float[Array, "H G"],
    bias: Float[Array, "G"] | None,
    state: State,
    mask: Bool[Array, "T B 1"] | None,
) -> tuple[Float[Array, "T B H"], State]:
    """Runs a cell over time.

    Args:
        cell: one of ``CELLS``.
        reverse: from the last step to the first.
        x: the input's products, with the input's bias.
        kernel: of the recurrent product.
        bias: of the recurrent product, or None.
        state: before the first step, at least float32.
        mask: False where a step leaves the state, and so the output, as it was; None: nowhere.

    Returns:
        The outputs in the dtype of ``x`` and the state after the last step. Differentiable once, by
        reverse mode.
    """
    outputs, state, _, _ = _forward(cell, reverse, x, kernel, bias, state, mask, save=False)
    return outputs, state


def _forward(
    cell: str, reverse: bool, x: Array, kernel: Array, bias: Array | None, state: State, mask, save
) -> tuple[Array, State, Array | None, Array | None]:
    kind, steps, wide = CELLS[cell], len(x), state[0].dtype

    def step(n: Array, carry: tuple) -> tuple:
        h0, c0, gates, outputs, seconds = carry
        t = steps - 1 - n if reverse else n
        r = jnp.dot(h0.astype(kernel.dtype), kernel, preferred_element_type=wide)
        if bias is not None:
            r = r + bias.astype(wide)
        source = gates if save else x
        h, c, saved = kind.step(_at(source, t).astype(wide), r, h0, c0)
        if mask is not None:
            h = jnp.where(_at(mask, t), h, h0)
            c = _where(_at(mask, t), c, c0)
        if save:
            gates = _put(gates, saved, t)
            seconds = None if c is None else _put(seconds, c, t)
        return h, c, gates, _put(outputs, h, t), seconds

    h = state[0]
    c = None if cell == "rnn" else state[1] if kind.states == 2 else jnp.zeros_like(h)
    outputs = jnp.zeros((steps, *h.shape), x.dtype)
    seconds = jnp.zeros((steps, *h.shape), wide) if save and c is not None else None
    start = (h, c, x if save else None, outputs, seconds)
    h, c, gates, outputs, seconds = lax.fori_loop(0, steps, step, start)
    return outputs, (h, c)[: kind.states], gates, seconds


def _recur_forward(cell, reverse, x, kernel, bias, state, mask):  # noqa: ANN001, ANN202
    outputs, last, gates, seconds = _forward(cell, reverse, x, kernel, bias, state, mask, save=True)
    return (outputs, last), (outputs, gates, seconds, kernel, bias, state, mask)


def _recur_backward(cell: str, reverse: bool, saved: tuple, gradients: tuple) -> tuple:
    outputs, gates, seconds, kernel, bias, state, mask = saved
    d_outputs, d_last = gradients
    kind, steps, wide = CELLS[cell], len(gates), state[0].dtype

    previous = _shift(outputs, state[0], reverse)
    previous_c = _shift(seconds, state[1], reverse) if kind.states == 2 else None
    a, keep, p, f = kind.derive(gates.astype(wide), seconds, previous.astype(wide), previous_c)
    if mask is not None:
        a, p, f = _where(mask, a, 0), _where(mask, p, 0), _where(mask, f, 1)
        keep = jnp.where(mask, 0.0 if keep is None else keep, 1)
    transposed = kernel.T

    def step(n: Array, carry: tuple) -> tuple:
        dh, dc, d = carry
        t = n if reverse else steps - 1 - n
        dh = dh + _at(d_outputs, t)
        dx, dr, dc = kind.pull(dh, dc, _at(d, t), _at(p, t), _at(f, t))
        dh0 = jnp.dot(dr.astype(kernel.dtype), transposed, preferred_element_type=wide)
        if keep is not None:
            dh0 = dh0 + dh * _at(keep, t)
        return dh0, dc, _put(d, dx, t)

    dh, dc = d_last if kind.states == 2 else (d_last[0], None)
    dh, dc, dx = lax.fori_loop(0, steps, step, (dh, dc, a))

    dr = (gru_recurrent(dx, p) if cell == "gru" else dx).astype(kernel.dtype)
    d_kernel = lax.dot_general(
        previous.reshape(-1, previous.shape[-1]),
        dr.reshape(-1, dr.shape[-1]),
        (((0,), (0,)), ((), ())),
        preferred_element_type=wide,
    )
    d_bias = None if bias is None else jnp.sum(dr, axis=(0, 1), dtype=wide).astype(bias.dtype)
    d_state = (dh, dc)[: kind.states]
    return dx.astype(gates.dtype), d_kernel.astype(kernel.dtype), d_bias, d_state, None


recur.defvjp(_recur_forward, _recur_backward)


def _where(mask: Array, x: Any, other: Any) -> Any:
    """``x`` where the mask is True; None stays None."""
    return None if x is None else jnp.where(mask, x, other)


def _at(x: Any, t: Array) -> Any:
    """Step ``t`` of an array; None stays None."""
    return None if x is None else lax.dynamic_index_in_dim(x, t, 0, keepdims=False)


def _put(x: Array, value: Array, t: Array) -> Array:
    return lax.dynamic_update_index_in_dim(x, value.astype(x.dtype), t, 0)


def _shift(x: Array, first: Array, reverse: bool) -> Array:
    """What was there one step before: ``first`` at the start of time."""
    first = first[None].astype(x.dtype)
    return jnp.concatenate([x[1:], first] if reverse else [first, x[:-1]])
