"""Vision Transformer as timm keeps it; DeiT without distillation is one too."""

from collections.abc import Iterable
from typing import Any

from zoo.errors import InputError
from zoo.models.vit import Config
from zoo.weights import configs
from zoo.weights.mapping import Rule, dense, first_conv, norm, repeat
from zoo.weights.positions import positions
from zoo.weights.timm import Arg

WIDTHS = {"tiny": (192, 12), "small": (384, 12), "base": (768, 12), "large": (1024, 24)}
"""Width and depth by name; heads are of 64."""
PATCHES = {"tiny": (16,), "small": (16, 32, 8), "base": (16, 32, 8), "large": (16, 32, 14)}


def _of(size: str, patch: int, pixels: int, **changes: Any) -> Config:
    width, depth = WIDTHS[size]
    return Config(pixels, patch, width=width, depth=depth, num_heads=width // 64, **changes)


ARCHITECTURES = {
    **{
        f"vit_{size}_patch{patch}_{pixels}": _of(size, patch, pixels)
        for size, patches in PATCHES.items()
        for patch in patches
        for pixels in ((224, 384) if patch >= 16 else (224,))
    },
    **{f"deit_{size}_patch16_224": _of(size, 16, 224) for size in ("tiny", "small", "base")},
    "deit_base_patch16_384": _of("base", 16, 384),
    "vit_base_patch16_224_miil": _of("base", 16, 224, qkv_bias=False),
}


def read_size(value: Any, cfg: Any) -> Any:
    """A size of timm: one number, or height and width.

    Raises:
        InputError: it is neither, or no size of a picture.
    """
    value = [*value] if isinstance(value, tuple) else value
    return configs.read_size("a size of timm's arguments", value)


def hidden_of(value: Any, width: int, usual: float) -> int:
    """Hidden features by their ratio to the width; 0 for the usual ones.

    Raises:
        InputError: it is no ratio, or leaves no features.
    """
    good = not isinstance(value, bool) and isinstance(value, int | float) and 0 < value < 1e4
    if not good or not int(width * value):
        raise InputError(f"config.json: timm's argument mlp_ratio is {value!r}, no ratio")
    hidden = int(width * value)
    return 0 if hidden == int(usual * width) else hidden


def ratio_of(hidden: int, width: int, usual: float) -> float:
    """The way back."""
    found = hidden / width if hidden else usual
    if int(width * found) < hidden:
        found += 1e-9  # what the division rounded down
    return found


ARGS = {
    "img_size": Arg("image_size", read_size, lambda value, cfg: value),
    "patch_size": Arg("patch_size", read_size, lambda value, cfg: value),
    "mlp_ratio": Arg(
        "hidden",
        lambda value, cfg: hidden_of(value, cfg.width, 4),
        lambda hidden, cfg: ratio_of(hidden, cfg.width, 4),
    ),
    "embed_dim": "width", "depth": "depth", "num_heads": "num_heads", "qkv_bias": "qkv_bias",
    "act_layer": "activation", "drop_rate": "head_dropout", "pos_drop_rate": "embed_dropout",
    "attn_drop_rate": "attention_dropout",
}  # fmt: skip
ONLY = {
    "class_token": (True,), "no_embed_class": (False,), "reg_tokens": (0,), "pre_norm": (False,),
    "final_norm": (True,), "proj_bias": (True,), "qk_norm": (False,), "proj_drop_rate": (0,),
    "patch_drop_rate": (0,), "pos_embed": ("learn",), "pool_include_prefix": (False,),
    "dynamic_img_pad": (False,), "scale_attn_norm": (False,), "scale_mlp_norm": (False,),
}  # fmt: skip
HARMLESS = ("weight_init", "fix_init", "dynamic_img_size")
NOT_COMPARED = ("antialias",)  # its models take images of one size
FIRST_CONV, CLASSIFIER = "patch_embed.proj", "head"
IGNORED = ()


def backbone(cfg: Config) -> list[Rule]:
    """Tokens, layers and the last norm, which has another name behind the mean of the patches."""
    last = norm("fc_norm" if cfg.global_pool == "avg" else "norm", "norm")
    return tokens(cfg, class_token="cls_token") + layers(cfg) + last


def tokens(cfg: Any, **special: str) -> list[Rule]:
    """Special tokens, positions and patches; DeiT has them too."""
    return [
        *(Rule(theirs, f"tokens/{ours}", "1 1 d -> d") for ours, theirs in special.items()),
        positions("pos_embed", cfg, len(special)),
        *first_conv("patch_embed.proj", "tokens/patches", cfg.in_chans, bias=True),
    ]


MLP = (
    *dense("blocks.{i}.mlp.fc1", "layer{i}/mlp/up"),
    *dense("blocks.{i}.mlp.fc2", "layer{i}/mlp/down"),
)


def layers(cfg: Any, mlp: Iterable[Rule] = MLP) -> list[Rule]:
    """The layers; queries, keys and values lie in one tensor."""
    theirs, ours = "blocks.{i}", "layer{i}"
    three = [f"{ours}/attention/{name}" for name in ("query", "key", "value")]
    kernels, biases = (tuple(f"{name}/{part}" for name in three) for part in ("kernel", "bias"))
    return repeat(
        [
            *norm(f"{theirs}.norm1", f"{ours}/attention_norm"),
            Rule(f"{theirs}.attn.qkv.weight", kernels, "(n o) i -> n i o"),
            *[Rule(f"{theirs}.attn.qkv.bias", biases, "(n o) -> n o")] * cfg.qkv_bias,
            *dense(f"{theirs}.attn.proj", f"{ours}/attention/out"),
            *norm(f"{theirs}.norm2", f"{ours}/mlp_norm"),
            *mlp,
        ],
        cfg.depth,
    )


def head(cfg: Config, task: str) -> list[Rule]:
    """The classifier."""
    return dense("head", "head") if task == "image-classification" else []
