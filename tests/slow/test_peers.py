"""One of two processes killed: the other ends soon, says who is missing, and a restart goes on.

`ZOO_PEER_KILLS` sets the number of kills (default 3), `ZOO_SEED` the moments.
"""

import os
import random
import re
import time

import pytest
from processes import MLP, SGD, lines_of, losses_of, result_of, start_job, told, write_config
from test_kills import has_begun, saving, wait

KILLS = int(os.environ.get("ZOO_PEER_KILLS", "3"))
SEED = int(os.environ.get("ZOO_SEED", "0"))
STEPS = 400 * KILLS
MISSING = {0: "leader task|[Tt]ask 0", 1: r"[Tt]ask 1|stopped sending heartbeats\):\s+1"}


def finish(job, workdir):
    for process in job:
        process.communicate(timeout=600)
    assert [process.returncode for process in job] == [0, 0], told(workdir)


@pytest.mark.timeout(300 + 120 * KILLS)
def test_a_killed_peer_ends_the_other_and_a_restart_goes_on(tmp_path, record_property):
    config = write_config(tmp_path / "config.py", STEPS, MLP, SGD)
    finish(start_job(config, tmp_path / "whole", 2), tmp_path / "whole")
    workdir, rng, waited = tmp_path / "killed", random.Random(SEED), []
    for number in range(KILLS):
        (workdir.parent / "killed.err").unlink(missing_ok=True)
        begun = has_begun(workdir)
        job = start_job(config, workdir, 2)
        moment = ("step", "save", "restore")[number % 3]
        if moment == "restore":  # the lock is the first thing that two connected processes take
            lock = workdir / ".lock"
            assert wait(job[0], lambda lock=lock, pid=str(job[0].pid): pid in lock.read_text()), (
                told(workdir)
            )
            time.sleep(rng.uniform(0, 1))
        elif wait(job[0], begun):
            time.sleep(rng.uniform(0, 1))
            if moment == "save":
                wait(job[0], lambda: saving(workdir))
        victim = 1 - number % 2
        assert job[victim].poll() is None, f"it ended too soon: {told(workdir)}"
        job[victim].kill()
        asked = time.monotonic()
        job[1 - victim].communicate(timeout=120)
        waited.append(time.monotonic() - asked)
        job[victim].communicate()
        assert job[1 - victim].returncode != 0
        assert waited[-1] < 60, f"{moment}: after {waited[-1]:.0f} s; {told(workdir)}"
        said = (workdir.parent / "killed.err").read_text(errors="replace")
        assert re.search(MISSING[victim], said), said[-3000:]
    finish(start_job(config, workdir, 2), workdir)
    assert result_of(workdir) == result_of(tmp_path / "whole")
    assert losses_of(workdir) == losses_of(tmp_path / "whole")
    assert lines_of(workdir)[-1]["step"] == STEPS
    record_property("peers killed", KILLS)
    record_property("survivors ended within", f"{max(waited):.0f} s")
