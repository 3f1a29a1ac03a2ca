"""Eight simulated devices here, of which tests take 1, 2, 4 or 8; and the seed of a run."""

import os

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="session")
def seed():
    """`ZOO_SEED`, from which every random moment and change of the programme follows."""
    return int(os.environ.get("ZOO_SEED", "0"))


@pytest.fixture(autouse=True, scope="session")
def compiled_once(tmp_path_factory):
    """A compilation cache of this session's own."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    yield
    jax.config.update("jax_compilation_cache_dir", None)
