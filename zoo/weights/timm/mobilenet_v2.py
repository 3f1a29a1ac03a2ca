"""MobileNetV2 as timm keeps it."""

import dataclasses

from zoo.models.mobilenet_v2 import Config, scaled
from zoo.weights.inverted import block, read_padding, write_padding
from zoo.weights.mapping import COUNTERS, Rule, batch_norm, conv, dense, first_conv
from zoo.weights.timm import Arg


def _deeper(multiplier: float, depths: tuple[int, ...]) -> Config:
    """More blocks in all stages but the first and the last; stem and features stay."""
    return dataclasses.replace(scaled(multiplier), depths=depths, stem_width=32, features=1280)


ARCHITECTURES = {
    "mobilenetv2_035": scaled(0.35),
    "mobilenetv2_100": Config(),
    "mobilenetv2_050": scaled(0.5),
    "mobilenetv2_075": scaled(0.75),
    "mobilenetv2_140": scaled(1.4),
    "mobilenetv2_110d": _deeper(1.1, (1, 3, 4, 5, 4, 4, 1)),
    "mobilenetv2_120d": _deeper(1.2, (1, 3, 5, 6, 5, 5, 1)),
}
ARGS = {
    "act_layer": "activation", "bn_eps": "epsilon",
    "pad_type": Arg("padding", read_padding, write_padding),
}  # fmt: skip
ONLY = {
    "output_stride": (32,), "bn_momentum": (0.1,), "norm_layer": ("batchnorm", "batchnorm2d"),
}  # fmt: skip
HARMLESS = ()
FIRST_CONV, CLASSIFIER = "conv_stem", "classifier"
IGNORED = (COUNTERS,)
NOT_COMPARED = ("norm_momentum",)  # which changes nothing but training


def backbone(cfg: Config) -> list[Rule]:
    """Stem and stages."""
    rules = first_conv("conv_stem", "stem/conv", cfg.in_chans) + batch_norm("bn1", "stem/norm")
    for stage, depth in enumerate(cfg.depths):
        for i in range(depth):
            first = stage == i == 0
            rules += block(f"blocks.{stage}.{i}", f"stage{stage + 1}_block{i}", not first, False)
    return rules


def head(cfg: Config, task: str) -> list[Rule]:
    """The last convolution and the classifier."""
    if task == "feature-pyramid":
        return []
    rules = conv("conv_head", "last/conv") + batch_norm("bn2", "last/norm")
    return rules + (dense("classifier", "head") if task == "image-classification" else [])
