"""ResMLP: feedforward networks for image classification with data-efficient training (Touvron et
al., 2021, https://arxiv.org/abs/2105.03404), in timm's sizes.

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
from zoo.nn.dropout import Dropout
from zoo.nn.patches import Patches, grid, pair, rows_of_grid
from zoo.nn.stochastic_depth import StochasticDepth
from zoo.nn.vision import FeedForward, check_classes, check_mean, dense

TASKS = ("image-classification", "feature-extraction", "feature-pyramid")


@dataclass(frozen=True)
class Config:
    """Layers that mix the patches linearly, then the channels of each patch; no norms."""

    image_size: int | tuple[int, int] = 224
    """Height and width of the images: the mixing of patches is made for theirs."""
    patch_size: int | tuple[int, int] = 16
    """Height and width of a patch."""
    in_chans: int = 3
    """Channels of the images."""
    width: int = 384
    """Features of a patch."""
    depth: int = 12
    """Layers."""
    hidden: int = 0
    """Features inside the feed-forward layers; 0: four times the width."""
    layer_scale: float = 1e-4
    """What the factors of the residual branches start at; the deeper, the smaller."""
    num_classes: int = 1000
    """Outputs of the classification head; 0: a model for feature-extraction."""
    global_pool: str = "avg"
    """What a classifier looks at: the mean of the patches ("avg"), or each of them ("")."""
    dropout: float = 0.0
    """Rate after the activation of feed-forward layers, and on what they add."""
    drop_path: float = 0.0
    """Rate at which an example skips a residual branch, the same in every layer."""
    head_dropout: float = 0.0
    """Rate before the classifier."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "ResMLP":
        """The module.

        Raises:
            InputError: unknown task or pooling, sizes below 1, an image without a patch, or
                classification without classes.
        """
        task = check_task(task or TASKS[not self.num_classes], TASKS)
        check_classes(task, self.num_classes)
        check_mean(self.global_pool)
        grid(self.image_size, self.patch_size)
        if min(self.depth, self.width, self.in_chans) < 1 or self.hidden < 0:
            raise InputError("depth, width, in_chans and hidden must be at least 1")
        return ResMLP(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch."""
        shape = (batch, *pair(self.image_size), self.in_chans)
        return {"image": jax.ShapeDtypeStruct(shape, jnp.float32)}


class ResMLP(nn.Module):
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

        features = Affine(**types, name="affine")(x_BND)
        if cfg.global_pool == "avg":
            features = jnp.mean(features, axis=1)
        features = Dropout(cfg.head_dropout, name="head_dropout")(features, train)
        if self.task == "feature-extraction":
            return features
        return dense(cfg.num_classes, types, "head")(features)


class Layer(nn.Module):
    """A linear layer over the patches, then a feed-forward layer over the channels; each of the
    affinely changed input, scaled and added to it (equations 2 and 3).

    Parameters: ``token_affine``, ``token_linear`` with ``kernel`` ``[N, N]``, ``token_scale``
    ``[D]``, ``channel_affine``, ``channel_mlp``, ``channel_scale`` ``[D]``.
    """

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"], train: bool) -> Float[Array, "B N D"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def add(y: Float[Array, "B N D"], name: str) -> Float[Array, "B N D"]:
            start = nn.initializers.constant(cfg.layer_scale)
            scale = self.param(f"{name}_scale", start, (cfg.width,), self.param_dtype)
            depth = StochasticDepth(cfg.drop_path, name=f"{name}_depth")
            return x + depth(y * scale.astype(self.dtype), train)

        y_BDN = Affine(**types, name="token_affine")(x).swapaxes(1, 2)
        y_BDN = dense(x.shape[1], types, "token_linear")(y_BDN)
        x = add(y_BDN.swapaxes(1, 2), "token")
        y = Affine(**types, name="channel_affine")(x)
        feed = FeedForward(
            cfg.hidden or 4 * cfg.width, "gelu", cfg.dropout, **types, name="channel_mlp"
        )
        return add(Dropout(cfg.dropout, name="channel_dropout")(feed(y, train), train), "channel")


class Affine(nn.Module):
    """``x * scale + bias`` in place of a norm (equation 1).

    Parameters: ``scale`` ``[D]``, ``bias`` ``[D]``.
    """

    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        return x * scale.astype(self.dtype) + bias.astype(self.dtype)


SIZES = {
    "resmlp_12_224": Size(
        Config(), 15_350_872, "arXiv:2105.03404; timm", "Apache-2.0", "ImageNet top-1 76.66"
    ),
}

TENSOR_PARALLEL = (
    (r"channel_mlp/up/kernel", P(None, "tensor")),
    (r"channel_mlp/up/bias", P("tensor")),
    (r"channel_mlp/down/kernel", P("tensor", None)),
)
"""Path endings and partitions: hidden features are split, so a feed-forward layer needs one sum."""
