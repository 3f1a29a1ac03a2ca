"""Layer, root-mean-square and batch normalisation. Statistics are taken in at least float32."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.nn import axis


class LayerNorm(nn.Module):
    """Each vector brought to mean 0 and variance 1, then ``* scale + bias`` (Ba et al., 2016,
    https://arxiv.org/abs/1607.06450).

    Parameters: ``scale`` ``[D]``, ``bias`` ``[D]``. The variance is the biased one, taken from the
    centred values.
    """

    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead D"]:
        scale, bias = _affine(self, x.shape[-1])
        wide = _widen(x)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        y = centred * jax.lax.rsqrt(variance + self.epsilon)
        return (y * scale + bias).astype(self.dtype or x.dtype)


class RMSNorm(nn.Module):
    """Each vector brought to root mean square 1, then ``* scale`` (Zhang and Sennrich, 2019,
    https://arxiv.org/abs/1910.07467).

    Parameter: ``scale`` ``[D]``.
    """

    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead D"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        wide = _widen(x)
        square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        y = wide * jax.lax.rsqrt(square + self.epsilon)
        return (y * _widen(scale)).astype(self.dtype or x.dtype)


class BatchNorm(nn.Module):
    """Each channel (last dimension) brought to mean 0 and variance 1 over the global batch, then
    ``* scale + bias`` (Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167).

    Parameters: ``scale`` ``[C]``, ``bias`` ``[C]``; collection ``batch_stats``: ``mean`` ``[C]``,
    ``var`` ``[C]``, always float32 or wider. Under ``jit`` the batch is the whole array, also where
    a mesh shards it; where the data axis is bound (``pmap``) the sums run over all its devices. As
    in PyTorch, ``x`` is normalised by the biased variance and the running variance takes the
    unbiased one. ``running = momentum * running + (1 - momentum) * batch`` (PyTorch's ``momentum``
    is one minus this one).

    The variance is the mean square of the centred values: two reductions and not one, since
    ``mean(x*x) - mean(x)**2`` loses all digits where a channel's mean is far from zero.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *space C"], train: bool) -> Float[Array, "B *space C"]:
        scale, bias = _affine(self, x.shape[-1])
        wide = _widen(x)
        shape, kept = x.shape[-1:], jnp.promote_types(self.param_dtype, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, kept)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, kept)
        if not train:
            factor = jax.lax.rsqrt(running_var.value + self.epsilon) * scale
            y = (wide - running_mean.value) * factor + bias
            return y.astype(self.dtype or x.dtype)

        y, mean, var = _standardise(wide, scale, bias, self.epsilon)
        if not self.is_initializing():
            count = _count(x)
            m, unbiased = self.momentum, var * (count / max(count - 1, 1))
            running_mean.value = (m * running_mean.value + (1 - m) * mean).astype(kept)
            running_var.value = (m * running_var.value + (1 - m) * unbiased).astype(kept)
        return y.astype(self.dtype or x.dtype)


@jax.custom_vjp
def _standardise(
    x: Array, scale: Array, bias: Array, epsilon: float | Array
) -> tuple[Array, Array, Array]:
    """Batch norm of ``x`` ``[..., C]``, with its mean ``[C]`` and biased variance ``[C]``, which
    pass on no gradient.

    The gradient is written out because ``jit`` and ``pmap`` must agree bit for bit. Derived by JAX,
    it would scale each device's sums before they are added under ``pmap`` and their total under
    ``jit``; here both add the same sums (equations of section 3 of the paper).
    """
    return _standardise_forward(x, scale, bias, epsilon)[0]


def _standardise_forward(x: Array, scale: Array, bias: Array, epsilon: float | Array) -> tuple:
    over, count = tuple(range(x.ndim - 1)), _count(x)
    mean = axis.total(jnp.sum(x, axis=over)) / count
    centred = x - mean
    var = axis.total(jnp.sum(jnp.square(centred), axis=over)) / count
    inverse = jax.lax.rsqrt(var + epsilon)
    return (centred * (inverse * scale) + bias, mean, var), (x, scale, mean, inverse)


def _standardise_backward(saved: tuple, gradients: tuple) -> tuple:
    x, scale, mean, inverse = saved
    dy, over, count = gradients[0], tuple(range(x.ndim - 1)), _count(x)
    normal = (x - mean) * inverse
    dbias, dscale = jnp.sum(dy, axis=over), jnp.sum(dy * normal, axis=over)
    mean_dy, mean_dy_normal = axis.total(dbias) / count, axis.total(dscale) / count
    dx = (dy - mean_dy - normal * mean_dy_normal) * (inverse * scale)
    return dx, dscale, dbias, None


_standardise.defvjp(_standardise_forward, _standardise_backward)


def _count(x: Array) -> int:
    """Values per channel in the global batch."""
    return math.prod(x.shape[:-1]) * axis.size()


def _affine(module: nn.Module, features: int) -> tuple[Array, Array]:
    """The parameters ``scale`` (ones) and ``bias`` (zeros), at least float32."""
    scale = module.param("scale", nn.initializers.ones, (features,), module.param_dtype)
    bias = module.param("bias", nn.initializers.zeros, (features,), module.param_dtype)
    return _widen(scale), _widen(bias)


def _widen(x: Array) -> Array:
    """``x`` in float32, or in its own dtype where that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
