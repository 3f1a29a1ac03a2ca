"""MobileNetV3 as timm keeps it."""

import dataclasses

from zoo.models.mobilenet_v3 import SMALL, Config
from zoo.nn.inverted import divisible
from zoo.weights.inverted import block, point, read_padding, write_padding
from zoo.weights.mapping import COUNTERS, Rule, batch_norm, conv, dense, first_conv
from zoo.weights.timm import Arg


def _scaled(cfg: Config, multiplier: float) -> Config:
    """With fewer channels; expansions are as many times what comes in as before."""
    stem = cfg.stem_width if multiplier < 0.75 else divisible(cfg.stem_width * multiplier)
    widths = tuple(divisible(width * multiplier) for width in cfg.widths)
    before = zip((cfg.stem_width, *cfg.widths), (stem, *widths), cfg.hidden, strict=False)
    return dataclasses.replace(
        cfg,
        stem_width=stem,
        widths=widths,
        hidden=tuple(divisible(new * hidden / old) for old, new, hidden in before),
        last_width=divisible(cfg.last_width * multiplier),
    )


def _of_tensorflow(cfg: Config) -> Config:
    return dataclasses.replace(cfg, padding="same", epsilon=1e-3)


def _minimal(cfg: Config) -> Config:
    """Without squeeze-and-excitation and larger kernels, and one activation function for all."""
    blocks = len(cfg.widths)
    return dataclasses.replace(
        cfg, kernel_sizes=(3,) * blocks, squeezed=(False,) * blocks, hard=(True,) * blocks,
        activation="relu",
    )  # fmt: skip


ARCHITECTURES = {
    "mobilenetv3_large_100": Config(),
    "mobilenetv3_small_100": SMALL,
    "mobilenetv3_small_050": _scaled(SMALL, 0.5),
    "mobilenetv3_large_075": _scaled(Config(), 0.75),
    "mobilenetv3_small_075": _scaled(SMALL, 0.75),
    "tf_mobilenetv3_large_100": _of_tensorflow(Config()),
    "tf_mobilenetv3_large_075": _of_tensorflow(_scaled(Config(), 0.75)),
    "tf_mobilenetv3_large_minimal_100": _of_tensorflow(_minimal(Config())),
    "tf_mobilenetv3_small_100": _of_tensorflow(SMALL),
    "tf_mobilenetv3_small_075": _of_tensorflow(_scaled(SMALL, 0.75)),
    "tf_mobilenetv3_small_minimal_100": _of_tensorflow(_minimal(SMALL)),
}
ARGS = {
    "act_layer": "activation", "bn_eps": "epsilon",
    "pad_type": Arg("padding", read_padding, write_padding),
}  # fmt: skip
ONLY = {
    "bn_momentum": (0.1,), "se_from_exp": (True,), "head_bias": (True,), "head_norm": (False,),
}  # fmt: skip
HARMLESS = ()
FIRST_CONV, CLASSIFIER = "conv_stem", "classifier"
IGNORED = (COUNTERS,)


def backbone(cfg: Config) -> list[Rule]:
    """Stem, stages and the convolution behind them."""
    rules = first_conv("conv_stem", "stem/conv", cfg.in_chans) + batch_norm("bn1", "stem/norm")
    number = 0
    for stage, depth in enumerate(cfg.depths):
        for i in range(depth):
            ours = f"stage{stage + 1}_block{i}"
            parts = (cfg.expands(number), cfg.squeezed[number])
            rules += block(f"blocks.{stage}.{i}", ours, *parts)
            number += 1
    last = f"blocks.{len(cfg.depths)}.0"
    return rules + conv(f"{last}.conv", "last/conv") + batch_norm(f"{last}.bn1", "last/norm")


def head(cfg: Config, task: str) -> list[Rule]:
    """The hidden layer and the classifier."""
    if task == "feature-pyramid":
        return []
    rules = point("conv_head", "hidden")
    return rules + (dense("classifier", "head") if task == "image-classification" else [])
