"""MLP-Mixer as timm keeps it. What its file also has, the GLU in the place of the MLPs, is not
here."""

from typing import Any

from zoo.errors import InputError
from zoo.models.mlp_mixer import Config
from zoo.weights.mapping import Rule, dense, first_conv, norm, repeat
from zoo.weights.timm import Arg
from zoo.weights.timm.vit import hidden_of, ratio_of, read_size

ARCHITECTURES = {
    f"mixer_{letter}{patch}_224": Config(patch_size=patch, width=width, depth=depth)
    for letter, width, depth in (("s", 512, 8), ("b", 768, 12), ("l", 1024, 24))
    for patch in (32, 16)
}
RATIOS = (0.5, 4.0)
"""The usual ones, over the patches and over the channels."""


def _read_ratios(value: Any, cfg: Config) -> tuple[int, ...]:
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2:
        raise InputError(f"config.json: timm's argument mlp_ratio is {value!r}, no two ratios")
    ratios = zip(pair, RATIOS, strict=True)
    return tuple(hidden_of(one, cfg.width, usual) for one, usual in ratios)


def _write_ratios(hidden: tuple[int, ...], cfg: Config) -> tuple[float, ...]:
    sizes = zip(hidden, RATIOS, strict=True)
    return tuple(ratio_of(one, cfg.width, usual) for one, usual in sizes)


SHARED = {
    "img_size": Arg("image_size", read_size, lambda value, cfg: value),
    "drop_rate": "head_dropout", "proj_drop_rate": "dropout",
}  # fmt: skip
"""Arguments that gMLP and ResMLP have too; timm fixes their patches, widths and depths by name."""
ARGS = SHARED | {"mlp_ratio": Arg("hidden", _read_ratios, _write_ratios)}
ONLY = {"stem_norm": (False,)}
HARMLESS = ("nlhb",)  # where the head's bias starts
FIRST_CONV, CLASSIFIER = "stem.proj", "head"
IGNORED = ()


def backbone(cfg: Config) -> list[Rule]:
    """Patches and layers."""
    theirs, ours = "blocks.{i}", "layer{i}"
    layer = [
        *norm(f"{theirs}.norm1", f"{ours}/token_norm"),
        *dense(f"{theirs}.mlp_tokens.fc1", f"{ours}/token_mlp/up"),
        *dense(f"{theirs}.mlp_tokens.fc2", f"{ours}/token_mlp/down"),
        *norm(f"{theirs}.norm2", f"{ours}/channel_norm"),
        *dense(f"{theirs}.mlp_channels.fc1", f"{ours}/channel_mlp/up"),
        *dense(f"{theirs}.mlp_channels.fc2", f"{ours}/channel_mlp/down"),
    ]
    return stem(cfg) + repeat(layer, cfg.depth)


def stem(cfg: Any) -> list[Rule]:
    """The projection of the patches; gMLP and ResMLP have it too."""
    return first_conv("stem.proj", "patches", cfg.in_chans, bias=True)


def head(cfg: Config, task: str) -> list[Rule]:
    """The last norm, which the maps of a pyramid do not go through, and the classifier."""
    return ending(norm("norm", "norm"), task)


def ending(last: list[Rule], task: str) -> list[Rule]:
    """The rules of what is last before the classifier and of itself, as far as a task has them."""
    classifier = dense("head", "head") if task == "image-classification" else []
    return [] if task == "feature-pyramid" else last + classifier
