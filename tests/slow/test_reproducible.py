"""`reproducible` as real runs: one digest over devices, modes, processes, and resizing by kills.

`ZOO_REPRODUCIBLE_STEPS` sets the steps of a run (default 10; the marked test takes 100).
"""

import dataclasses
import os
import signal

import numpy as np
import pytest
from processes import losses_of, result_of, run, start, start_job, told, write_config
from test_kills import has_begun, wait

STEPS = int(os.environ.get("ZOO_REPRODUCIBLE_STEPS", "10"))
OPTIONS = ("--reproducible", "8", "--optimizer.clip-norm", "0.5", "--log-every", "1")

TRANSFORMER = '''"""Which third of the vocabulary prevails? By a small Transformer."""

from zoo import tasks
from zoo.config import Optimizer, Run
from zoo.data import Npz
from zoo.models import transformer

config = Run(
    model=transformer.Config(
        vocab_size=12, width=16, depth=2, num_heads=4, hidden=32, dropout=0.1, max_length=9,
        num_classes=3,
    ),
    task=tasks.Classification(),
    data=Npz("{data}", form="input_ids"),
    optimizer=Optimizer(name="adamw", learning_rate=1e-3),
    batch_size=32,
    steps=10,
    average=0.99,
    eval_every=1000,
    tensorboard=False,
)
'''


@dataclasses.dataclass
class Reference:
    """A run on one device, that all others must equal."""

    folder: object
    config: object
    options: tuple[str, ...]
    digest: str
    losses: dict[int, float]


def reference(folder, kind, steps):
    """Trains on one device."""
    options = (*OPTIONS, "--steps", str(steps))
    if kind == "convolution":
        config = write_config(folder / "config.py", steps)
        options += ("--accumulate", "2")
    else:
        config = folder / "config.py"
        ids = np.random.default_rng(0).integers(0, 12, (200, 9))
        most = np.stack([(ids // 4 == third).sum(1) for third in range(3)]).argmax(0)
        np.savez(folder / "ids.npz", x=ids, y=most)
        config.write_text(TRANSFORMER.format(data=folder / "ids.npz"))
    result = run(config, folder / "reference", *options, "--devices", "1")
    return Reference(
        folder, config, options, result["params_digest"], losses_of(folder / "reference")
    )


@pytest.fixture(scope="module", params=["convolution", "transformer"])
def short(request, tmp_path_factory):
    return reference(tmp_path_factory.mktemp(request.param), request.param, STEPS)


def assert_equals(wanted, workdir, mode):
    assert result_of(workdir)["params_digest"] == wanted.digest, mode
    assert losses_of(workdir) == wanted.losses, mode


def check_everywhere(wanted):
    for parallel in ("jit", "pmap"):
        for devices in (1, 2, 4, 8):
            if (parallel, devices) == ("jit", 1):
                continue
            workdir = wanted.folder / f"{parallel}{devices}"
            mode = ("--parallel", parallel, "--devices", str(devices))
            run(wanted.config, workdir, *wanted.options, *mode)
            assert_equals(wanted, workdir, mode)


def check_processes(wanted, parallel):
    workdir = wanted.folder / f"two-{parallel}"
    job = start_job(wanted.config, workdir, 2, *wanted.options, "--parallel", parallel)
    for process in job:
        process.communicate(timeout=600)
    assert all(process.returncode == 0 for process in job), told(workdir)
    assert_equals(wanted, workdir, ("two processes", parallel))


@pytest.mark.timeout(1200)
def test_one_digest_on_1_2_4_and_8_devices_by_jit_and_pmap(short):
    check_everywhere(short)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_two_processes_have_the_digest_of_one(short, parallel):
    check_processes(short, parallel)


@pytest.mark.timeout(600)
def test_a_run_resized_by_kills_has_the_digest(short):
    workdir = short.folder / "resized"
    for devices in ("8", "4", "1"):
        options = (*short.options, "--devices", devices, "--save-every", "2")
        process = start(short.config, workdir, *options)
        if wait(process, has_begun(workdir)):
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=300)
    run(short.config, workdir, *short.options, "--devices", "2", "--save-every", "2")
    assert_equals(short, workdir, "resized")


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["convolution", "transformer"])
def test_a_hundred_steps_everywhere(tmp_path, kind):
    wanted = reference(tmp_path, kind, 100)
    check_everywhere(wanted)
    for parallel in ("jit", "pmap"):
        check_processes(wanted, parallel)
