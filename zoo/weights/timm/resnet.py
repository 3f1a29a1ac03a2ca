"""ResNet, ResNeXt and wide ResNet as timm keeps them, and torchvision with it."""

from typing import Any

from zoo.errors import InputError
from zoo.models.resnet import Config, basic
from zoo.weights.mapping import COUNTERS, Rule, batch_norm, conv, dense, first_conv
from zoo.weights.timm import Arg

ARCHITECTURES = {
    "resnet18": basic(2, 2, 2, 2),
    "resnet34": basic(3, 4, 6, 3),
    "resnet50": Config(),
    "resnet26": Config(depths=(2, 2, 2, 2)),
    "resnet101": Config(depths=(3, 4, 23, 3)),
    "resnet152": Config(depths=(3, 8, 36, 3)),
    "resnet200": Config(depths=(3, 24, 36, 3)),
    "wide_resnet50_2": Config(group_width=128),
    "wide_resnet101_2": Config(depths=(3, 4, 23, 3), group_width=128),
    "resnext50_32x4d": Config(groups=32, group_width=4),
    "resnext101_32x4d": Config(depths=(3, 4, 23, 3), groups=32, group_width=4),
    "resnext101_32x8d": Config(depths=(3, 4, 23, 3), groups=32, group_width=8),
    "resnext101_32x16d": Config(depths=(3, 4, 23, 3), groups=32, group_width=16),
    "resnext101_32x32d": Config(depths=(3, 4, 23, 3), groups=32, group_width=32),
    "resnext101_64x4d": Config(depths=(3, 4, 23, 3), groups=64, group_width=4),
}


def _expansion(cfg: Config) -> int:
    return 4 if cfg.block == "bottleneck" else 1


def _read_channels(value: Any, cfg: Config) -> Any:
    return tuple(width * _expansion(cfg) for width in value)


def _write_channels(widths: tuple[int, ...], cfg: Config) -> tuple[int, ...]:
    if len(widths) != 4 or any(width % _expansion(cfg) for width in widths):
        raise InputError(f"timm has no resnet with widths {widths}")
    return tuple(width // _expansion(cfg) for width in widths)


ARGS = {
    "layers": "depths", "cardinality": "groups", "base_width": "group_width",
    "act_layer": "activation", "channels": Arg("widths", _read_channels, _write_channels),
}  # fmt: skip
ONLY = {
    "output_stride": (32,), "stem_type": ("",), "replace_stem_pool": (False,),
    "block_reduce_first": (1,), "down_kernel_size": (1,), "avg_down": (False,),
    "norm_layer": ("batchnorm", "batchnorm2d"), "drop_block_rate": (0,), "block_args": ({},),
}  # fmt: skip
HARMLESS = ("zero_init_last", "stem_width")  # the width is that of a stem of three convolutions
FIRST_CONV, CLASSIFIER = "conv1", "fc"
IGNORED = (COUNTERS,)


def backbone(cfg: Config) -> list[Rule]:
    """Stem and stages."""
    rules = first_conv("conv1", "stem/conv", cfg.in_chans) + batch_norm("bn1", "stem/norm")
    before = cfg.stem_width
    for stage, (depth, width) in enumerate(zip(cfg.depths, cfg.widths, strict=True), 1):
        for i in range(depth):
            theirs, ours = f"layer{stage}.{i}", f"stage{stage}_block{i}"
            if i == 0 and (before != width or stage > 1):
                rules += conv(f"{theirs}.downsample.0", f"{ours}/shortcut/conv")
                rules += batch_norm(f"{theirs}.downsample.1", f"{ours}/shortcut/norm")
            for number in range(1, 3 if cfg.block == "basic" else 4):
                rules += conv(f"{theirs}.conv{number}", f"{ours}/conv{number}/conv")
                rules += batch_norm(f"{theirs}.bn{number}", f"{ours}/conv{number}/norm")
        before = width
    return rules


def head(cfg: Config, task: str) -> list[Rule]:
    """The classifier."""
    return dense("fc", "head") if task == "image-classification" else []
