"""Maps cut into windows that attention stays within (Liu et al., 2021,
https://arxiv.org/abs/2103.14030).

B batch, h w map, M windows of a map, p q window, N = p * q tokens of a window, W = B * M, D width,
K heads, d features of a head.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.nn.activation import softmax
from zoo.nn.attention import merge_heads, split_heads
from zoo.nn.dropout import Dropout
from zoo.nn.vision import INIT, dense

Pair = tuple[int, int]
HIDDEN = -100.0
"""Added to the scores of tokens that are hidden from each other."""


class WindowAttention(nn.Module):
    """Every token of a window looks at every other; where it lies relative to it adds to the score
    (equation 4). Tokens that are `apart` are hidden from each other.

    Parameters: `query`, `key`, `value`, `out`, and `positions` `[(2p - 1) * (2q - 1), K]`, by
    distance down and across.
    """

    num_heads: int
    window: Pair
    qkv_bias: bool
    dropout: float
    """Rate on attention weights."""
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "W N D"], apart: Bool[np.ndarray, "M N N"] | None, train: bool
    ) -> Float[Array, "W N D"]:
        _, tokens, width = x.shape
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        q_WKNd, k_WKNd, v_WKNd = (
            split_heads(dense(width, types, name, self.qkv_bias)(x), self.num_heads)
            for name in ("query", "key", "value")
        )
        p, q = self.window
        shape = ((2 * p - 1) * (2 * q - 1), self.num_heads)
        table = self.param("positions", INIT, shape, self.param_dtype).astype(self.dtype)
        bias_KNN = table[distances(self.window)].transpose(2, 0, 1)

        scale = (width // self.num_heads) ** -0.5
        scores = jnp.einsum("wkid,wkjd->wkij", q_WKNd * scale, k_WKNd) + bias_KNN
        if apart is not None:
            by_image = scores.reshape(-1, len(apart), self.num_heads, tokens, tokens)
            by_image += jnp.where(apart[:, None], HIDDEN, 0.0).astype(scores.dtype)
            scores = by_image.reshape(scores.shape)
        weights = Dropout(self.dropout, name="weights")(softmax(scores), train)
        y_WKNd = jnp.einsum("wkij,wkjd->wkid", weights, v_WKNd)
        return dense(width, types, "out")(merge_heads(y_WKNd))


def padded(x: Float[Array, "B h w D"], window: Pair) -> Float[Array, "B H W D"]:
    """A map with zeros on the right and below, up to whole windows."""
    down, across = -x.shape[1] % window[0], -x.shape[2] % window[1]
    return jnp.pad(x, ((0, 0), (0, down), (0, across), (0, 0))) if down or across else x


def split(x: Float[Array, "B h w D"], window: Pair) -> Float[Array, "W N D"]:
    """The windows of a map, row by row; their height and width divide those of the map."""
    batch, h, w, width = x.shape
    p, q = window
    x = x.reshape(batch, h // p, p, w // q, q, width).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, p * q, width)


def join(x: Float[Array, "W N D"], window: Pair, size: Pair) -> Float[Array, "B h w D"]:
    """The inverse of `split`, for maps of height and width `size`."""
    (p, q), (h, w), width = window, size, x.shape[-1]
    x = x.reshape(-1, h // p, w // q, p, q, width).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, h, w, width)


def strangers(size: Pair, window: Pair, shift: Pair) -> Bool[np.ndarray, "M N N"]:
    """Pairs of tokens in a window that are neighbours only because the map was rolled: True where
    one came from the other side.

    Args:
        size: height and width of the map, which those of the window divide.
        window: height and width of the windows.
        shift: by how much the map was rolled up and to the left.
    """
    sides = []
    for length, wide, by in zip(size, window, shift, strict=True):
        sides.append((np.arange(length) >= length - by).reshape(-1, wide))
    (m, p), (n, q) = sides[0].shape, sides[1].shape
    region = 2 * sides[0].reshape(m, 1, p, 1) + sides[1].reshape(1, n, 1, q)
    region = region.reshape(m * n, p * q)
    return region[:, :, None] != region[:, None, :]


def distances(window: Pair) -> Int[np.ndarray, "N N"]:
    """Row of the table of positions for each pair of tokens: by how far the first lies below the
    second, from `1 - p`, then to the right of it, from `1 - q`."""
    p, q = window
    y, x = (axis.reshape(-1) for axis in np.indices(window))
    down, across = y[:, None] - y + p - 1, x[:, None] - x + q - 1
    return down * (2 * q - 1) + across


def merge_patches(x: Float[Array, "B h w D"]) -> Float[Array, "B H W 4*D"]:
    """Each square of four places as one, column by column; zeros make odd maps even."""
    x = padded(x, (2, 2))
    batch, h, w, width = x.shape
    x = x.reshape(batch, h // 2, 2, w // 2, 2, width).transpose(0, 1, 3, 4, 2, 5)
    return x.reshape(batch, h // 2, w // 2, 4 * width)
