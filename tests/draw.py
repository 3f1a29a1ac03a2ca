"""Variables without compiling a model's initialisers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def variables(
    model: nn.Module, *inputs: Any, scale: float = 0.5, seed: int = 0, **kwargs: Any
) -> dict[str, Any]:
    """Normal numbers times ``scale`` in the shapes of ``model.init(key, *inputs, **kwargs)``."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs, **kwargs)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(scale * rng.normal(size=x.shape), x.dtype), shapes)
