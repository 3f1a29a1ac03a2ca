"""VGG as timm keeps it."""

from typing import Any

from zoo.models.vgg import ELEVEN, NINETEEN, SIXTEEN, THIRTEEN, Config, normed
from zoo.weights.mapping import COUNTERS, Rule, batch_norm, conv, dense, first_conv
from zoo.weights.timm import Arg

ARCHITECTURES = {
    "vgg11": ELEVEN,
    "vgg11_bn": normed(ELEVEN),
    "vgg16": SIXTEEN,
    "vgg16_bn": normed(SIXTEEN),
    "vgg13": THIRTEEN,
    "vgg13_bn": normed(THIRTEEN),
    "vgg19": NINETEEN,
    "vgg19_bn": normed(NINETEEN),
}


def _read_ratio(value: Any, cfg: Config) -> int:
    return int(cfg.features * value)


def _write_ratio(hidden: int, cfg: Config) -> float:
    return hidden / cfg.features


ARGS = {"mlp_ratio": Arg("hidden", _read_ratio, _write_ratio)}
ONLY = {"output_stride": (32,)}
"""No `act_layer`: timm's VGG takes no activation by its name, so no file can say another one."""
HARMLESS = ()
FIRST_CONV, CLASSIFIER = "features.0", "head.fc"
IGNORED = (COUNTERS,)


def backbone(cfg: Config) -> list[Rule]:
    """The blocks; in their list activations and poolings have numbers too."""
    rules: list[Rule] = []
    number = 0
    for block, depth in enumerate(cfg.depths, 1):
        for i in range(depth):
            theirs, ours = f"features.{number}", f"block{block}_conv{i}"
            if number == 0:
                rules += first_conv(theirs, f"{ours}/conv", cfg.in_chans, bias=True)
            else:
                rules += conv(theirs, f"{ours}/conv", bias=True)
            if cfg.norm:
                rules += batch_norm(f"features.{number + 1}", f"{ours}/norm")
            number += 3 if cfg.norm else 2
        number += 1
    return rules


def head(cfg: Config, task: str) -> list[Rule]:
    """The hidden layers and the classifier."""
    if task == "feature-pyramid":
        return []
    rules = conv("pre_logits.fc1", "hidden1", bias=True)
    rules += conv("pre_logits.fc2", "hidden2", bias=True)
    return rules + (dense("head.fc", "head") if task == "image-classification" else [])
