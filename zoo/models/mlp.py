"""Multilayer perceptron: dense layers with an activation between them (Rumelhart et al., 1986,
https://doi.org/10.1038/323533a0).

B batch, F input features, C outputs.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.models.registry import Size, check_task
from zoo.nn.activation import activation
from zoo.nn.dense import Dense
from zoo.nn.dropout import Dropout

TASKS = ("tabular-classification", "tabular-regression", "regression", "image-classification")


@dataclass(frozen=True)
class Config:
    """Widths and shape of a multilayer perceptron."""

    input_shape: tuple[int, ...] = (64,)
    """Shape of one example; examples of several dimensions are flattened."""
    widths: tuple[int, ...] = (128, 128)
    """Features of every hidden layer, first to last; empty for a linear model."""
    num_classes: int = 10
    """Outputs: logits of the classes, or values of a regression."""
    activation: str = "relu"
    """Activation after every hidden layer."""
    dropout: float = 0.0
    """Probability of zeroing a hidden feature in training."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "MLP":
        """The module; all tasks share one head.

        Raises:
            InputError: unknown task or activation, or a size below 1.
        """
        activation(self.activation)
        if min((*self.input_shape, *self.widths, self.num_classes)) < 1:
            raise InputError(
                f"input_shape {self.input_shape}, widths {self.widths} and num_classes "
                f"{self.num_classes} must all be at least 1"
            )
        return MLP(self, check_task(task, TASKS), dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the arguments of one call."""
        return {"features": jax.ShapeDtypeStruct((batch, *self.input_shape), jnp.float32)}


class MLP(nn.Module):
    """Features ``[B, ...]`` in, logits or values ``[B, C]`` out."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, features: Float[ArrayLike, "B *F"], train: bool = False
    ) -> Float[Array, "B C"]:
        cfg = self.cfg
        relu = nn.initializers.he_normal()
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = jnp.asarray(features)
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(cfg.widths, start=1):
            x = Dense(width, kernel_init=relu, name=f"dense{i}", **dtypes)(x)
            x = activation(cfg.activation)(x)
            x = Dropout(cfg.dropout, name=f"dropout{i}")(x, train)
        return Dense(cfg.num_classes, name="head", **dtypes)(x)


SIZES = {
    "mlp-8-10-5-1": Size(
        Config(input_shape=(8,), widths=(10, 5), num_classes=1),
        params=151,
        source="closed form: 8 features, hidden layers of 10 and 5, one logit",
    ),
    "mlp-64-128-10": Size(
        Config(widths=(128,)),
        params=9610,
        source="closed form: 8x8 images, one hidden layer of 128, 10 classes",
    ),
    "mlp-784-512-512-10": Size(
        Config(input_shape=(28, 28, 1), widths=(512, 512), dropout=0.2),
        params=669706,
        source="closed form: 28x28 images, two hidden layers of 512 with dropout, 10 classes",
        task="image-classification",
    ),
}

TENSOR_PARALLEL = (
    (r"dense\d+/kernel", P(None, "tensor")),
    (r"head/kernel", P("tensor", None)),
)
