"""Inverted residual blocks as timm names their tensors."""

from typing import Any

from zoo.errors import InputError
from zoo.weights.mapping import Rule, batch_norm, conv

POINT = "o i 1 1 -> i o"
"""A PyTorch convolution of 1x1 as our `Dense`."""


def block(theirs: str, ours: str, expands: bool, squeezes: bool) -> list[Rule]:
    """A block of `zoo.nn.inverted`.

    Args:
        theirs, ours: its names.
        expands, squeezes: whether it has these parts.
    """
    names = ("conv_pw", "conv_dw", "conv_pwl") if expands else ("conv_dw", "conv_pw")
    parts = ("expand", "depthwise", "project")[-len(names) :]
    rules: list[Rule] = []
    for number, (name, part) in enumerate(zip(names, parts, strict=True), 1):
        rules += conv(f"{theirs}.{name}", f"{ours}/{part}/conv")
        rules += batch_norm(f"{theirs}.bn{number}", f"{ours}/{part}/norm")
    if squeezes:
        for name, part in (("conv_reduce", "reduce"), ("conv_expand", "expand")):
            rules += point(f"{theirs}.se.{name}", f"{ours}/squeeze/{part}")
    return rules


def point(theirs: str, ours: str) -> list[Rule]:
    """A 1x1 convolution as a dense layer."""
    return [
        Rule(f"{theirs}.weight", f"{ours}/kernel", POINT),
        Rule(f"{theirs}.bias", f"{ours}/bias"),
    ]


PAD_TYPES = {"": "symmetric", "same": "same"}
"""Their ways of padding and ours."""


def read_padding(value: Any, cfg: Any) -> str:
    """Ours of timm's `pad_type`.

    Raises:
        InputError: it is not implemented.
    """
    if not isinstance(value, str) or value not in PAD_TYPES:
        raise InputError(
            f"config.json: timm's argument pad_type {value!r} is not implemented, only '' or 'same'"
        )
    return PAD_TYPES[value]


def write_padding(value: str, cfg: Any) -> str:
    """Theirs of ours.

    Raises:
        InputError: they have none.
    """
    for theirs, ours in PAD_TYPES.items():
        if ours == value:
            return theirs
    raise InputError(f"timm has no convolutions with padding {value!r}")
