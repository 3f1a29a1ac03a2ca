"""Four simulated CPU devices for every test, asked for before jax first looks for devices."""

import os
import subprocess

os.environ["JAX_PLATFORMS"] = "cpu"
# More threads than simulated devices, or a collective can wait for ever on a small machine.
os.environ.setdefault("NPROC", "16")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)


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
