"""EfficientNet as transformers keeps it."""

import math
from typing import Any

from zoo.errors import InputError
from zoo.models.efficientnet import Config
from zoo.nn.inverted import divisible
from zoo.weights.configs import check_values, from_activation, read_size, to_activation, typed
from zoo.weights.inverted import point
from zoo.weights.mapping import COUNTERS, Rule, batch_norm, conv, dense, first_conv

MODEL_TYPES = ("efficientnet",)
ARCHITECTURES = {
    "EfficientNetModel": "feature-extraction",
    "EfficientNetForImageClassification": "image-classification",
}
PREFIX = "efficientnet."
IGNORED = (COUNTERS,)

FIELDS = {
    "num_channels": "in_chans", "batch_norm_eps": "epsilon", "dropout_rate": "dropout",
    "drop_connect_rate": "block_dropout", "squeeze_expansion_ratio": "squeeze",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
PER_STAGE = {
    "num_block_repeats": "depths", "out_channels": "widths", "kernel_sizes": "kernel_sizes",
    "strides": "strides", "expand_ratios": "expansions",
}  # fmt: skip
"""The same of lists with a number for each stage, before the coefficients."""
POOLING = {"mean": "avg", "max": "max"}
USUAL = {
    "width_coefficient": 2.0, "depth_coefficient": 3.1, "depth_divisor": 8, "hidden_dim": 2560,
    "batch_norm_momentum": 0.99, "pooling_type": "mean", "hidden_act": "swish",
}  # fmt: skip
"""Of theirs what is not written where it is so; it is B7."""
OWN = (*USUAL, *PER_STAGE, "in_channels", "depthwise_padding", "image_size", "num_hidden_layers")
SAME = ("drop_path", "folded")
"""Fields without a counterpart, which must be as they are by default."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    usual = {"num_classes": 2, "epsilon": 1e-3, "dropout": 0.5, "block_dropout": 0.2}
    known = usual | check_values(values, Config, FIELDS, {}, OWN)
    own = {name: typed(name, values.get(name, value), type(value)) for name, value in USUAL.items()}
    if not (own["width_coefficient"] > 0.0 and own["depth_coefficient"] > 0.0):
        raise InputError("config.json: width_coefficient and depth_coefficient are above 0")
    if not 1 <= own["depth_divisor"] <= 2**16:
        raise InputError(f"config.json: depth_divisor is {own['depth_divisor']}, which cannot be")
    for theirs, ours in PER_STAGE.items():
        known[ours] = _numbers(theirs, values.get(theirs, getattr(Config, ours)))
    before = (Config.stem_width, *known["widths"][:-1])
    if _numbers("in_channels", values.get("in_channels", before)) != before:
        raise InputError(
            f"config.json: in_channels must be {list(before)}: what the image's convolution gives, "
            "and then what each stage before gives"
        )
    stages = [len(known[ours]) for ours in PER_STAGE.values()]
    if len(set(stages)) != 1:
        raise InputError(f"config.json: {', '.join(PER_STAGE)} differ in length")

    def scaled(width: int) -> int:
        return divisible(width * own["width_coefficient"], own["depth_divisor"])

    known["widths"] = tuple(map(scaled, known["widths"]))
    known["depths"] = tuple(math.ceil(own["depth_coefficient"] * n) for n in known["depths"])
    known["stem_width"], known["features"] = scaled(Config.stem_width), scaled(Config.features)
    if known["features"] != own["hidden_dim"]:
        raise InputError(
            f"config.json: hidden_dim is {own['hidden_dim']}, and width_coefficient "
            f"{own['width_coefficient']} gives {known['features']}"
        )
    if own["pooling_type"] not in POOLING:
        raise InputError(
            f"config.json: pooling_type {own['pooling_type']!r} is not implemented, only "
            f"{' or '.join(map(repr, POOLING))}"
        )
    known["global_pool"] = POOLING[own["pooling_type"]]
    known["norm_momentum"] = 1.0 - own["batch_norm_momentum"]  # PyTorch's way to say it
    known["activation"] = to_activation(own["hidden_act"])
    known["padding"] = "ahead"
    known["symmetric_blocks"] = _numbers("depthwise_padding", values.get("depthwise_padding", ()))
    size = read_size("image_size", values.get("image_size", 600))
    known["image_size"] = size if isinstance(size, int) else min(size)
    return Config(**known)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels.

    Raises:
        InputError: their EfficientNet has no such thing.
    """
    other = [name for name in SAME if getattr(cfg, name) != getattr(Config, name)]
    other += ["padding"] * (cfg.padding != "ahead")
    other += ["global_pool"] * (cfg.global_pool not in POOLING.values())
    if other:
        told = ", ".join(f"{name} {getattr(cfg, name)!r}" for name in other)
        raise InputError(f"transformers has no efficientnet with {told}")
    coefficient, divisor, widths = _find_scale(cfg)
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "efficientnet", "hidden_act": from_activation(cfg.activation),
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
        **{theirs: list(getattr(cfg, ours)) for theirs, ours in PER_STAGE.items()},
        "width_coefficient": coefficient, "depth_coefficient": 1.0, "depth_divisor": divisor,
        "in_channels": [Config.stem_width, *widths[:-1]], "out_channels": widths,
        "hidden_dim": cfg.features, "depthwise_padding": list(cfg.symmetric_blocks),
        "pooling_type": next(name for name, of in POOLING.items() if of == cfg.global_pool),
        "batch_norm_momentum": 1.0 - cfg.norm_momentum, "image_size": cfg.image_size,
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Stem, blocks and last convolution, without the prefix."""
    rules = first_conv("embeddings.convolution", "stem/conv", cfg.in_chans)
    rules += batch_norm("embeddings.batchnorm", "stem/norm")
    parts = {
        "expand": ("expansion.expand_conv", "expansion.expand_bn"),
        "depthwise": ("depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"),
        "project": ("projection.project_conv", "projection.project_bn"),
    }
    number = 0
    for stage, (depth, expansion) in enumerate(zip(cfg.depths, cfg.expansions, strict=True), 1):
        for i in range(depth):
            theirs, ours = f"encoder.blocks.{number}", f"stage{stage}_block{i}"
            for part, (name, norm) in parts.items():
                if part != "expand" or expansion > 1:
                    rules += conv(f"{theirs}.{name}", f"{ours}/{part}/conv")
                    rules += batch_norm(f"{theirs}.{norm}", f"{ours}/{part}/norm")
            for name in ("reduce", "expand"):
                rules += point(f"{theirs}.squeeze_excite.{name}", f"{ours}/squeeze/{name}")
            number += 1
    rules += conv("encoder.top_conv", "last/conv")
    return rules + batch_norm("encoder.top_bn", "last/norm")


def head(cfg: Config, task: str) -> list[Rule]:
    """The classifier."""
    return dense("classifier", "head") if task == "image-classification" else []


def _numbers(name: str, value: Any) -> tuple[int, ...]:
    """A list of numbers of config.json."""
    good = isinstance(value, list | tuple) and all(type(n) is int and n >= 0 for n in value)
    if not good or any(n > 2**24 for n in value):
        raise InputError(f"config.json: {name} {value!r} is no list of numbers")
    return tuple(value)


def _find_scale(cfg: Config) -> tuple[float, int, list[int]]:
    """Coefficient, divisor and numbers of channels that those of a Config follow from; of those
    that would do, the roundest."""
    common = math.gcd(cfg.stem_width, cfg.features, *cfg.widths)
    divisors = [n for n in range(common, 0, -1) if common % n == 0]
    divisors.sort(key=lambda divisor: divisor != 8)
    for steps in (10, 4000):
        for divisor in divisors:
            near, reach = cfg.features / 1280 * steps, divisor / 1280 * steps + 1
            for n in range(max(1, math.floor(near - reach)), math.ceil(near + reach)):
                scale = n / steps
                ends = [divisible(width * scale, divisor) for width in (Config.stem_width, 1280)]
                if ends != [cfg.stem_width, cfg.features]:
                    continue
                widths = [_find_width(width, scale, divisor) for width in cfg.widths]
                if all(widths):
                    return scale, divisor, widths
    raise InputError(
        f"transformers has no efficientnet with stem_width {cfg.stem_width}, widths {cfg.widths} "
        f"and features {cfg.features}: no width_coefficient gives them"
    )


def _find_width(width: int, scale: float, divisor: int) -> int:
    """The number of channels that becomes `width`; the paper's where one does, 0 where none."""
    near, reach = round(width / scale), math.ceil(divisor / scale) + 1
    others = sorted(range(near - reach, near + reach), key=lambda number: abs(number - near))
    for number in (*Config.widths, *others):
        if number > 0 and divisible(number * scale, divisor) == width:
            return number
    return 0
