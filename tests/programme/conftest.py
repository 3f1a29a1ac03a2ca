"""Eight simulated devices here, of which tests take 1, 2, 4 or 8; and the seed of a run."""

import os

import jax
import pytest
from compile_cache import compiled_once  # noqa: F401 (a fixture of every test here)

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="session")
def seed():
    """`ZOO_SEED`, from which every random moment and change of the programme follows."""
    return int(os.environ.get("ZOO_SEED", "0"))
