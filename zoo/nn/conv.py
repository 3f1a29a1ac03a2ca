"""Two-dimensional convolution of images ``[B, H, W, C]``."""

import math
from functools import partial, reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.custom_derivatives import SymbolicZero
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.nn.dense import matmul
from zoo.nn.patches import pair

MAX_COPIES_BYTES = 128 * 2**20


class Conv(nn.Module):
    """Cross-correlation, as deep learning calls convolution (LeCun et al., 1998).

    Parameters: ``kernel`` ``[k, k, in, out]``, ``bias`` ``[out]``. ``padding`` zeros are put on
    every side. Kernel and padding are one number, or two for height and width. A 1x1 kernel with
    stride 1 and no padding is computed as a plain matrix product, which XLA's CPU backend runs
    faster. ``dtype`` None computes in the widest dtype of input and parameters.
    """

    features: int
    kernel_size: int | tuple[int, int]
    strides: int = 1
    padding: int | tuple[int, int] = 0
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B H W in"]) -> Float[Array, "B h w out"]:
        shape = (*pair(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, shape[-1:], self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        if (self.kernel_size, self.strides, self.padding) == (1, 1, 0):
            y = matmul(x, kernel[0, 0])
        else:
            y = convolve(self.strides, self.padding, x, kernel)
        return y if bias is None else y + bias


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def convolve(
    strides: int,
    padding: int | tuple[int, int],
    x: Float[Array, "B H W in"],
    kernel: Float[Array, "k l in out"],
) -> Float[Array, "B h w out"]:
    """Cross-correlation of a padded image with a kernel.

    On CPU the gradient of a kernel with 32 or more features is a product of matrices for each of
    its rows, which takes down to half the time of XLA's own (bench W2).
    """
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(strides, strides),
        padding=both_sides(padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@partial(convolve.defjvp, symbolic_zeros=True)
def _convolve_jvp(strides: int, padding: Any, primals: tuple, tangents: tuple) -> tuple:
    (x, kernel), (dx, dkernel) = primals, tangents
    convolution = partial(convolve, strides, padding)
    y = convolution(x, kernel)
    tangent = jnp.zeros_like(y)
    if not isinstance(dx, SymbolicZero):
        tangent += convolution(dx, kernel)
    if isinstance(dkernel, SymbolicZero):
        return y, tangent
    rows = partial(_by_rows, strides, padding, y.shape)
    copies = math.prod(x.shape) * kernel.shape[1] // strides * x.dtype.itemsize
    if kernel.shape[-1] < 32 or copies > MAX_COPIES_BYTES:
        return y, tangent + convolution(x, dkernel)
    return y, tangent + jax.lax.platform_dependent(x, dkernel, cpu=rows, default=convolution)


# The backward pass makes the copies of the image again: they take k times its memory.
@partial(jax.checkpoint, static_argnums=(0, 1, 2))
def _by_rows(strides: int, padding: Any, shape: tuple, x: Array, kernel: Array) -> Array:
    """``convolve`` as a product of matrices for each row of the kernel."""
    x = jnp.pad(x, ((0, 0), *both_sides(padding), (0, 0)))
    h, w = ((n - 1) * strides + 1 for n in shape[1:3])
    x = jnp.concatenate([x[:, :, j : j + w : strides] for j in range(kernel.shape[1])], axis=-1)
    rows = kernel.reshape(len(kernel), -1, kernel.shape[-1])
    parts = [matmul(x[:, i : i + h : strides], row) for i, row in enumerate(rows)]
    return reduce(jnp.add, parts)


def both_sides(padding: int | tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Zeros before and behind the rows and the columns."""
    return tuple((zeros, zeros) for zeros in pair(padding))
