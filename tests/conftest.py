"""Four simulated CPU devices for every test, asked for before jax first looks for devices."""

import os
import subprocess
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# More threads than simulated devices, or a collective can wait for ever on a small machine.
os.environ.setdefault("NPROC", "16")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)


PARITY = Path(__file__).parent / "parity"


def pytest_ignore_collect(collection_path, config):
    """The live comparison with references needs the extra `parity`: it is collected when asked
    for, by `-m parity` or by path."""
    if collection_path != PARITY or "parity" in config.option.markexpr:
        return None
    named = [Path(config.invocation_params.dir, arg.split("::")[0]) for arg in config.args]
    return None if any(PARITY in (path, *path.parents) for path in named) else True


def pytest_collection_modifyitems(items):
    """Everything in tests/parity is marked so."""
    for item in items:
        if PARITY in item.path.parents:
            item.add_marker("parity")


@pytest.fixture
def small_disk(tmp_path):
    """Makes file systems of so many KiB; skips where none can be mounted."""
    places = []

    def mount(size):
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", place]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)
