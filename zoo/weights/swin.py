"""Swin Transformer as transformers keeps it (`SwinModel` and `SwinForImageClassification`)."""

from typing import Any

from zoo.errors import InputError
from zoo.models.swin import Config
from zoo.weights.configs import (
    check_values,
    from_activation,
    read_size,
    to_activation,
    typed,
    write_size,
)
from zoo.weights.mapping import Rule, dense, first_conv, norm

MODEL_TYPES = ("swin",)
ARCHITECTURES = {
    "SwinModel": "feature-extraction",
    "SwinForImageClassification": "image-classification",
}
PREFIX = "swin."
IGNORED = (
    r".*\.attention\.self\.relative_position_index",  # which older versions kept
    r"(swin\.)?embeddings\.mask_token",  # of pre-training
)

FIELDS = {
    "num_channels": "in_chans", "embed_dim": "width", "mlp_ratio": "mlp_ratio",
    "qkv_bias": "qkv_bias", "hidden_dropout_prob": "dropout", "drop_path_rate": "drop_path",
    "attention_probs_dropout_prob": "attention_dropout", "layer_norm_eps": "epsilon",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
ONLY = {"use_absolute_embeddings": (False,)}
OWN = (
    "depths", "num_heads", "window_size", "image_size", "patch_size", "encoder_stride",
    "hidden_size", "num_layers", "num_hidden_layers", "out_features", "out_indices", "stage_names",
)  # fmt: skip
"""Fields read by themselves, those that follow from others, and those of other classes."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    known: dict[str, Any] = {"num_classes": 2}  # which is not written where it is 2
    known |= check_values(values, Config, FIELDS, ONLY, OWN)
    for name in ("depths", "num_heads"):
        if name in values:
            if not isinstance(values[name], list):
                raise InputError(f"config.json: {name} {values[name]!r} is no list of numbers")
            known[name] = tuple(values[name])
    if "window_size" in values:
        known["window_size"] = typed("window_size", values["window_size"], int)
    for name in ("image_size", "patch_size"):
        if name in values:
            known[name] = read_size(name, values[name])
    if "hidden_act" in values:
        known["activation"] = to_activation(values["hidden_act"])
    return Config(**known, as_transformers=True)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels.

    Raises:
        InputError: it has no such model.
    """
    windows = {*cfg.windows}
    ((height, width),) = windows if len(windows) == 1 else ((0, 1),)
    if height != width or not cfg.as_transformers or cfg.global_pool != "avg":
        raise InputError(
            "transformers has Swin only as_transformers, with one square window_size and "
            f"global_pool 'avg', not with {cfg.as_transformers}, {cfg.window_size} and "
            f"{cfg.global_pool!r}"
        )
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "swin", "hidden_act": from_activation(cfg.activation),
        "depths": list(cfg.depths), "num_heads": list(cfg.num_heads), "window_size": height,
        "image_size": write_size(cfg.image_size), "patch_size": write_size(cfg.patch_size),
        "use_absolute_embeddings": False,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Patches and stages, without the prefix; a stage ends with what the next one begins with."""
    rules = first_conv("embeddings.patch_embeddings.projection", "stem", cfg.in_chans, bias=True)
    rules += norm("embeddings.norm", "stem_norm")
    for stage, depth in enumerate(cfg.depths):
        theirs, ours = f"encoder.layers.{stage}", f"stage{stage + 1}"
        if stage:
            before = f"encoder.layers.{stage - 1}.downsample"
            rules += norm(f"{before}.norm", f"{ours}_norm")
            rules += dense(f"{before}.reduction", f"{ours}_halve", bias=False)
        for i in range(depth):
            rules += _block(f"{theirs}.blocks.{i}", f"{ours}_block{i}", cfg)
    return rules


def _block(theirs: str, ours: str, cfg: Config) -> list[Rule]:
    inner, attention = f"{theirs}.attention.self", f"{ours}/attention"
    return [
        *norm(f"{theirs}.layernorm_before", f"{ours}/attention_norm"),
        Rule(f"{inner}.relative_position_bias_table", f"{attention}/positions"),
        *dense(f"{inner}.query", f"{attention}/query", cfg.qkv_bias),
        *dense(f"{inner}.key", f"{attention}/key", cfg.qkv_bias),
        *dense(f"{inner}.value", f"{attention}/value", cfg.qkv_bias),
        *dense(f"{theirs}.attention.output.dense", f"{attention}/out"),
        *norm(f"{theirs}.layernorm_after", f"{ours}/mlp_norm"),
        *dense(f"{theirs}.intermediate.dense", f"{ours}/mlp/up"),
        *dense(f"{theirs}.output.dense", f"{ours}/mlp/down"),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """The last norm, which lies under the prefix, and the classifier."""
    if task == "feature-pyramid":
        return []
    last = norm("{prefix}layernorm", "norm")
    return last + dense("classifier", "head") * (task == "image-classification")
