"""`python train.py` under jit and pmap, on simulated devices and as two real processes."""

import shutil
import signal
import time

import numpy as np
import pytest
from processes import (
    CNN,
    MLP,
    SGD,
    lines_of,
    losses_of,
    result_of,
    run,
    start_job,
    told,
    write_config,
)

MODES = [(parallel, devices) for parallel in ("jit", "pmap") for devices in (1, 2, 4)]


def train_everywhere(folder, config):
    """Trains under every mode; results and losses by mode."""
    found = {}
    for parallel, devices in MODES:
        workdir = folder / f"{parallel}{devices}"
        options = ("--parallel", parallel, "--devices", str(devices))
        found[parallel, devices] = run(config, workdir, *options), losses_of(workdir)
    return found


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    return folder, train_everywhere(folder, write_config(folder / "config.py", 100, MLP))


@pytest.fixture(scope="module")
def normed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("normed")
    return folder, train_everywhere(folder, write_config(folder / "config.py", 5, CNN, SGD))


@pytest.mark.timeout(600)
def test_losses_over_100_steps_without_batch_norm(dense):
    _, found = dense
    wanted = found["jit", 1][1]
    assert list(wanted) == list(range(1, 101))
    for mode, (_, losses) in found.items():
        np.testing.assert_allclose(
            list(losses.values()), list(wanted.values()), rtol=1e-5, err_msg=str(mode)
        )


@pytest.mark.timeout(600)
def test_losses_over_5_steps_with_batch_norm(normed):
    _, found = normed
    wanted = list(found["jit", 1][1].values())
    assert len(wanted) == 5
    for mode, (_, losses) in found.items():
        got = list(losses.values())
        np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5, err_msg=str(mode))
        np.testing.assert_allclose(got, wanted, rtol=1e-4, err_msg=str(mode))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_jit_and_pmap_agree_bit_for_bit(dense, normed, devices):
    for _, found in (dense, normed):
        jit, pmap = found["jit", devices], found["pmap", devices]
        assert jit[0]["params_digest"] == pmap[0]["params_digest"]
        assert jit[1] == pmap[1]


@pytest.mark.timeout(600)
def test_a_checkpoint_continues_under_any_mode(tmp_path):
    config = write_config(tmp_path / "config.py", 40, MLP, SGD)
    run(config, tmp_path / "whole")
    wanted = list(losses_of(tmp_path / "whole").values())
    run(config, tmp_path / "half", "--steps", "20", "--parallel", "pmap", "--devices", "2")
    for parallel, devices in (("jit", 1), ("jit", 4), ("pmap", 4), ("pmap", 1)):
        workdir = tmp_path / f"{parallel}{devices}"
        shutil.copytree(tmp_path / "half", workdir)
        run(config, workdir, "--parallel", parallel, "--devices", str(devices))
        np.testing.assert_allclose(list(losses_of(workdir).values()), wanted, rtol=1e-5)


def wait_for(processes, workdir, codes=(0, 0)):
    for process in processes:
        process.communicate(timeout=300)
    assert tuple(process.returncode for process in processes) == codes, told(workdir)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
@pytest.mark.parametrize("model", [MLP, CNN], ids=["dense", "normed"])
def test_two_processes(tmp_path, parallel, model):
    """Train, save, go on; then on one process, with the bits of one process and two devices."""
    config = write_config(tmp_path / "config.py", 15, model, SGD)
    workdir = tmp_path / "two"
    for steps in ("5", "10"):
        wait_for(start_job(config, workdir, 2, "--parallel", parallel, "--steps", steps), workdir)
    alone = ("--parallel", parallel, "--devices", "2")
    result = run(config, workdir, *alone)
    assert result == run(config, tmp_path / "one", *alone)
    assert losses_of(workdir) == losses_of(tmp_path / "one")
    assert lines_of(workdir)[-1]["step"] == 15


@pytest.mark.timeout(600)
@pytest.mark.parametrize("options", [("--mesh.fsdp", "2"), ("--parallel", "pmap")])
def test_two_processes_start_from_a_run_and_cut_the_state(tmp_path, options):
    config = write_config(tmp_path / "config.py", 5, MLP, SGD)
    run(config, tmp_path / "source")
    options += ("--init-from", str(tmp_path / "source"))
    wait_for(start_job(config, tmp_path / "two", 2, *options), tmp_path / "two")
    result = run(config, tmp_path / "one", "--devices", "2", *options)
    assert result == result_of(tmp_path / "two")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_a_signal_to_one_of_two_processes_stops_both(tmp_path, parallel):
    config = write_config(tmp_path / "config.py", 2000, MLP, SGD)
    workdir = tmp_path / "two"
    processes = start_job(config, workdir, 2, "--parallel", parallel)
    end = time.monotonic() + 120
    while not (workdir / "metrics.jsonl").exists() or len(lines_of(workdir)) < 20:
        assert time.monotonic() < end and processes[0].poll() is None, told(workdir)
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    wait_for(processes, workdir, (143, 143))
    newest = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    assert newest == max(losses_of(workdir))
