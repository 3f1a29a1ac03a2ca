"""Rotary position embedding (Su et al., 2021, https://arxiv.org/abs/2104.09864) and the scalings
that carry it to longer texts.

B batch, H heads, T tokens, K features of a head, F = K / 2 pairs of features.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from zoo.errors import InputError

SCALINGS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", "trained"),
    "llama3": ("factor", "trained", "low", "high"),
    "yarn": ("factor", "trained", "low", "high", "gain"),
}
"""Names and the numbers that each needs; see ``frequencies``."""


def parse(scaling: str) -> tuple[str, dict[str, float]]:
    """Name and numbers of a scaling written as ``"llama3 factor=8 trained=8192 low=1 high=4"``.

    Raises:
        InputError: there is no such scaling, or its numbers are others or no positive numbers.
    """
    name, *words = scaling.split() or [""]
    if name not in SCALINGS:
        raise InputError(f"unknown rope scaling {name!r}; there are: {', '.join(SCALINGS)}")
    wanted = SCALINGS[name]
    try:
        numbers = {key: float(value) for key, _, value in (word.partition("=") for word in words)}
    except ValueError:
        numbers = {}
    fits = sorted(numbers) == sorted(wanted) and len(words) == len(wanted)
    fits = fits and all(0 < number < math.inf for number in numbers.values())
    if not fits or numbers.get("low", 0) >= numbers.get("high", 1):
        form = " ".join([name, *(f"{key}=<number>" for key in wanted)])
        raise InputError(
            f"rope scaling {scaling!r} is none; write {form!r}, numbers above 0, low below high"
        )
    return name, numbers


def frequencies(head_dim: int, base: float, scaling: str, length: int) -> Float[np.ndarray, "F"]:
    """Radians by which a step of one position turns each pair of features.

    In float32 throughout, as checkpoints were trained: pair i turns by ``base**(-2i / K)``, unless
    scaled to texts ``factor`` times as long as the ``trained`` positions:

    - ``linear``: all frequencies over ``factor`` (Chen et al., 2023,
      https://arxiv.org/abs/2306.15595).
    - ``dynamic``: a base that grows with ``length`` beyond ``trained`` (Peng et al., 2023,
      https://arxiv.org/abs/2309.00071, section 3.3).
    - ``llama3`` (Llama Team, 2024, https://arxiv.org/abs/2407.21783) and ``yarn`` (Peng et al.,
      section 3.2): frequencies that turn fewer than ``low`` times in ``trained`` positions over
      ``factor``, those that turn more than ``high`` times as they are, a blend between; it is
      linear in the turns for llama3, in the pairs for yarn.

    Args:
        head_dim: K, even.
        base: of the wavelengths.
        scaling: see ``parse``.
        length: positions in use; ``dynamic`` alone asks for it.
    """
    name, numbers = parse(scaling)
    if name == "dynamic":
        factor, trained = numbers["factor"], numbers["trained"]
        stretch = factor * max(length, trained) / trained - (factor - 1)
        base *= stretch ** (head_dim / (head_dim - 2))
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    rates = 1 / np.float32(base) ** exponents
    if name in ("default", "dynamic"):
        return rates
    slow = rates / np.float32(numbers["factor"])
    if name == "linear":
        return slow
    trained, low, high = numbers["trained"], numbers["low"], numbers["high"]
    if name == "llama3":
        turns = np.float32(trained / (2 * math.pi)) * rates
        keep = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1)
    else:
        keep = 1 - _ramp(head_dim, base, trained, low, high)
    return (keep * rates + (1 - keep) * slow).astype(np.float32)


def gain(scaling: str) -> float:
    """Factor of cosines and sines: yarn sharpens attention so (its equation 15)."""
    return parse(scaling)[1].get("gain", 1.0)


def _ramp(
    head_dim: int, base: float, trained: float, low: float, high: float
) -> Float[np.ndarray, "F"]:
    """0 up to the pair that turns ``high`` times, 1 from the one that turns ``low`` times on,
    linear between (YaRN, equation 18, bounds rounded outwards to whole pairs)."""

    def pair(turns: float) -> float:
        return head_dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    first, last = max(math.floor(pair(high)), 0), min(math.ceil(pair(low)), head_dim - 1)
    steps = np.arange(head_dim // 2, dtype=np.float32) - first
    return np.clip(steps / np.float32(last - first or 0.001), 0, 1)


def angles(
    positions: Int[Array, "B T"], rates: Float[np.ndarray, "F"], factor: float = 1.0
) -> tuple[Float[Array, "B T F"], Float[Array, "B T F"]]:
    """Cosines and sines of the angles at these positions, times ``factor``, in float32."""
    turned = positions[..., None].astype(jnp.float32) * rates
    return jnp.cos(turned) * factor, jnp.sin(turned) * factor


def rotate(
    x: Float[Array, "B H T K"], cos: Float[Array, "#B T F"], sin: Float[Array, "#B T F"]
) -> Float[Array, "B H T K"]:
    """Pairs (i, i + F) of features turned by their token's angles, in the dtype of ``x``; the sum
    itself is taken in at least float32."""
    first, second = jnp.split(x, 2, axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
