"""Zeros around an image before a convolution, by the ways that libraries have."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from zoo.errors import InputError

PADDINGS = ("symmetric", "same", "ahead")


def check_padding(kind: str) -> None:
    """Raises InputError where there is no such way."""
    if kind not in PADDINGS:
        raise InputError(f"padding is one of {', '.join(PADDINGS)}, not {kind!r}")


def pad_image(
    x: Float[Array, "B H W C"], kernel_size: int, strides: int, kind: str
) -> tuple[Float[Array, "B h w C"], int]:
    """The image and how many zeros are still to be put on every side.

    Args:
        x: images.
        kernel_size, strides: of the convolution that follows.
        kind: ``symmetric``, as many on all sides, as PyTorch's models; ``same``, as many as
            give ``ceil(H / strides)`` rows and columns, one more on the right and below where
            they are odd, as TensorFlow; ``ahead``, where the image shrinks always one more on the
            right and below, as Keras' models do for images of even size.

    Raises:
        InputError: the padded image is smaller than the kernel.
    """
    if kind == "symmetric":
        return x, kernel_size // 2
    sides = [_sides(n, kernel_size, strides, kind) for n in x.shape[1:3]]
    for n, (before, after) in zip(x.shape[1:3], sides, strict=True):
        if n + before + after < kernel_size:
            raise InputError(
                f"an image is too small for this network: a convolution of {kernel_size}x"
                f"{kernel_size} meets a map of {x.shape[1]}x{x.shape[2]}"
            )
    if not any(map(any, sides)):
        return x, 0
    return jnp.pad(x, ((0, 0), *sides, (0, 0))), 0


def _sides(length: int, size: int, strides: int, kind: str) -> tuple[int, int]:
    if kind == "same":
        total = max((-(-length // strides) - 1) * strides + size - length, 0)
        return total // 2, total - total // 2
    before = size // 2 if strides == 1 else max(size // 2 - 1, 0)
    return before, size // 2
