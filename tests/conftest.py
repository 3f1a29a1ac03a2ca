"""Four simulated CPU devices for every test, asked for before jax first looks for devices."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# More threads than simulated devices, or a collective can wait for ever on a small machine.
os.environ.setdefault("NPROC", "16")

import jax

jax.config.update("jax_num_cpu_devices", 4)
