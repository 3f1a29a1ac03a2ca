"""What must happen before JAX starts, and how errors become exit codes."""

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.errors import InputError, RunError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # <malloc.h>


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory instead of returning it to the system.

    Page faults on fresh memory cost more than many kernels; see bench/RESULTS.md.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 64 * 2**20)


def prepare(argv: list[str]) -> None:
    """Sets what JAX reads when it is imported."""
    # XLA of jax 0.10 prints kilobytes of its own pseudo-features for each program from the cache.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "--no-allocator" not in argv and (_option(argv, "--allocator") or "True") == "True":
        keep_freed_memory()


def configure(devices: int, compile_cache: bool, reproducible: bool = False) -> None:
    """Settings of JAX itself: simulated devices on CPU, the compilation cache, processes.

    Args:
        devices: of this run; more than the machine has are simulated on CPU.
        compile_cache: whether compiled programs are kept on disk.
        reproducible: whether bits may not depend on the number of devices, nor of cores.
    """
    import jax
    from absl import logging

    from zoo.parallel.processes import start_processes

    # Orbax tells of its defaults, and prints what goes wrong beside raising it.
    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = _unraisable
    # Another thread of the CPU would take the memory of a large step from the system each time and
    # give it back: a fifth of the time of bench W3. The virtual shards of several devices run side
    # by side instead.
    jax.config.update("jax_cpu_enable_async_dispatch", reproducible)

    flags = os.environ.get("XLA_FLAGS", "")
    # Simulated devices need more threads than devices, or a collective can wait for ever. Their
    # number also decides how XLA cuts long sums on CPU.
    if devices > 1 or reproducible or "host_platform_device_count" in flags:
        os.environ.setdefault("NPROC", "16")
    if reproducible and Path("/dev/nvidia0").exists():
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true"
    if compile_cache and not jax.config.values["jax_compilation_cache_dir"]:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "zoo" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if devices > max(jax.config.values["jax_num_cpu_devices"], 1) and not _has_accelerator():
        jax.config.update("jax_num_cpu_devices", devices)
    start_processes()
    if jax.distributed.is_initialized():  # a job of hours; any of its hosts may be installed wrong
        from zoo.inspect.canaries import require_sound

        require_sound()


def _unraisable(what: Any) -> None:
    """Drops what Orbax's threads leave behind after a failed save, which was raised already."""
    if "Event loop is closed" not in str(what.exc_value):
        sys.__unraisablehook__(what)


def _has_accelerator() -> bool:
    """Whether JAX is going to run on something other than the CPU, without starting it."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms.split(",")[0] != "cpu"
    return any(Path(f"/dev/{name}").exists() for name in ("nvidia0", "accel0", "vfio/0"))


def _option(argv: list[str], name: str) -> str | None:
    for at, argument in enumerate(argv):
        if argument == name and at + 1 < len(argv):
            return argv[at + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return None


def guarded(command: Callable[[], int]) -> int:
    """Runs a command and turns the errors we foresee into one message and an exit code."""
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except MemoryError:
        print("error: out of memory; try a smaller --batch-size", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:  # a full disk, a folder without permission
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror or error}{where}; nothing that was saved is lost",
              file=sys.stderr)  # fmt: skip
        return 1


def train_command(argv: list[str], prog: str = "train.py") -> int:
    """`train.py` and `zoo train`: parses the config, trains, prints the result."""
    return guarded(lambda: _train(argv, prog))


def _train(argv: list[str], prog: str) -> int:
    from zoo.training.signals import Signals

    helping = bool({"-h", "--help"} & set(argv))
    signals = Signals() if helping else Signals.block()
    prepare(argv)
    from zoo import config

    run, _ = config.parse(argv, prog)
    configure(run.devices, run.compile_cache, run.reproducible > 0)
    from zoo.parallel.processes import lost_process
    from zoo.training.loop import Stopped, train

    try:
        result = train(run, signals)
    except Stopped as stopped:
        return stopped.exit_code
    except (RuntimeError, ValueError) as error:  # what jax raises
        if isinstance(error, InputError | RunError) or (lost := lost_process(error)) is None:
            raise
        raise lost from error
    import jax

    if jax.process_index() == 0:
        print_result(result, run.workdir)
    return 0


def print_result(result: dict, workdir: str) -> None:
    """The closing table, on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{workdir}: step {result['step']}", title_justify="left")
    table.add_column("test metric")
    table.add_column("value", justify="right")
    for name, value in result["metrics"].items():
        if isinstance(value, int | float):
            table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console = Console()
    console.print(table)
    console.print(f"params_digest {result['params_digest']}", soft_wrap=True, highlight=False)
