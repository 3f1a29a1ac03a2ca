"""DINOv2 as timm keeps it: a Vision Transformer without a mask token, whose classifier is given
the class token alone."""

from dataclasses import replace
from typing import Any

from zoo.errors import InputError
from zoo.models.dinov2 import Config, gated_features
from zoo.weights.mapping import Rule, dense, norm
from zoo.weights.timm import Arg, vit

TIMM = Config(mask_token=False, global_pool="token", antialias=True, layer_scale=1e-5, rising=True)


ARCHITECTURES = {
    "vit_small_patch14_dinov2": replace(TIMM, width=384, num_heads=6),
    "vit_base_patch14_dinov2": TIMM,
    "vit_large_patch14_dinov2": replace(TIMM, width=1024, depth=24, num_heads=16),
    "vit_giant_patch14_dinov2": replace(TIMM, width=1536, depth=40, num_heads=24, gated=True),
}


def _read_hidden(ratio: Any, cfg: Config) -> int:
    """Hidden features; those of gate and value lie in one layer, together four thirds of ours."""
    if not cfg.gated:
        return vit.hidden_of(ratio, cfg.width, 4)
    hidden = vit.hidden_of(ratio, cfg.width, 0)
    if hidden % 16:
        raise InputError(
            f"config.json: timm's argument mlp_ratio {ratio!r} gives {hidden} features in gated "
            "layers; only multiples of 16 are implemented"
        )
    return 0 if hidden * 3 == 16 * cfg.width else hidden * 3 // 4


def _write_hidden(hidden: int, cfg: Config) -> float:
    """The way back."""
    if not cfg.gated:
        return vit.ratio_of(hidden, cfg.width, 4)
    return vit.ratio_of(2 * gated_features(hidden or 4 * cfg.width), cfg.width, 0)


def _read_activation(name: Any, cfg: Config) -> Any:
    if cfg.gated and name != "silu":
        raise InputError(f"config.json: gated layers have act_layer 'silu', not {name!r}")
    return name


def _write_activation(name: str, cfg: Config) -> str:
    return "silu" if cfg.gated else name


def _write_pool(pool: str, cfg: Config) -> str:
    """Without a classifier, the class token is what transformers' models give too."""
    if pool == "both" and cfg.num_classes:
        raise InputError(
            "timm has no dinov2 whose classifier looks at the class token beside the mean of the "
            "patches; save it for feature-extraction"
        )
    return "token" if pool == "both" else pool


ARGS = vit.ARGS | {
    "mlp_ratio": Arg("hidden", _read_hidden, _write_hidden),
    "act_layer": Arg("activation", _read_activation, _write_activation),
    "global_pool": Arg("global_pool", lambda pool, cfg: pool, _write_pool),
    "init_values": "layer_scale", "pos_drop_rate": "dropout",
}  # fmt: skip
ONLY = vit.ONLY
HARMLESS = vit.HARMLESS
NOT_COMPARED = ("antialias", "rising")  # images of other sizes, and training
FIRST_CONV, CLASSIFIER = vit.FIRST_CONV, vit.CLASSIFIER
IGNORED = ()

GATED = (
    Rule("blocks.{i}.mlp.fc1.weight", ("layer{i}/mlp/gate/kernel", "layer{i}/mlp/up/kernel"),
         "(n o) i -> n i o"),
    Rule("blocks.{i}.mlp.fc1.bias", ("layer{i}/mlp/gate/bias", "layer{i}/mlp/up/bias"),
         "(n o) -> n o"),
    *dense("blocks.{i}.mlp.fc2", "layer{i}/mlp/down"),
)  # fmt: skip
SCALES = (
    Rule("blocks.{i}.ls1.gamma", "layer{i}/attention_scale"),
    Rule("blocks.{i}.ls2.gamma", "layer{i}/mlp_scale"),
)


def backbone(cfg: Config) -> list[Rule]:
    """Tokens, layers and the last norm, which has another name behind the mean of the patches."""
    last = norm("fc_norm" if cfg.global_pool == "avg" else "norm", "norm")
    mlp = GATED if cfg.gated else vit.MLP
    return vit.tokens(cfg, class_token="cls_token") + vit.layers(cfg, (*mlp, *SCALES)) + last


head = vit.head
