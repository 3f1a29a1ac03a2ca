"""Huge pages: values and addresses stay, and whatever has no such pages is left as it is."""

import jax
import jax.numpy as jnp
import numpy as np

from zoo.inference.memory import HUGE, use_huge_pages


def test_arrays_keep_their_values_and_addresses():
    large = jnp.arange(HUGE, dtype=jnp.float32) % 1000
    tree = {"large": large, "small": jnp.ones(3), "host": np.ones(HUGE), "none": None}
    address = large.unsafe_buffer_pointer()
    for _ in range(2):
        use_huge_pages(tree)
    assert large.unsafe_buffer_pointer() == address
    np.testing.assert_array_equal(large, np.arange(HUGE) % 1000)


def test_arrays_of_several_devices_and_of_a_trace_are_passed_over():
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    spread = jax.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    use_huge_pages(jax.device_put(jnp.zeros(2 * HUGE), spread))

    def total(x):
        use_huge_pages(x)
        return x.sum()

    assert jax.jit(total)(jnp.ones(2 * HUGE)) == 2 * HUGE
