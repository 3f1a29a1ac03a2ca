"""Zoo: a functional model zoo for JAX."""
