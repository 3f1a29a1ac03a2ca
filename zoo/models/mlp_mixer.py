"""MLP-Mixer: an all-MLP architecture for vision (Tolstikhin et al., 2021,
https://arxiv.org/abs/2105.01601), in timm's sizes.

B batch, H W image, I channels of the image, N patches, D width, C classes.
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
    """Layers that mix the patches of each channel, then the channels of each patch."""

    image_size: int | tuple[int, int] = 224
    """Height and width of the images: the token-mixing MLPs are made for their patches."""
    patch_size: int | tuple[int, int] = 16
    """Height and width of a patch."""
    in_chans: int = 3
    """Channels of the images."""
    width: int = 768
    """Features of a patch."""
    depth: int = 12
    """Layers."""
    hidden: tuple[int, int] = (0, 0)
    """Features inside the MLPs over the patches and over the channels, the paper's D_S and D_C;
    0: half the width, and four times the width."""
    num_classes: int = 1000
    """Outputs of the classification head; 0: a model for feature-extraction."""
    global_pool: str = "avg"
    """What a classifier looks at: the mean of the patches ("avg"), or each of them ("")."""
    dropout: float = 0.0
    """Rate after both dense layers of every MLP."""
    drop_path: float = 0.0
    """Rate at which an example skips an MLP, the same in every layer."""
    head_dropout: float = 0.0
    """Rate before the classifier."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "MLPMixer":
        """The module.

        Raises:
            InputError: unknown task or pooling, sizes below 1, an image without a patch, or
                classification without classes.
        """
        task = check_task(task or TASKS[not self.num_classes], TASKS)
        check_classes(task, self.num_classes)
        check_mean(self.global_pool)
        grid(self.image_size, self.patch_size)
        if min(self.depth, self.width, self.in_chans, *self.hidden_sizes()) < 1:
            raise InputError("depth, width, in_chans and hidden must be at least 1")
        return MLPMixer(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch."""
        shape = (batch, *pair(self.image_size), self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}

    def hidden_sizes(self) -> tuple[int, int]:
        """Features inside the MLPs over the patches and over the channels."""
        tokens, channels = self.hidden
        return tokens or self.width // 2, channels or 4 * self.width


class MLPMixer(nn.Module):
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
    """``U = X + MLP(norm(X)^T)^T`` and ``U + MLP(norm(U))`` (equation 1): the first MLP sees a
    channel at all places, the second a place in all channels.

    Parameters: ``token_norm``, ``token_mlp``, ``channel_norm``, ``channel_mlp``.
    """

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"], train: bool) -> Float[Array, "B N D"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        tokens, channels = cfg.hidden_sizes()
        y_BDN = LayerNorm(**types, name="token_norm")(x).swapaxes(1, 2)
        y_BDN = MLP(tokens, cfg.dropout, **types, name="token_mlp")(y_BDN, train)
        x = x + StochasticDepth(cfg.drop_path, name="token_depth")(y_BDN.swapaxes(1, 2), train)
        y = LayerNorm(**types, name="channel_norm")(x)
        y = MLP(channels, cfg.dropout, **types, name="channel_mlp")(y, train)
        return x + StochasticDepth(cfg.drop_path, name="channel_depth")(y, train)


class MLP(nn.Module):
    """Two dense layers with GELU between them, over the last dimension.

    Parameters: ``up``, ``down``.
    """

    hidden: int
    dropout: float
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B rows F"], train: bool) -> Float[Array, "B rows F"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = gelu(Dense(self.hidden, **types, name="up")(x))
        y = Dropout(self.dropout, name="up_dropout")(y, train)
        y = Dense(x.shape[-1], **types, name="down")(y)
        return Dropout(self.dropout, name="down_dropout")(y, train)


SIZES = {
    "mixer_s16_224": Size(
        Config(width=512, depth=8), 18_528_264, "arXiv:2105.01601; timm", "Apache-2.0"
    ),
    "mixer_b16_224": Size(
        Config(), 59_880_472, "arXiv:2105.01601; timm", "Apache-2.0", "ImageNet top-1 76.62"
    ),
}

TENSOR_PARALLEL = (
    (r"(token|channel)_mlp/up/kernel", P(None, "tensor")),
    (r"(token|channel)_mlp/up/bias", P("tensor")),
    (r"(token|channel)_mlp/down/kernel", P("tensor", None)),
)
"""Path endings and partitions: hidden features are split, so an MLP needs one sum."""
