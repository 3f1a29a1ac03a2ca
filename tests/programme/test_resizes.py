"""Saved on n devices in the middle of an epoch, resumed on m: the bits of a run never stopped.

`ZOO_RESIZES` sets how many pairs of {1, 2, 4, 8} are tried (default 4), `ZOO_SEED` which.
"""

import dataclasses
import itertools
import os
import random

import numpy as np
from tiny_runs import again, images_run, losses_of, metrics_of

from zoo.config import Optimizer

COUNT = int(os.environ.get("ZOO_RESIZES", "4"))
CLIPPED = Optimizer(name="adamw", learning_rate=1e-2, weight_decay=0.1, clip_norm=0.5)


def test_any_pair_of_sizes_has_the_same_bits(tmp_path, seed, record_property):
    run = images_run(
        tmp_path, reproducible=8, batch_size=16, average=0.9, optimizer=CLIPPED, save_every=5,
        eval_every=10, steps=10,
    )  # fmt: skip
    whole = dataclasses.replace(run, workdir=str(tmp_path / "whole"))
    wanted = again(whole)
    pairs = list(itertools.product((1, 2, 4, 8), repeat=2))
    random.Random(seed).shuffle(pairs)
    for number, (saved, resumed) in enumerate(itertools.islice(itertools.cycle(pairs), COUNT)):
        cut = dataclasses.replace(run, workdir=str(tmp_path / str(number)))
        parallel = ("jit", "pmap")[number % 2]
        again(cut, steps=5, devices=saved)
        result = again(cut, devices=resumed, parallel=parallel)
        assert result == wanted, (saved, resumed, parallel)
        assert [line for line in metrics_of(cut) if "loss" in line] == [
            line for line in metrics_of(whole) if "loss" in line
        ]
    record_property("pairs", COUNT)


def test_without_virtual_shards_losses_stay_close(tmp_path):
    run = images_run(tmp_path, batch_size=16, steps=10, optimizer=Optimizer("sgd", 0.05))
    whole = dataclasses.replace(run, workdir=str(tmp_path / "whole"))
    again(whole)
    again(run, steps=5, devices=8)
    again(run, devices=2)
    np.testing.assert_allclose(losses_of(run), losses_of(whole), rtol=1e-5)
