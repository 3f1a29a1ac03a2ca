"""DINOv2 as transformers keeps it (`Dinov2Model` and `Dinov2ForImageClassification`)."""

from typing import Any

from zoo.errors import InputError
from zoo.models.dinov2 import Config
from zoo.weights import vit
from zoo.weights.configs import (
    check_values,
    from_activation,
    read_size,
    to_activation,
    typed,
    write_size,
)
from zoo.weights.mapping import Rule, dense, norm, repeat

MODEL_TYPES = ("dinov2",)
ARCHITECTURES = {
    "Dinov2Model": "feature-extraction",
    "Dinov2ForImageClassification": "image-classification",
}
PREFIX = "dinov2."
IGNORED = (r"(dinov2\.)?embeddings\.mask_token",)  # where the Config has none
MODULES = (*vit.ATTENTION, (r"mlp\.weights_out", "mlp.down_proj"))

FIELDS = {
    "num_channels": "in_chans", "hidden_size": "width", "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads", "layer_norm_eps": "epsilon", "qkv_bias": "qkv_bias",
    "attention_probs_dropout_prob": "attention_dropout", "hidden_dropout_prob": "dropout",
    "drop_path_rate": "drop_path", "layerscale_value": "layer_scale",
    "use_swiglu_ffn": "gated", "use_mask_token": "mask_token",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
OWN = (
    "image_size", "patch_size", "mlp_ratio", "stage_names", "out_features", "out_indices",
    "apply_layernorm", "reshape_hidden_states",
)  # fmt: skip
"""Fields read by themselves, and those of the backbone of other models."""
DEFAULTS = {"image_size": 224, "patch_size": 14}
"""Of transformers."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    known: dict[str, Any] = {"num_classes": 2}  # which is not written where it is 2
    known |= check_values(values, Config, FIELDS, {}, OWN)
    for theirs, default in DEFAULTS.items():
        known[theirs] = read_size(theirs, values.get(theirs, default))
    if "hidden_act" in values:
        known["activation"] = to_activation(values["hidden_act"])
    ratio = typed("mlp_ratio", values.get("mlp_ratio", 4), float)
    known["hidden"] = 0 if ratio == 4 else int(known.get("width", Config.width) * ratio)
    return Config(**known)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels.

    Raises:
        InputError: it has no such model.
    """
    hidden = cfg.hidden or 4 * cfg.width
    if hidden % cfg.width:
        raise InputError(
            f"transformers has DINOv2 only with feed-forward layers of a multiple of the width, not"
            f" hidden {cfg.hidden} with width {cfg.width}"
        )
    if task == "image-classification" and cfg.global_pool != "both":
        raise InputError(
            f"transformers' classifier looks at the class token beside the mean of the patches, "
            f"not at global_pool {cfg.global_pool!r}"
        )
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "dinov2", "hidden_act": from_activation(cfg.activation),
        "image_size": write_size(cfg.image_size), "patch_size": write_size(cfg.patch_size),
        "mlp_ratio": hidden // cfg.width,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Everything but the head, without the prefix."""
    mask = [Rule("embeddings.mask_token", "tokens/mask_token", "1 d -> d")] * cfg.mask_token
    return vit.tokens(cfg, "class_token") + mask + layers(cfg) + norm("layernorm", "norm")


def layers(cfg: Config) -> list[Rule]:
    """The layers."""
    layer = "encoder.layer.{i}"
    mlp = [
        *dense(f"{layer}.mlp.fc1", "layer{i}/mlp/up"),
        *dense(f"{layer}.mlp.fc2", "layer{i}/mlp/down"),
    ]
    if cfg.gated:
        both = ("layer{i}/mlp/gate", "layer{i}/mlp/up")
        kernels, biases = (tuple(f"{name}/{part}" for name in both) for part in ("kernel", "bias"))
        mlp = [
            Rule(f"{layer}.mlp.weights_in.weight", kernels, "(n o) i -> n i o"),
            Rule(f"{layer}.mlp.weights_in.bias", biases, "(n o) -> n o"),
            *dense(f"{layer}.mlp.weights_out", "layer{i}/mlp/down"),
        ]
    return repeat(
        [
            *norm(f"{layer}.norm1", "layer{i}/attention_norm"),
            *vit.attention(layer, cfg.qkv_bias),
            Rule(f"{layer}.layer_scale1.lambda1", "layer{i}/attention_scale"),
            *norm(f"{layer}.norm2", "layer{i}/mlp_norm"),
            *mlp,
            Rule(f"{layer}.layer_scale2.lambda1", "layer{i}/mlp_scale"),
        ],
        cfg.depth,
    )


def head(cfg: Config, task: str) -> list[Rule]:
    """The classifier, which sees the class token beside the mean of the patches."""
    return dense("classifier", "head") if task == "image-classification" else []
