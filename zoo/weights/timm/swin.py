"""Swin Transformer as timm keeps it."""

from typing import Any

from zoo.models.swin import DEEP, TINY, Config, paper
from zoo.nn.patches import pair
from zoo.weights import configs
from zoo.weights.mapping import Rule, dense, first_conv, norm
from zoo.weights.positions import RelativePositions
from zoo.weights.timm import Arg
from zoo.weights.timm.vit import read_size


def _square(*sides: int) -> tuple[tuple[int, int], ...]:
    """Windows of each stage."""
    return tuple((side, side) for side in sides)


ARCHITECTURES = {
    "swin_tiny_patch4_window7_224": paper(96, TINY),
    "swin_small_patch4_window7_224": paper(96, DEEP),
    "swin_base_patch4_window7_224": paper(128, DEEP),
    "swin_base_patch4_window12_384": paper(128, DEEP, 12),
    "swin_large_patch4_window7_224": paper(192, DEEP),
    "swin_large_patch4_window12_384": paper(192, DEEP, 12),
    "swin_s3_tiny_224": Config(depths=TINY, window_size=_square(7, 7, 14, 7)),
    "swin_s3_small_224": Config(depths=DEEP, window_size=_square(14, 14, 14, 7)),
    "swin_s3_base_224": Config(depths=(2, 2, 30, 2), window_size=_square(7, 7, 14, 7)),
}


def _read_windows(value: Any, cfg: Config) -> Any:
    """One number, height and width, or one of these for each stage."""
    if not isinstance(value, tuple):
        return configs.read_size("timm's argument window_size", value)
    if len(value) == 2 and all(type(n) is int for n in value):
        return read_size(value, cfg)
    return tuple(tuple(window) if isinstance(window, list) else pair(window) for window in value)


def _same(value: Any, cfg: Config) -> Any:
    return value


ARGS = {
    "img_size": Arg("image_size", read_size, _same),
    "patch_size": Arg("patch_size", read_size, _same),
    "window_size": Arg("window_size", _read_windows, _same),
    "embed_dim": "width", "depths": "depths", "num_heads": "num_heads", "mlp_ratio": "mlp_ratio",
    "qkv_bias": "qkv_bias", "drop_rate": "head_dropout", "attn_drop_rate": "attention_dropout",
}  # fmt: skip
ONLY = {"always_partition": (False,), "proj_drop_rate": (0,)}
HARMLESS = ("weight_init", "strict_img_size", "dynamic_img_size")
FIRST_CONV, CLASSIFIER = "patch_embed.proj", "head.fc"
IGNORED = (r".*\.(relative_position_index|attn_mask)",)  # which older versions kept


def backbone(cfg: Config) -> list[Rule]:
    """Patches and stages."""
    rules = first_conv("patch_embed.proj", "stem", cfg.in_chans, bias=True)
    rules += norm("patch_embed.norm", "stem_norm")
    for stage, (depth, window) in enumerate(zip(cfg.depths, cfg.windows, strict=True)):
        theirs, ours = f"layers.{stage}", f"stage{stage + 1}"
        if stage:
            rules += norm(f"{theirs}.downsample.norm", f"{ours}_norm")
            rules += dense(f"{theirs}.downsample.reduction", f"{ours}_halve", bias=False)
        for i in range(depth):
            rules += _block(f"{theirs}.blocks.{i}", f"{ours}_block{i}", cfg, window)
    return rules


def _block(theirs: str, ours: str, cfg: Config, window: tuple[int, int]) -> list[Rule]:
    """Queries, keys and values lie in one tensor."""
    three = [f"{ours}/attention/{name}" for name in ("query", "key", "value")]
    kernels, biases = (tuple(f"{name}/{part}" for name in three) for part in ("kernel", "bias"))
    table = (f"{theirs}.attn.relative_position_bias_table", f"{ours}/attention/positions")
    return [
        *norm(f"{theirs}.norm1", f"{ours}/attention_norm"),
        RelativePositions(*table, window=window),
        Rule(f"{theirs}.attn.qkv.weight", kernels, "(n o) i -> n i o"),
        *[Rule(f"{theirs}.attn.qkv.bias", biases, "(n o) -> n o")] * cfg.qkv_bias,
        *dense(f"{theirs}.attn.proj", f"{ours}/attention/out"),
        *norm(f"{theirs}.norm2", f"{ours}/mlp_norm"),
        *dense(f"{theirs}.mlp.fc1", f"{ours}/mlp/up"),
        *dense(f"{theirs}.mlp.fc2", f"{ours}/mlp/down"),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """The last norm and the classifier."""
    if task == "feature-pyramid":
        return []
    return norm("norm", "norm") + dense("head.fc", "head") * (task == "image-classification")
