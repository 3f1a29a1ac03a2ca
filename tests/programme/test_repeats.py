"""One step has one result: repeated, in fresh processes, with a cold cache and a warm one.

`ZOO_REPEATS` sets how often the step is repeated (default 200).
"""

import hashlib
import os

import jax
import pytest
from slow.processes import MLP, run, write_config
from tiny_runs import arrays_of, bench, features_run, images_run

COUNT = int(os.environ.get("ZOO_REPEATS", "200"))


@pytest.mark.parametrize("make, devices", [(features_run, 1), (images_run, 1), (images_run, 4)])
def test_one_step_repeated_has_one_hash(tmp_path, make, devices, record_property):
    built = bench(make(tmp_path, devices=devices, average=0.9))
    function, batch = built.compiled(), built.stream[0]
    found = set()
    for _ in range(COUNT):
        state, metrics = function(built.fresh(), built.parallel.place_batch(batch))
        total = hashlib.sha256()
        for _, array in sorted(arrays_of((state, jax.device_get(metrics))).items()):
            total.update(array.tobytes())
        found.add(total.hexdigest())
    assert len(found) == 1
    record_property("repeats", COUNT)


def test_fresh_processes_have_one_digest_per_environment(tmp_path, record_property):
    """Cold and warm cache never matter; the number of cores may, unless NPROC fixes it."""
    config = write_config(tmp_path / "config.py", 20, MLP)
    found = {}
    for number, cores in enumerate(["", "", "", "1", "1", "16", "16"]):
        variables = {"NPROC": cores} if cores else {}
        if number == 2:  # a cache of its own, and cold
            variables["XDG_CACHE_HOME"] = str(tmp_path / "another")
        result = run(config, tmp_path / str(number), **variables)
        found.setdefault(cores, set()).add(result["params_digest"])
    assert all(len(digests) == 1 for digests in found.values()), found
    record_property("processes", 7)
    record_property("digests", len(set.union(*found.values())))
