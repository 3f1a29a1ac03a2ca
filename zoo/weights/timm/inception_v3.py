"""Inception-v3 as timm keeps it, and torchvision with it."""

from typing import Any

from zoo.models.inception_v3 import Config
from zoo.weights.mapping import COUNTERS, Rule, batch_norm, conv, dense, first_conv
from zoo.weights.timm import Arg

ARCHITECTURES = {"inception_v3": Config()}


def _read_aux(value: Any, cfg: Config) -> Any:
    return value


def _write_aux(aux_logits: bool, cfg: Config) -> bool:
    return aux_logits and cfg.num_classes > 0


ARGS = {
    "act_layer": "activation", "norm_eps": "epsilon",
    "aux_logits": Arg("aux_logits", _read_aux, _write_aux),
}  # fmt: skip
ONLY = {"norm_layer": ("batchnorm", "batchnorm2d")}
HARMLESS = ()
FIRST_CONV, CLASSIFIER = "Conv2d_1a_3x3.conv", "fc"
IGNORED = (COUNTERS, r"AuxLogits\..*")
"""The second classifier is in the files of some weights whatever their config says of it."""

STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
STAGE1 = {
    "branch1x1": "one", "branch5x5_1": "five1", "branch5x5_2": "five2",
    "branch3x3dbl_1": "double1", "branch3x3dbl_2": "double2", "branch3x3dbl_3": "double3",
    "branch_pool": "pool",
}  # fmt: skip
REDUCTION1 = {
    "branch3x3": "three", "branch3x3dbl_1": "double1", "branch3x3dbl_2": "double2",
    "branch3x3dbl_3": "double3",
}  # fmt: skip
STAGE2 = {
    "branch1x1": "one",
    **{f"branch7x7_{n}": f"seven{n}" for n in (1, 2, 3)},
    **{f"branch7x7dbl_{n}": f"double{n}" for n in (1, 2, 3, 4, 5)},
    "branch_pool": "pool",
}
REDUCTION2 = {
    "branch3x3_1": "three1", "branch3x3_2": "three2",
    **{f"branch7x7x3_{n}": f"seven{n}" for n in (1, 2, 3, 4)},
}  # fmt: skip
STAGE3 = {
    "branch1x1": "one", "branch3x3_1": "three1", "branch3x3_2a": "three_row",
    "branch3x3_2b": "three_column", "branch3x3dbl_1": "double1", "branch3x3dbl_2": "double2",
    "branch3x3dbl_3a": "double_row", "branch3x3dbl_3b": "double_column", "branch_pool": "pool",
}  # fmt: skip
"""Their branches and ours, of each kind of block."""


def backbone(cfg: Config) -> list[Rule]:
    """Stem and stages; their blocks have letters."""
    rules = first_conv(f"{STEM[0]}.conv", "stem1/conv", cfg.in_chans)
    rules += batch_norm(f"{STEM[0]}.bn", "stem1/norm")
    for number, theirs in enumerate(STEM[1:], 2):
        rules += _both(theirs, f"stem{number}")
    stages = (
        ("5", "b", {f"stage1_block{i}": STAGE1 for i in range(len(cfg.pool_widths))}),
        ("6", "a", {"reduction1": REDUCTION1}),
        ("6", "b", {f"stage2_block{i}": STAGE2 for i in range(len(cfg.inner_widths))}),
        ("7", "a", {"reduction2": REDUCTION2}),
        ("7", "b", {f"stage3_block{i}": STAGE3 for i in range(cfg.last_blocks)}),
    )
    for number, first, blocks in stages:
        for place, (ours, branches) in enumerate(blocks.items()):
            for theirs, branch in branches.items():
                letter = chr(ord(first) + place)
                rules += _both(f"Mixed_{number}{letter}.{theirs}", f"{ours}/{branch}")
    return rules


def head(cfg: Config, task: str) -> list[Rule]:
    """The classifiers."""
    if task != "image-classification":
        return []
    aux = _both("AuxLogits.conv0", "aux/conv1") + _both("AuxLogits.conv1", "aux/conv2")
    return dense("fc", "head") + (aux + dense("AuxLogits.fc", "aux/head")) * cfg.aux_logits


def _both(theirs: str, ours: str) -> list[Rule]:
    """A convolution and its norm."""
    return conv(f"{theirs}.conv", f"{ours}/conv") + batch_norm(f"{theirs}.bn", f"{ours}/norm")
