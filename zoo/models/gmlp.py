"""gMLP: pay attention to MLPs (Liu et al., 2021, https://arxiv.org/abs/2105.08050), the paper's
image classifier in timm's sizes.

B batch, H W image, I channels of the image, N patches, D width, E hidden features, C classes.
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
from zoo.nn.activation import gelu
from zoo.nn.dense import Dense
from zoo.nn.dropout import Dropout
from zoo.nn.norm import LayerNorm
from zoo.nn.patches import Patches, grid, pair, rows_of_grid
from zoo.nn.stochastic_depth import StochasticDepth
from zoo.nn.vision import check_classes, check_mean

TASKS = ("image-classification", "feature-extraction", "feature-pyramid")


@dataclass(frozen=True)
class Config:
    """Layers of channel projections around a gate that mixes the patches."""

    image_size: int | tuple[int, int] = 224
    """Height and width of the images: the gates are made for their patches."""
    patch_size: int | tuple[int, int] = 16
    """Height and width of a patch."""
    in_chans: int = 3
    """Channels of the images."""
    width: int = 256
    """Features of a patch."""
    depth: int = 30
    """Layers."""
    hidden: int = 0
    """Features inside a layer, an even number, half of which are gates; 0: six times the width."""
    num_classes: int = 1000
    """Outputs of the classification head; 0: a model for feature-extraction."""
    global_pool: str = "avg"
    """What a classifier looks at: the mean of the patches ("avg"), or each of them ("")."""
    dropout: float = 0.0
    """Rate after the activation of a layer, and on what it adds."""
    drop_path: float = 0.0
    """Rate at which an example skips a layer, the same for every layer."""
    head_dropout: float = 0.0
    """Rate before the classifier."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "GMLP":
        """The module.

        Raises:
            InputError: unknown task or pooling, sizes below 1, hidden features without halves, an
                image without a patch, or classification without classes.
        """
        task = check_task(task or TASKS[not self.num_classes], TASKS)
        check_classes(task, self.num_classes)
        check_mean(self.global_pool)
        grid(self.image_size, self.patch_size)
        if min(self.depth, self.width, self.in_chans) < 1:
            raise InputError("depth, width and in_chans must be at least 1")
        if self.hidden < 0 or self.hidden % 2:
            raise InputError(f"hidden is {self.hidden}, but half of it are gates: an even number")
        return GMLP(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch."""
        shape = (batch, *pair(self.image_size), self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}


class GMLP(nn.Module):
    """Images in; logits, features or maps out (see ``__call__``)."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[ArrayLike, "B H W I"], train: bool = False
    ) -> Float[Array, "B *rest"] | tuple[Float[Array, "B h w D"], ...]:
        """Classification: logits ``[B, C]``, without ``global_pool`` ``[B, N, C]``. Feature
        extraction: what a classifier is given, ``[B, D]`` or ``[B, N, D]``. Feature pyramid: the
        maps ``[B, h, w, D]`` after the last three layers, all of one size, as timm's
        ``features_only`` gives.

        Args:
            image: normalised, of the size of the Config.
            train: whether dropout and stochastic depth are active; needs
                ``rngs={"dropout": key}``.

        Raises:
            InputError: images of another size or another number of channels.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        patches = Patches(cfg.width, pair(cfg.patch_size), **types, name="patches")
        image = jnp.asarray(image, self.dtype)
        x_BND = rows_of_grid(patches, image, cfg.image_size, cfg.in_chans)
        maps = []
        for i in range(cfg.depth):
            x_BND = Layer(cfg, **types, name=f"layer{i}")(x_BND, train)
            maps.append(x_BND)
        if self.task == "feature-pyramid":
            shape = (image.shape[0], *grid(cfg.image_size, cfg.patch_size), cfg.width)
            return tuple(x_BND.reshape(shape) for x_BND in maps[-3:])

        features = LayerNorm(**types, name="norm")(x_BND)
        if cfg.global_pool == "avg":
            features = jnp.mean(features, axis=1)
        features = Dropout(cfg.head_dropout, name="head_dropout")(features, train)
        if self.task == "feature-extraction":
            return features
        return Dense(cfg.num_classes, **types, name="head")(features)


class Layer(nn.Module):
    """``x + s(gelu(norm(x) U)) V`` with the spatial gating unit ``s`` (section 2).

    Parameters: ``norm``, ``up`` (the paper's U), ``gate``, ``down`` (V).
    """

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"], train: bool) -> Float[Array, "B N D"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = LayerNorm(**types, name="norm")(x)
        y_BNE = gelu(Dense(cfg.hidden or 6 * cfg.width, **types, name="up")(y))
        y_BNE = Dropout(cfg.dropout, name="up_dropout")(y_BNE, train)
        y = SpatialGatingUnit(**types, name="gate")(y_BNE)
        y = Dense(cfg.width, **types, name="down")(y)
        y = Dropout(cfg.dropout, name="down_dropout")(y, train)
        return x + StochasticDepth(cfg.drop_path, name="skip")(y, train)


class SpatialGatingUnit(nn.Module):
    """One half of the features times the other half, normalised and mixed over the patches
    (section 2.1). The mixing starts near 0 with a bias of 1, so that a layer starts as a
    feed-forward layer.

    Parameters: ``norm``, ``places`` with ``kernel`` ``[N, N]`` and ``bias`` ``[N]``.
    """

    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, z: Float[Array, "B N E"]) -> Float[Array, "B N half"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        near_zero, one = nn.initializers.normal(1e-6), nn.initializers.ones
        value, gate = jnp.split(z, 2, axis=-1)
        gate = LayerNorm(1e-5, **types, name="norm")(gate).swapaxes(1, 2)
        mix = Dense(z.shape[1], **types, kernel_init=near_zero, bias_init=one, name="places")
        return value * mix(gate).swapaxes(1, 2)


SIZES = {
    "gmlp_s16_224": Size(
        Config(), 19_422_656, "arXiv:2105.08050; timm", "Apache-2.0", "ImageNet top-1 79.65"
    ),
}

TENSOR_PARALLEL = (
    (r"up/kernel", P(None, "tensor")),
    (r"up/bias", P("tensor")),
    (r"down/kernel", P("tensor", None)),
)
"""Path endings and partitions: hidden features are split; the gate's two halves meet between."""
