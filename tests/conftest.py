"""Settings of the whole suite, made before anything uses jax."""

import os

# With several simulated devices on few cores jax can wait for threads that never start; a larger
# pool avoids it (read when jax initialises, so set before the import).
os.environ.setdefault("NPROC", "16")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "Agg"

import hypothesis  # noqa: E402
import jax  # noqa: E402

# Set here and not by an environment variable: commands started by tests keep one device.
jax.config.update("jax_num_cpu_devices", 4)

# The same examples every time: a test that fails, fails again.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("suite")
