"""Compiler canaries: small programs whose results are known, where compilers went wrong before.

Each runs compiled, op by op, and in NumPy's float64; all must agree. The sizes lie at and beside
2^14, 2^15 and 2^16, where loops are cut into parallel parts and vectors have a rest. So that all is
done in seconds, each operation meets each power and each side once, and goes op by op at one size
(that costs a compilation for every op, and NumPy is the judge of both ways). The first canaries are
miscompilations that were published: JAX issues 39103, 39352, 23590, 10129 and 7229, XLA issues
13054 and 5544.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.errors import RunError
from zoo.parallel.processes import largest

POWERS = (14, 15, 16)


@dataclasses.dataclass(frozen=True)
class Canary:
    """A program and what it must give.

    Attributes:
        name: operation, type and size.
        program: of JAX, from one array.
        expected: the same in NumPy, in float64.
        given: its input.
        tolerance: largest error, relative to the largest number expected.
        precise: whether it needs 64-bit types.
        op_by_op: whether it also runs without `jit`.
    """

    name: str
    program: Callable[[Any], Any]
    expected: Callable[[np.ndarray], Any]
    given: np.ndarray
    tolerance: float = 2e-5
    precise: bool = False
    op_by_op: bool = False

    def wrong(self) -> list[str]:
        """One sentence for each way of running it that gives something else."""
        expected = self.expected(self.given.astype(np.float64))
        scale = np.abs(expected).max()
        found = []
        with jax.enable_x64(self.precise), jax.default_matmul_precision("highest"):
            # A function of its own, since what was compiled before must not answer.
            ways: dict[str, Callable] = {"compiled": jax.jit(lambda x: self.program(x))}
            if self.op_by_op:
                ways["op by op"] = self.program
            for way, run in ways.items():
                got = np.asarray(run(jnp.asarray(self.given)), np.float64)
                error = np.abs(got - expected) if got.shape == expected.shape else np.array(np.inf)
                bad = ~(error <= self.tolerance * scale)
                if bad.any():
                    found.append(
                        f"{self.name}, {way}: {bad.sum()} of {bad.size} numbers are wrong, by up "
                        f"to {np.max(error):.3g}"
                    )
        return found


def canaries() -> Iterator[Canary]:
    """All of them; those in float64 only where a device computes in it."""
    exact = jax.default_backend() in ("cpu", "gpu")
    for dtype in (np.float32, np.float64) if exact else (np.float32,):
        for n in (2**14, 2**14 + 1, 2**15, 2**15 + 1):
            yield _squared_rows(n, dtype)
        yield _differences(2**15 + 1, dtype)
    yield _gradient_of_dots(10**6)
    yield _scalar_added()
    yield _arctan(200)
    yield _rolled_in_place(2**14)
    yield _largest_zero(8193)
    for row, operation in enumerate(OPERATIONS):
        for column, power in enumerate(POWERS):
            canary = operation(2**power + (row + column) % 3 - 1)
            yield dataclasses.replace(canary, op_by_op=column == row % 3)


def failing() -> list[str]:
    """What computes wrong numbers on the default device: one sentence each; empty when sound."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as threads:  # nearly all is compiling
        found = threads.map(Canary.wrong, canaries())
        return [sentence for wrong in found for sentence in wrong]


def require_sound() -> None:
    """Checks every process of a job before it trains; all stop when one is unsound.

    Raises:
        RunError: numbers are wrong here or there; the message names the first.
    """
    if jax.process_count() == 1:
        return
    wrong = failing()
    if largest(len(wrong)) == 0:
        return
    if not wrong:
        raise RunError("another process of this job computes wrong numbers; its message says more")
    raise RunError(
        f"jax {jax.__version__} computes wrong numbers on {jax.local_devices()[0].device_kind} "
        f"(process {jax.process_index()}; {len(wrong)} canaries fail; {wrong[0]}). Install another "
        "version of jax and jaxlib; zoo doctor lists all that is wrong"
    )


def _squared_rows(n: int, dtype: Any) -> Canary:
    """JAX issue 39103: a product and a sum per row, under vmap; wrong on CPU in jax 0.10.2."""
    rows = np.zeros((n, 3), dtype)
    rows[:, 0] = np.arange(n)
    matrix = np.eye(3, dtype=dtype)

    def program(rows: Any) -> Any:
        return jax.vmap(lambda row: jnp.sum((jnp.asarray(matrix) @ row) ** 2))(rows)

    return Canary(
        f"squared rows {np.dtype(dtype).name} {n}", program, lambda x: (x**2).sum(-1), rows,
        tolerance=1e-6 if dtype is np.float32 else 1e-14, precise=dtype is np.float64,
        op_by_op=n == 2**15 + 1,
    )  # fmt: skip


def _gradient_of_dots(n: int) -> Canary:
    """XLA issue 13054: the gradient of a mean of products lost some of its terms."""
    w = np.array([1.0, 2.0, 3.0], np.float32)

    def mean(x: Any, rows: Any) -> Any:
        def one(row: Any) -> Any:
            return jnp.dot(row - x, w) + jnp.dot(jnp.dot(row - x, jnp.zeros((3, 3))), row - x)

        return jnp.mean(jax.vmap(one)(rows))

    def program(rows: Any) -> Any:
        return jax.grad(mean)(jnp.ones(3), rows)

    rows = np.ones((n, 3), np.float32)
    return Canary(f"gradient of a mean of products {n}", program, lambda _: -np.float64(w), rows)


def _scalar_added() -> Canary:
    """JAX issue 7229: an image plus a scalar, with a size that is no multiple of a vector's."""
    image = _random(131, 111, 3)
    return Canary(
        "scalar added",
        lambda x: x + jnp.float32(0.25),
        lambda x: x + 0.25,
        image,
        op_by_op=True,
    )


def _arctan(n: int) -> Canary:
    """JAX issue 39352: wrong from 50 numbers on, in jax 0.10.2 on CPU."""
    return Canary(f"arctan {n}", jnp.arctan, np.arctan, 8 * _random(n), op_by_op=True)


def _rolled_in_place(n: int) -> Canary:
    """JAX issue 10129: a row that is written over while it is read."""

    def expected(x: np.ndarray) -> np.ndarray:
        return np.stack([np.roll(x[0], 5), x[1]])

    return Canary(
        f"rolled in place {n}", lambda x: x.at[0].set(jnp.roll(x[0], 5)), expected, _random(2, n), 0
    )


def _largest_zero(n: int) -> Canary:
    """XLA issue 5544: the maximum of negative zeros was minus infinity."""
    zeros = -np.zeros(n, np.float32)
    return Canary(f"largest zero {n}", lambda x: 1 + x.max(), lambda x: 1 + x.max(), zeros)


def _differences(n: int, dtype: Any) -> Canary:
    """After JAX issue 23590: differences of neighbours, masked and divided, in one fused loop."""

    def differences(x: Any, numpy: Any) -> Any:
        step = x[1:] - x[:-1]
        flux = numpy.where(step[1:] * step[:-1] > 0, step[1:] / (numpy.abs(step[:-1]) + 1), 0)
        return numpy.pad(flux[1:] - flux[:-1], ((2, 1), (0, 0))) + x

    return Canary(
        f"differences {np.dtype(dtype).name} {n}", lambda x: differences(x, jnp),
        lambda x: differences(x, np), _random(n, 3).astype(dtype),
        tolerance=1e-6 if dtype is np.float32 else 1e-14, precise=dtype is np.float64,
    )  # fmt: skip


def _product(n: int) -> Canary:
    left = _random(8, n) / np.float32(n**0.5)
    return Canary(
        f"product {n}", lambda x: jnp.asarray(left) @ x,
        lambda x: left.astype(np.float64) @ x, _random(n, 3),
    )  # fmt: skip


def _sum(n: int) -> Canary:
    return Canary(f"sum {n}", jnp.sum, np.sum, _random(n) + 1)


def _sum_over_rows(n: int) -> Canary:
    return Canary(f"sum over rows {n}", lambda x: x.sum(0), lambda x: x.sum(0), _random(n, 3) + 1)


def _maximum(n: int) -> Canary:
    return Canary(f"maximum {n}", jnp.max, np.max, _random(n), 0)


def _softmax(n: int) -> Canary:
    return Canary(f"softmax {n}", jax.nn.softmax, _exact_softmax, _random(n))


def _softmax_of_rows(n: int) -> Canary:
    return Canary(f"softmax of rows {n}", jax.nn.softmax, _exact_softmax, _random(n, 3))


def _layer_norm(n: int) -> Canary:
    def normalised(x: Any, rsqrt: Callable[[Any], Any]) -> Any:
        return (x - x.mean(-1, keepdims=True)) * rsqrt(x.var(-1, keepdims=True) + 1e-6)

    return Canary(
        f"layer norm {n}", lambda x: normalised(x, jax.lax.rsqrt),
        lambda x: normalised(x, lambda variance: 1 / np.sqrt(variance)), _random(n),
    )  # fmt: skip


def _convolution(n: int) -> Canary:
    weights = _random(5, 3, 2)

    def program(x: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x[None], jnp.asarray(weights), (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )[0]

    def expected(x: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((2, 2), (0, 0)))
        taps = [padded[i : i + n] @ weights[i].astype(np.float64) for i in range(5)]
        return np.sum(taps, axis=0)

    return Canary(f"convolution {n}", program, expected, _random(n, 3))


def _running_sum(n: int) -> Canary:
    return Canary(f"running sum {n}", jnp.cumsum, np.cumsum, _random(n) + 1)


def _sorting(n: int) -> Canary:
    return Canary(f"sorting {n}", jnp.sort, np.sort, _random(n), 0)


OPERATIONS = (
    _product, _sum, _sum_over_rows, _maximum, _softmax, _softmax_of_rows, _layer_norm,
    _convolution, _running_sum, _sorting,
)  # fmt: skip
"""What models are made of, each on n numbers or n rows of three."""


def _exact_softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _random(*shape: int) -> np.ndarray:
    """Numbers in [-1, 1) that JAX has no part in."""
    return np.random.default_rng(shape).uniform(-1, 1, shape).astype(np.float32)
