"""Depthwise convolution: each channel of an image has a kernel of its own.

XLA's CPU backend takes 5 to 20 times the work that this needs: forward it runs its general loop,
and the gradient of the kernel becomes a dense convolution of all channels with all. Here both are
sums of shifted products on CPU; other devices have kernels of their own for it.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def depthwise(
    strides: int, padding: int, x: Float[Array, "B H W C"], kernel: Float[Array, "k k 1 C"]
) -> Float[Array, "B h w C"]:
    """Cross-correlation of each channel with its kernel; products are summed in at least float32.

    It has gradients of any order, but no forward-mode derivative (``jax.jvp``).

    Args:
        strides: step from one place to the next, down and across.
        padding: rows and columns of zeros on every side.
        x: images.
        kernel: in the dtype of ``x``.
    """
    cpu, default = partial(_shifted, strides, padding), partial(_convolved, strides, padding)
    return jax.lax.platform_dependent(x, kernel, cpu=cpu, default=default)


def _forward(strides: int, padding: int, x: Array, kernel: Array) -> tuple[Array, tuple]:
    return depthwise(strides, padding, x, kernel), (x, kernel)


def _backward(strides: int, padding: int, saved: tuple[Array, Array], dy: Array) -> tuple:
    cpu = partial(_gradients, strides, padding)
    default = partial(_gradients_of_xla, strides, padding)
    return jax.lax.platform_dependent(*saved, dy, cpu=cpu, default=default)


depthwise.defvjp(_forward, _backward)


def _convolved(strides: int, padding: int, x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(strides, strides),
        padding=((padding, padding),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _gradients_of_xla(strides: int, padding: int, x: Array, kernel: Array, dy: Array) -> tuple:
    return jax.vjp(partial(_convolved, strides, padding), x, kernel)[1](dy)


def _shifted(strides: int, padding: int, x: Array, kernel: Array) -> Array:
    """One product of the whole image for each place of the kernel."""
    kind, size = jnp.promote_types(x.dtype, jnp.float32), len(kernel)
    wide = _pad(x.astype(kind), padding)
    h, w = ((n - size) // strides + 1 for n in wide.shape[1:3])
    y = jnp.zeros((x.shape[0], h, w, x.shape[-1]), kind)
    for (i, j), part in _parts(wide, size, strides, h, w):
        y += part * kernel[i, j].astype(kind)
    return y.astype(x.dtype)


def _gradients(strides: int, padding: int, x: Array, kernel: Array, dy: Array) -> tuple:
    """With respect to image and kernel.

    That of the kernel adds up row by row of ``dy``, with the columns apart until the end: sums
    over whole images, with the channels last, take 2 to 6 times as long.
    """
    (dx,) = jax.vjp(lambda x: _shifted(strides, padding, x, kernel), x)[1](dy)
    kind, size, (h, w) = jnp.promote_types(x.dtype, jnp.float32), len(kernel), dy.shape[1:3]
    wide = _pad(x, padding)

    def add(row: Array, total: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(wide, row * strides, size, axis=1).astype(kind)
        one = jax.lax.dynamic_slice_in_dim(dy, row, 1, axis=1).astype(kind)
        parts = [part * one for _, part in _parts(rows, size, strides, 1, w)]
        return total + jnp.sum(jnp.stack(parts), axis=(1, 2))

    start = jnp.zeros((size * size, w, x.shape[-1]), kind)
    total = jax.lax.fori_loop(0, h, add, start)
    return dx, jnp.sum(total, axis=1).reshape(kernel.shape).astype(kernel.dtype)


def _pad(x: Array, padding: int) -> Array:
    return jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def _parts(
    x: Array, size: int, strides: int, h: int, w: int
) -> Iterator[tuple[tuple[int, int], Array]]:
    """For each place of the kernel, what it meets of the image."""
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + (h - 1) * strides + 1, strides)
            yield (i, j), x[:, rows, j : j + (w - 1) * strides + 1 : strides]
