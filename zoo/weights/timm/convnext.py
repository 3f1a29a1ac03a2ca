"""ConvNeXt as timm keeps it."""

import dataclasses
from typing import Any

from zoo.errors import InputError
from zoo.models.convnext import DEEP, Config, twice
from zoo.weights.mapping import Rule, conv, dense, first_conv, norm, repeat
from zoo.weights.timm import Arg

FIRST = {
    "convnext_tiny": Config(),
    "convnext_small": Config(DEEP),
    "convnext_base": Config(DEEP, twice(128)),
    "convnext_large": Config(DEEP, twice(192)),
}
ARCHITECTURES = {
    **FIRST,
    "convnext_xlarge": Config(DEEP, twice(256)),
    "convnext_xxlarge": Config((3, 4, 30, 3), twice(384), epsilon=1e-5),
    **{
        name.replace("convnext", "convnextv2"): dataclasses.replace(
            cfg, layer_scale=0.0, response_norm=True
        )
        for name, cfg in {**FIRST, "convnext_huge": Config(DEEP, twice(352))}.items()
    },
}

PATCHES = (1, 3, 4)
"""Sizes of patches with which the stages of timm halve the image as ours do."""


def _patch(value: Any, cfg: Config) -> Any:
    if value not in PATCHES:
        told = ", ".join(map(str, PATCHES))
        raise InputError(f"timm's convnext with patch_size {value!r} is not here, only with {told}")
    return value


def _four(value: Any, cfg: Config) -> Any:
    if isinstance(value, tuple) and len(value) != 4:
        raise InputError(f"timm's convnext has four stages, not {value}")
    return value


def _kernel(value: Any, cfg: Config) -> Any:
    return value[0] if isinstance(value, tuple) and len({*value}) == 1 else value


def _read_scale(value: Any, cfg: Config) -> Any:
    if value == 0:
        raise InputError("config.json: timm's ls_init_value 0 is not implemented, only null")
    return value or 0.0


ARGS = {
    "depths": Arg("depths", _four, _four), "dims": Arg("widths", _four, _four),
    "patch_size": Arg("patch_size", _patch, _patch),
    "kernel_sizes": Arg("kernel_size", _kernel, lambda value, cfg: value),
    "act_layer": "activation", "norm_eps": "epsilon", "use_grn": "response_norm",
    "ls_init_value": Arg(
        "layer_scale", _read_scale, lambda value, cfg: value or None, null=True
    ),
}  # fmt: skip
ONLY = {
    "output_stride": (32,), "stem_type": ("patch",), "head_norm_first": (False,),
    "conv_mlp": (False,), "conv_bias": (True,),
    "norm_layer": ("layernorm", "layernorm2d"),
}  # fmt: skip
HARMLESS = ("head_init_scale",)
FIRST_CONV, CLASSIFIER = "stem.0", "head.fc"
IGNORED = ()


def backbone(cfg: Config) -> list[Rule]:
    """Stem and stages."""
    rules = first_conv("stem.0", "stem", cfg.in_chans, bias=True) + norm("stem.1", "stem_norm")
    for stage, depth in enumerate(cfg.depths):
        theirs, ours = f"stages.{stage}", f"stage{stage + 1}"
        if stage:
            rules += norm(f"{theirs}.downsample.0", f"{ours}_norm")
            rules += conv(f"{theirs}.downsample.1", f"{ours}_halve", bias=True)
        rules += repeat(_block(f"{theirs}.blocks.{{i}}", f"{ours}_block{{i}}", cfg), depth)
    return rules


def _block(theirs: str, ours: str, cfg: Config) -> list[Rule]:
    return [
        *conv(f"{theirs}.conv_dw", f"{ours}/conv", bias=True),
        *norm(f"{theirs}.norm", f"{ours}/norm"),
        *dense(f"{theirs}.mlp.fc1", f"{ours}/up"),
        *norm(f"{theirs}.mlp.grn", f"{ours}/response_norm") * cfg.response_norm,
        *dense(f"{theirs}.mlp.fc2", f"{ours}/down"),
        *[Rule(f"{theirs}.gamma", f"{ours}/scale")] * bool(cfg.layer_scale),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """The last norm and the classifier."""
    if task == "feature-pyramid":
        return []
    last = norm("head.norm", "norm")
    return last + (dense("head.fc", "head") if task == "image-classification" else [])
