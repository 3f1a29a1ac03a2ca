"""Images as rows of tokens: projected patches, special tokens before them, learned positions.

B batch, H W image, I channels, h w grid of patches, N = h * w, S special tokens, D width.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.errors import InputError
from zoo.nn.dense import matmul

INIT = nn.initializers.normal(0.02)


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width, which one number gives for squares."""
    return (size, size) if isinstance(size, int) else size


def grid(image: int | tuple[int, int], patch: int | tuple[int, int]) -> tuple[int, int]:
    """How many whole patches lie under and beside each other in an image.

    Raises:
        InputError: none does.
    """
    (height, width), (p, q) = pair(image), pair(patch)
    if min(p, q) < 1 or height < p or width < q:
        raise InputError(f"an image of {height}x{width} has no patch of {p}x{q}")
    return height // p, width // q


class Patches(nn.Module):
    """Each patch projected: a convolution whose stride is its kernel, as one matrix product. What
    is left of the image on the right and below, less than a patch, is not looked at.

    Parameters: ``kernel`` ``[p, q, I, D]``, ``bias`` ``[D]``.
    """

    features: int
    patch_size: tuple[int, int]
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W I"]) -> Float[Array, "B h w D"]:
        batch, channels, (p, q) = image.shape[0], image.shape[-1], self.patch_size
        h, w = grid((image.shape[1], image.shape[2]), self.patch_size)
        shape = (p, q, channels, self.features)
        init = nn.initializers.lecun_normal(in_axis=(0, 1, 2))
        kernel, bias = self.param("kernel", init, shape, self.param_dtype), None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, shape[-1:], self.param_dtype)
        x, kernel, bias = promote_dtype(image, kernel, bias, dtype=self.dtype)
        x = x[:, : h * p, : w * q].reshape(batch, h, p, w, q, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, h, w, p * q * channels)
        y = matmul(x, kernel.reshape(-1, self.features))
        return y if bias is None else y + bias


def rows_of_grid(
    patches: Patches, image: Float[Array, "B H W I"], size: int | tuple[int, int], channels: int
) -> Float[Array, "B N D"]:
    """The patches row by row, for networks whose weights belong to the places of one grid.

    Args:
        patches: the projection.
        image: of any size that has the grid of ``size``.
        size: height and width of the images that the network is made for.
        channels: of the images.

    Raises:
        InputError: images of another grid or another number of channels.
    """
    check_channels(image, channels)
    (height, width), found = pair(size), (image.shape[1], image.shape[2])
    if grid(found, patches.patch_size) != grid(size, patches.patch_size):
        raise InputError(
            f"images are {found[0]}x{found[1]}, and this network takes {height}x{width} alone: its "
            "weights belong to the places of their patches; resize the images"
        )
    y = patches(image)
    return y.reshape(y.shape[0], y.shape[1] * y.shape[2], y.shape[3])


def check_channels(image: Float[Array, "B H W I"], channels: int) -> None:
    """Raises InputError where images have other channels than the model."""
    if image.shape[-1] != channels:
        raise InputError(
            f"images have {image.shape[-1]} channels, the model {channels}; they are "
            "[batch, height, width, channels]"
        )


class ImageTokens(nn.Module):
    """Special tokens, then the patches row by row, plus a learned position each (Dosovitskiy et
    al., 2020, https://arxiv.org/abs/2010.11929, equation 1).

    Parameters: ``patches``; each special token ``[D]`` by its name; ``positions`` ``[S + N, D]``
    of the grid of ``image_size``, which are resized for images of any other grid.
    """

    features: int
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    channels: int
    special: tuple[str, ...]
    """Names of the special tokens, in order."""
    antialias: bool
    """How positions are resized; see ``resize_matrix``."""
    use_bias: bool = True
    """Whether the patches have a bias."""
    mask_token: bool = False
    """Whether there is a parameter ``mask_token`` ``[D]``, which hidden patches are replaced by."""
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W I"], hidden: Bool[Array, "B N"] | None = None
    ) -> Float[Array, "B T D"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        check_channels(image, self.channels)
        x_BhwD = Patches(
            self.features, self.patch_size, self.use_bias, **types, name="patches"
        )(image.astype(self.dtype))  # fmt: skip
        batch, h, w, width = x_BhwD.shape
        x_BND = x_BhwD.reshape(batch, h * w, width)
        zeros = nn.initializers.zeros
        if self.mask_token:
            token = self.param("mask_token", zeros, (width,), self.param_dtype)
            if hidden is not None:
                x_BND = jnp.where(hidden[..., None], token.astype(self.dtype), x_BND)
        tokens = [self.param(name, zeros, (width,), self.param_dtype) for name in self.special]
        first, known = len(tokens), grid(self.image_size, self.patch_size)
        shape = (first + known[0] * known[1], width)
        positions = self.param("positions", INIT, shape, self.param_dtype)
        if (h, w) != known:
            places = positions[first:].reshape(*known, width)
            places = resize(places, (h, w), self.antialias).reshape(h * w, width)
            positions = jnp.concatenate([positions[:first], places])
        if tokens:
            row = jnp.stack(tokens).astype(self.dtype)
            row = jnp.broadcast_to(row, (batch, first, width))
            x_BND = jnp.concatenate([row, x_BND], axis=1)
        return x_BND + positions.astype(self.dtype)


def resize(
    table: Float[Array, "h w D"], size: tuple[int, int], antialias: bool
) -> Float[Array, "H W D"]:
    """A grid of vectors resized by bicubic interpolation, in at least float32.

    Args:
        table: the grid.
        size: the new height and width.
        antialias: see ``resize_matrix``.
    """
    kept = jnp.promote_types(table.dtype, jnp.float32)
    down, across = (
        jnp.asarray(resize_matrix(new, old, antialias), kept)
        for new, old in zip(size, table.shape[:2], strict=True)
    )
    wide = table.astype(kept)
    y = jnp.einsum("Hh,Ww,hwd->HWd", down, across, wide, precision="highest")
    return y.astype(table.dtype)


def resize_matrix(new: int, old: int, antialias: bool) -> np.ndarray:
    """``[new, old]``: each new place as a mean of old ones by cubic convolution (Keys, 1981,
    https://doi.org/10.1109/TASSP.1981.1163711) over pixels whose corners are aligned.

    Args:
        new: number of new places.
        old: number of old places.
        antialias: where the grid shrinks the kernel is widened by as much; its parameter is -0.5,
            and kernels are cut at the edge, as in Pillow. Without, the parameter is -0.75 and the
            edge is repeated. These are the two ways of ``torch.nn.functional.interpolate``.
    """
    scale = old / new
    places = np.arange(old)
    matrix = np.zeros((new, old))
    for row in range(new):
        centre = (row + 0.5) * scale - 0.5
        if antialias:
            wide = max(scale, 1.0)
            first, last = int(max(centre - 2 * wide + 1, 0)), int(min(centre + 2 * wide + 1, old))
            near = places[first:last]
            weights = _cubic((near - centre) / wide, -0.5)
            matrix[row, near] = weights / weights.sum()
        else:
            near = int(np.floor(centre)) + np.arange(-1, 3)
            np.add.at(matrix[row], np.clip(near, 0, old - 1), _cubic(near - centre, -0.75))
    return matrix


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel at distances ``x``."""
    x = np.abs(x)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))
