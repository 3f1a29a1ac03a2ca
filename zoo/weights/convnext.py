"""ConvNeXt as transformers keeps it (`ConvNextModel`, `ConvNextForImageClassification`)."""

from typing import Any

from zoo.errors import InputError
from zoo.models.convnext import Config
from zoo.weights.configs import check_values, from_activation, read_size, to_activation
from zoo.weights.mapping import Rule, conv, dense, first_conv, norm, repeat

MODEL_TYPES = ("convnext",)
ARCHITECTURES = {
    "ConvNextModel": "feature-extraction",
    "ConvNextForImageClassification": "image-classification",
}
PREFIX = "convnext."
IGNORED = ()

FIELDS = {
    "num_channels": "in_chans", "layer_norm_eps": "final_epsilon", "drop_path_rate": "drop_path",
    "layer_scale_init_value": "layer_scale",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
OWN = (
    "depths", "hidden_sizes", "num_stages", "num_hidden_layers", "patch_size", "image_size",
    "out_features", "out_indices", "stage_names",
)  # fmt: skip
"""Fields read by themselves, and those of their backbone class."""
DEFAULTS = {"final_epsilon": 1e-12, "num_classes": 2}
"""Of transformers, where they are not ours."""
PLAIN = ("kernel_size", "epsilon", "response_norm", "global_pool")
"""Fields without a counterpart, which must be as they are by default."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    known: dict[str, Any] = DEFAULTS | check_values(values, Config, FIELDS, {}, OWN)
    if known["final_epsilon"] <= 0:
        raise InputError("config.json: layer_norm_eps must be above 0")
    if known["final_epsilon"] == Config.epsilon:
        known["final_epsilon"] = 0.0
    for theirs, ours in (("depths", "depths"), ("hidden_sizes", "widths")):
        if theirs in values:
            if not isinstance(values[theirs], list):
                raise InputError(f"config.json: {theirs} {values[theirs]!r} is no list of numbers")
            known[ours] = tuple(values[theirs])
    stages = len(known.get("depths", Config.depths))
    for theirs in ("num_stages", "num_hidden_layers"):
        if values.get(theirs, stages) != stages:
            told = f"{values[theirs]!r}, and depths has {stages}"
            raise InputError(f"config.json: {theirs} is {told}")
    if "hidden_act" in values:
        known["activation"] = to_activation(values["hidden_act"])
    if "patch_size" in values:
        known["patch_size"] = read_size("patch_size", values["patch_size"])
    size = read_size("image_size", values.get("image_size", Config.image_size))
    if isinstance(size, int):  # which is an example's alone
        known["image_size"] = size
    return Config(**known)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels.

    Raises:
        InputError: their ConvNeXt has no such thing.
    """
    other = [name for name in PLAIN if getattr(cfg, name) != getattr(Config(), name)]
    if other:
        told = ", ".join(f"{name} {getattr(cfg, name)!r}" for name in other)
        raise InputError(f"transformers has no convnext with {told}")
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "convnext", "hidden_act": from_activation(cfg.activation),
        "depths": list(cfg.depths), "hidden_sizes": list(cfg.widths),
        "num_stages": len(cfg.depths), "patch_size": cfg.patch_size, "image_size": cfg.image_size,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
        "layer_norm_eps": cfg.final_epsilon or cfg.epsilon,
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Stem and stages, without the prefix."""
    rules = first_conv("embeddings.patch_embeddings", "stem", cfg.in_chans, bias=True)
    rules += norm("embeddings.layernorm", "stem_norm")
    for stage, depth in enumerate(cfg.depths):
        theirs, ours = f"encoder.stages.{stage}", f"stage{stage + 1}"
        if stage:
            rules += norm(f"{theirs}.downsampling_layer.0", f"{ours}_norm")
            rules += conv(f"{theirs}.downsampling_layer.1", f"{ours}_halve", bias=True)
        rules += repeat(_block(f"{theirs}.layers.{{i}}", f"{ours}_block{{i}}", cfg), depth)
    return rules


def _block(theirs: str, ours: str, cfg: Config) -> list[Rule]:
    scale = Rule(f"{theirs}.layer_scale_parameter", f"{ours}/scale")
    return [
        *conv(f"{theirs}.dwconv", f"{ours}/conv", bias=True),
        *norm(f"{theirs}.layernorm", f"{ours}/norm"),
        *dense(f"{theirs}.pwconv1", f"{ours}/up"),
        *dense(f"{theirs}.pwconv2", f"{ours}/down"),
        *[scale] * bool(cfg.layer_scale),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """The last norm, which lies under the prefix, and the classifier."""
    if task == "feature-pyramid":
        return []
    last = norm("{prefix}layernorm", "norm")
    return last + (dense("classifier", "head") if task == "image-classification" else [])
