"""A NaN anywhere in the state or the data is told at its own step, and is not committed."""

import jax
import numpy as np
import pytest
from tiny_runs import again, arrays_of, bench, features_run, write_features

from zoo.data import Npz
from zoo.errors import InputError

LEAVES = (
    "params/dense1/kernel", "params/dense1/bias", "params/head/kernel", "average/dense1/kernel",
    "average/head/bias",
)  # fmt: skip


def poisoned(state, name, value):
    """The state with one number of one leaf replaced."""

    def change(path, leaf):
        if jax.tree_util.keystr(path, simple=True, separator="/") != name:
            return leaf
        array = np.array(leaf)
        array.flat[array.size // 2] = value
        return jax.device_put(array, leaf.sharding)

    return jax.tree_util.tree_map_with_path(change, state)


@pytest.mark.parametrize("name", LEAVES)
@pytest.mark.parametrize(
    "value, changes",
    [
        (np.nan, {"devices": 1}),
        (np.inf, {"devices": 1}),
        (np.nan, {"devices": 2}),
        (-np.inf, {"devices": 2, "parallel": "pmap"}),
        (np.nan, {"devices": 2, "reproducible": 4}),
    ],
)
def test_one_bad_number_in_a_parameter_or_its_average(tmp_path, name, value, changes):
    built = bench(features_run(tmp_path, average=0.9, **changes), average=0.9)
    assert name in arrays_of(built.fresh())
    state, found = built.steps(built.fresh(), 0, 2)
    assert int(found[-1]["failed"]) < 0
    state = poisoned(state, name, value)
    before = arrays_of(state)
    state, found = built.steps(state, 2, 2)
    assert [int(metrics["failed"]) for metrics in found] == [2, 2], (
        "of both steps the first that failed"
    )
    after = arrays_of(state)
    for path in before:
        if path.startswith(("params/", "average/", "opt_state/")):
            np.testing.assert_array_equal(after[path], before[path], err_msg=path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_numbers_in_the_data_are_refused_by_name(tmp_path, value):
    path = write_features(tmp_path, "bad.npz")
    arrays = dict(np.load(path))
    arrays["x_train"][17, 2] = value
    np.savez(path, **arrays)
    run = features_run(tmp_path, data=Npz(str(path)))
    with pytest.raises(InputError, match=r"x_train\[17\]"):
        again(run)
