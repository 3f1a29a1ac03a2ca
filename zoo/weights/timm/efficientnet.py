"""EfficientNet as timm keeps it."""

import dataclasses

from zoo.models.efficientnet import Config, scaled
from zoo.weights.inverted import block, read_padding, write_padding
from zoo.weights.mapping import COUNTERS, Rule, batch_norm, conv, dense, first_conv
from zoo.weights.timm import Arg

PLAIN = {
    "efficientnet_b0": Config(),
    "efficientnet_b1": scaled(1.0, 1.1, 240),
    "efficientnet_b2": scaled(1.1, 1.2, 256),
    "efficientnet_b3": scaled(1.2, 1.4, 288),
    "efficientnet_b4": scaled(1.4, 1.8, 320),
    "efficientnet_b5": scaled(1.6, 2.2, 448),
    "efficientnet_b6": scaled(1.8, 2.6, 528),
    "efficientnet_b7": scaled(2.0, 3.1, 600),
}
SIZES_OF_TENSORFLOW = (224, 240, 260, 300, 380, 456, 528, 600)
ARCHITECTURES = PLAIN | {
    f"tf_{name}": dataclasses.replace(cfg, padding="same", epsilon=1e-3, image_size=size)
    for (name, cfg), size in zip(PLAIN.items(), SIZES_OF_TENSORFLOW, strict=True)
}
ARGS = {
    "act_layer": "activation", "bn_eps": "epsilon",
    "pad_type": Arg("padding", read_padding, write_padding),
}  # fmt: skip
ONLY = {
    "output_stride": (32,), "bn_momentum": (0.1,), "norm_layer": ("batchnorm", "batchnorm2d"),
    "channel_divisor": (8,),
}  # fmt: skip
HARMLESS = ()
FIRST_CONV, CLASSIFIER = "conv_stem", "classifier"
IGNORED = (COUNTERS,)
NOT_COMPARED = ("norm_momentum", "expand_momentum")  # which change nothing but training


def backbone(cfg: Config) -> list[Rule]:
    """Stem and stages."""
    rules = first_conv("conv_stem", "stem/conv", cfg.in_chans) + batch_norm("bn1", "stem/norm")
    for stage, (depth, expansion) in enumerate(zip(cfg.depths, cfg.expansions, strict=True)):
        for i in range(depth):
            ours = f"stage{stage + 1}_block{i}"
            rules += block(f"blocks.{stage}.{i}", ours, expansion > 1, squeezes=True)
    return rules


def head(cfg: Config, task: str) -> list[Rule]:
    """The last convolution and the classifier."""
    if task == "feature-pyramid":
        return []
    rules = conv("conv_head", "last/conv") + batch_norm("bn2", "last/norm")
    return rules + (dense("classifier", "head") if task == "image-classification" else [])
