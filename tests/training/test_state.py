"""Names of parameters become paths."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from zoo.errors import InputError
from zoo.training.state import check_names


@pytest.mark.parametrize("name", ["a/b", "..", ".", "a\0b", "", "a b", "ä", "/etc", "a\nb"])
def test_a_name_that_could_leave_the_folder_is_refused(name):
    with pytest.raises(InputError, match="cannot be part of a path"):
        check_names(({"layer": {name: np.zeros(1)}}, {}))


def test_names_of_modules_and_lists_are_taken():
    module = nn.Sequential([nn.Dense(2), nn.BatchNorm(use_running_average=True)])
    variables = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 2)))
    check_names((variables["params"], variables["batch_stats"]))
    check_names(({"layer-1.kernel_0": [np.zeros(1)]}, {}))
