"""The written-out gradient of the loop over time, and what padding and devices may not change."""

import itertools

import draw
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.nn.cells import CELLS
from zoo.nn.recur import recur
from zoo.nn.recurrent import Recurrent, initial_state

T, B, H = 6, 4, 3


def by_scan(cell, reverse, x, kernel, bias, state, mask):
    """The same recurrence as a plain scan, differentiated by JAX."""
    kind = CELLS[cell]

    def step(state, inputs):
        x, m = inputs
        second = None if cell == "rnn" else (*state, jnp.zeros_like(state[0]))[1]
        new = kind.step(x, state[0] @ kernel + bias, state[0], second)
        state = tuple(jnp.where(m, a, b) for a, b in zip(new[: kind.states], state, strict=True))
        return state, state[0]

    state, outputs = lax.scan(step, state, (x, mask), reverse=reverse)
    return outputs, state


def arguments(cell, dtype="float64", padded=True):
    rng, kind = np.random.default_rng(0), CELLS[cell]
    width = kind.gates * H
    x, kernel, bias = (
        jnp.asarray(rng.normal(size=s), dtype) for s in ((T, B, width), (H, width), width)
    )
    wide = jnp.promote_types(dtype, "float32")
    state = tuple(jnp.asarray(rng.normal(size=(B, H)), wide) for _ in range(kind.states))
    mask = jnp.asarray(rng.random((T, B, 1)) < 0.6) if padded else jnp.ones((T, B, 1), bool)
    return x, kernel, bias, state, mask


def loss(run, cell, reverse, mask):
    weights = np.random.default_rng(1).normal(size=(T, B, H))

    def value(x, kernel, bias, state):
        outputs, last = run(cell, reverse, x, kernel, bias, state, mask)
        return (outputs * weights).sum() + sum((s**2).sum() for s in last), (outputs, last)

    return jax.jit(jax.grad(value, argnums=(0, 1, 2, 3), has_aux=True))


@pytest.mark.parametrize(
    "cell, reverse, padded", list(itertools.product(CELLS, (False, True), (False, True)))
)
def test_gradient_is_that_of_a_plain_scan(cell, reverse, padded):
    with jax.enable_x64(True):
        *inputs, mask = arguments(cell, padded=padded)
        ours = loss(recur, cell, reverse, mask if padded else None)(*inputs)
        plain = loss(by_scan, cell, reverse, mask)(*inputs)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), ours, plain)


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_keeps_its_state_in_float32(cell):
    *inputs, mask = arguments(cell, "bfloat16")
    gradient, (outputs, last) = loss(recur, cell, False, mask)(*inputs)
    assert outputs.dtype == gradient[0].dtype == gradient[1].dtype == jnp.bfloat16
    assert {s.dtype for s in (*last, *gradient[3])} == {jnp.dtype("float32")}
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), tuple(inputs))
    exact = loss(recur, cell, False, mask)(*exact)
    for a, b in zip(
        jax.tree.leaves((gradient, outputs, last)), jax.tree.leaves(exact), strict=True
    ):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.05 * np.abs(b).max())


@pytest.mark.parametrize("cell", CELLS)
def test_sharded_and_mapped_batches_equal_one_device(cell):
    x, kernel, bias, state, mask = arguments(cell, "float32")
    run = loss(recur, cell, False, mask)
    want, _ = run(x, kernel, bias, state)

    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))

    def put(tree, *spec):
        return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*spec)))

    got, _ = run(put(x, None, "data"), put(kernel), put(bias), put(state, "data"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)

    weights = np.random.default_rng(1).normal(size=(T, B, H)).astype(np.float32)

    def mapped(x, kernel, bias, state, mask, weights):
        def value(kernel, bias):
            outputs, last = recur(cell, False, x, kernel, bias, state, mask)
            return (outputs * weights).sum() + sum((s**2).sum() for s in last)

        return lax.psum(jax.grad(value, argnums=(0, 1))(kernel, bias), "data")

    def shard(a, axis):
        return jnp.stack(jnp.split(a, 4, axis))

    got = jax.pmap(mapped, "data", in_axes=(0, None, None, 0, 0, 0), out_axes=None)(
        shard(x, 1),
        kernel,
        bias,
        jax.tree.map(lambda s: shard(s, 0), state),
        shard(mask, 1),
        shard(weights, 1),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want[1:3])


@pytest.mark.parametrize("reverse", (False, True))
@pytest.mark.parametrize("cell", CELLS)
def test_padding_anywhere_leaves_state_and_output(cell, reverse):
    x = jax.random.normal(jax.random.key(0), (T, B, 2))
    mask = np.ones((T, B), bool)
    mask[:2, 0] = mask[-2:, 1] = mask[2:4, 2] = mask[:, 3] = False
    layer = Recurrent(cell, H, reverse=reverse)
    variables, run = draw.variables(layer, x), jax.jit(layer.apply)
    outputs, last = run(variables, x, mask)
    other = run(variables, jnp.where(mask[..., None], x, 1e3), mask)
    jax.tree.map(np.testing.assert_array_equal, other, (outputs, last))
    for row in range(3):  # as if the padding were cut out
        alone, end = run(variables, x[mask[:, row], row : row + 1])
        np.testing.assert_allclose(outputs[mask[:, row], row], alone[:, 0], atol=1e-6)
        np.testing.assert_allclose(last[0][row], end[0][0], atol=1e-6)
    assert not np.any(last[0][3])


def test_initial_values():
    layer = Recurrent("lstm", 4, num_biases=2, param_dtype=jnp.bfloat16)
    params = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((2, 1, 3)))["params"]
    np.testing.assert_array_equal(params["input"]["bias"].reshape(4, 4)[:, 0], [0, 1, 0, 0])
    kernel = np.asarray(params["recurrent_kernel"], np.float32).reshape(4, 4, 4)
    for gate in range(4):
        np.testing.assert_allclose(kernel[:, gate] @ kernel[:, gate].T, np.eye(4), atol=0.03)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    assert [s.dtype for s in initial_state("lstm", 2, 3, jnp.bfloat16)] == [jnp.float32] * 2
