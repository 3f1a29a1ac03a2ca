"""MobileNetV2 as transformers keeps it."""

import itertools
from typing import Any

from zoo.errors import InputError
from zoo.models.mobilenet_v2 import Config
from zoo.nn.inverted import divisible
from zoo.weights.configs import check_values, from_activation, read_size, to_activation, typed
from zoo.weights.mapping import COUNTERS, Rule, batch_norm, conv, dense, first_conv

MODEL_TYPES = ("mobilenet_v2",)
ARCHITECTURES = {
    "MobileNetV2Model": "feature-extraction",
    "MobileNetV2ForImageClassification": "image-classification",
}
PREFIX = "mobilenet_v2."
IGNORED = (COUNTERS,)

FIELDS = {
    "num_channels": "in_chans", "layer_norm_eps": "epsilon", "classifier_dropout_prob": "dropout",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
ONLY = {"output_stride": (32,), "first_layer_is_expansion": (True,)}
"""The former would ask for dilated convolutions, the latter for one convolution more."""
SCALE = {
    "depth_multiplier": 1.0, "depth_divisible_by": 8, "min_depth": 8, "expand_ratio": 6.0,
    "finegrained_output": True,
}  # fmt: skip
"""What the numbers of channels follow from, and what each is where it is not written."""
OWN = (*SCALE, "tf_padding", "image_size", "semantic_loss_ignore_index")
DEFAULTS = {"num_classes": 2, "epsilon": 1e-3, "dropout": 0.8, "padding": "same"}
"""Of theirs that are not ours; a config.json leaves out what is as they have it."""
MOMENTUM = 1.0 - 0.997
"""Of all norms: PyTorch's way to say it, with the number of TensorFlow's, so hardly any."""
SAME = ("depths", "strides", "global_pool", "drop_path", "folded")
"""Fields without a counterpart, which must be as they are by default."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    known = DEFAULTS | check_values(values, Config, FIELDS, ONLY, OWN)
    known["norm_momentum"] = MOMENTUM
    if not typed("tf_padding", values.get("tf_padding", True), bool):
        known["padding"] = "symmetric"
    known["activation"] = to_activation(values.get("hidden_act", "relu6"))
    size = read_size("image_size", values.get("image_size", Config.image_size))
    known["image_size"] = size if isinstance(size, int) else min(size)
    scale = {
        name: typed(name, values.get(name, usual), type(usual)) for name, usual in SCALE.items()
    }
    if min(scale["depth_multiplier"], scale["expand_ratio"]) <= 0.0 or not all(
        1 <= scale[name] <= 2**16 for name in ("depth_divisible_by", "min_depth")
    ):
        raise InputError(f"config.json: numbers of channels cannot follow from {scale}")
    known |= _widths(scale)
    cfg = Config(**known, expansion=scale["expand_ratio"], divisor=scale["depth_divisible_by"])
    if any(cfg.hidden(width) != _hidden(scale, width) for width in cfg.widths):
        raise InputError(
            f"config.json: with expand_ratio {scale['expand_ratio']} blocks have other numbers of "
            f"channels than its multiples of depth_divisible_by {scale['depth_divisible_by']}, "
            "which is not implemented"
        )
    return cfg


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels.

    Raises:
        InputError: their MobileNetV2 has no such thing.
    """
    other = [name for name in SAME if getattr(cfg, name) != getattr(Config, name)]
    if cfg.padding == "ahead":
        other.append("padding")
    if other:
        told = ", ".join(f"{name} {getattr(cfg, name)!r}" for name in other)
        raise InputError(f"transformers has no mobilenet_v2 with {told}")
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "mobilenet_v2", "hidden_act": from_activation(cfg.activation),
        "tf_padding": cfg.padding == "same", "image_size": cfg.image_size,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()}, **_find_scale(cfg),
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Stem, blocks and last convolution, without the prefix."""
    rules = first_conv("conv_stem.first_conv.convolution", "stem/conv", cfg.in_chans)
    rules += batch_norm("conv_stem.first_conv.normalization", "stem/norm")
    parts = {"expand_1x1": "expand", "conv_3x3": "depthwise", "reduce_1x1": "project"}
    places = [(stage, i) for stage, depth in enumerate(cfg.depths, 1) for i in range(depth)]
    for number, (stage, i) in enumerate(places):
        for name, part in parts.items():
            ours = f"stage{stage}_block{i}/{part}"
            if number:
                rules += _both(f"layer.{number - 1}.{name}", ours)
            elif part != "expand":
                rules += _both(f"conv_stem.{name}", ours)
    return rules + _both("conv_1x1", "last")


def head(cfg: Config, task: str) -> list[Rule]:
    """The classifier."""
    return dense("classifier", "head") if task == "image-classification" else []


def _both(theirs: str, ours: str) -> list[Rule]:
    """A convolution and its norm."""
    return conv(f"{theirs}.convolution", f"{ours}/conv") + batch_norm(
        f"{theirs}.normalization", f"{ours}/norm"
    )


def _widths(scale: dict[str, Any]) -> dict[str, Any]:
    """The numbers of channels between blocks."""
    multiplier = scale["depth_multiplier"]

    def scaled(width: int) -> int:
        return divisible(round(width * multiplier), scale["depth_divisible_by"], scale["min_depth"])

    kept = scale["finegrained_output"] and multiplier < 1.0
    return {
        "stem_width": scaled(Config.stem_width),
        "widths": tuple(map(scaled, Config.widths)),
        "features": Config.features if kept else scaled(Config.features),
    }


def _hidden(scale: dict[str, Any], width: int) -> int:
    """The number of channels within a block."""
    inner = round(width * scale["expand_ratio"])
    return divisible(inner, scale["depth_divisible_by"], scale["min_depth"])


def _find_scale(cfg: Config) -> dict[str, Any]:
    """The numbers that those of a Config follow from; of those that would do, the roundest."""
    wanted = {name: getattr(cfg, name) for name in ("stem_width", "widths", "features")}
    last, least = cfg.widths[-1], min(cfg.widths)
    bounds = (0 if last == least else last - cfg.divisor, last + cfg.divisor + 1)
    low, high = (bound / Config.widths[-1] for bound in bounds)
    multipliers = [n / s for s in (100, 4000) for n in range(1, 4 * s) if low <= n / s <= high]
    for multiplier, fine, smallest in itertools.product(
        multipliers, (True, False), sorted({cfg.divisor, least})
    ):
        scale = {
            "depth_multiplier": multiplier, "depth_divisible_by": cfg.divisor,
            "min_depth": smallest, "expand_ratio": cfg.expansion, "finegrained_output": fine,
        }  # fmt: skip
        if _widths(scale) == wanted and all(
            cfg.hidden(width) == _hidden(scale, width) for width in cfg.widths
        ):
            return scale
    told = ", ".join(f"{name} {value}" for name, value in wanted.items())
    raise InputError(f"transformers has no mobilenet_v2 with {told}: no depth_multiplier gives it")
