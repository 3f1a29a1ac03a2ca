"""The last token that counts."""

import jax.numpy as jnp
import numpy as np

from zoo.nn.last_token import last_token


def test_padding_on_either_side_and_none_at_all():
    x = jnp.arange(24.0).reshape(4, 3, 2)
    mask = jnp.array([[1, 1, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]])
    result = last_token(x, mask)
    np.testing.assert_array_equal(result, x[np.arange(4), [2, 2, 1, 0]])
    np.testing.assert_array_equal(last_token(x, None), x[:, -1])
