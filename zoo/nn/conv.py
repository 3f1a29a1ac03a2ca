"""Two-dimensional convolution of images ``[B, H, W, C]``."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.nn.dense import matmul


class Conv(nn.Module):
    """Cross-correlation with a square kernel, as deep learning calls convolution (LeCun et al.,
    1998).

    Parameters: ``kernel`` ``[k, k, in, out]``, ``bias`` ``[out]``. ``padding`` zeros are put on
    every side. A 1x1 kernel with stride 1 and no padding is computed as a plain matrix product,
    which XLA's CPU backend runs faster. ``dtype`` None computes in the widest dtype of input and
    parameters.
    """

    features: int
    kernel_size: int
    strides: int = 1
    padding: int = 0
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B H W in"]) -> Float[Array, "B h w out"]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, shape[-1:], self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        if (self.kernel_size, self.strides, self.padding) == (1, 1, 0):
            y = matmul(x, kernel[0, 0])
        else:
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(self.strides, self.strides),
                padding=((self.padding, self.padding),) * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        return y if bias is None else y + bias
