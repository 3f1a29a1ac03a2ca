"""ResNet as transformers keeps it (`ResNetModel`, `ResNetForImageClassification`)."""

from typing import Any

from zoo.errors import InputError
from zoo.models.resnet import Config
from zoo.weights.configs import check_values
from zoo.weights.mapping import COUNTERS, Rule, batch_norm, conv, dense, first_conv

MODEL_TYPES = ("resnet",)
ARCHITECTURES = {
    "ResNetModel": "feature-extraction",
    "ResNetForImageClassification": "image-classification",
}
PREFIX = "resnet."
IGNORED = (COUNTERS,)

FIELDS = {
    "num_channels": "in_chans", "embedding_size": "stem_width", "layer_type": "block",
    "downsample_in_bottleneck": "stride_in_1x1",
    "downsample_in_first_stage": "stride_in_first_stage",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
ONLY = {"hidden_act": ("relu",)}
"""Another one would hold after the sum of a block, and ReLU still within it."""
BACKBONE = ("out_features", "out_indices", "stage_names")
"""Which maps their backbone class returns; of no use to these heads."""
PLAIN = ("groups", "group_width", "activation", "global_pool", "folded")
"""Fields without a counterpart, which must be as they are by default."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    own = ("depths", "hidden_sizes", *BACKBONE)
    known = check_values(values, Config, FIELDS, ONLY, own)
    for theirs, ours in (("depths", "depths"), ("hidden_sizes", "widths")):
        if theirs in values:
            if not isinstance(values[theirs], list):
                raise InputError(f"config.json: {theirs} {values[theirs]!r} is no list of numbers")
            known[ours] = tuple(values[theirs])
    known = {"num_classes": 2, **known}  # which is not written where it is 2
    return Config(**known)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels.

    Raises:
        InputError: their ResNet has no such thing.
    """
    other = [name for name in PLAIN if getattr(cfg, name) != getattr(Config(), name)]
    if other:
        told = ", ".join(f"{name} {getattr(cfg, name)!r}" for name in other)
        raise InputError(f"transformers has no resnet with {told}")
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": "resnet", "hidden_act": cfg.activation,
        "depths": list(cfg.depths), "hidden_sizes": list(cfg.widths),
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Stem and stages, without the prefix."""
    rules = first_conv("embedder.embedder.convolution", "stem/conv", cfg.in_chans)
    rules += batch_norm("embedder.embedder.normalization", "stem/norm")
    before = cfg.stem_width
    for stage, (depth, width) in enumerate(zip(cfg.depths, cfg.widths, strict=True)):
        halves = stage > 0 or cfg.stride_in_first_stage
        for i in range(depth):
            theirs = f"encoder.stages.{stage}.layers.{i}"
            ours = f"stage{stage + 1}_block{i}"
            if i == 0 and (before != width or halves):
                rules += _both(f"{theirs}.shortcut", f"{ours}/shortcut")
            for number in range(2 if cfg.block == "basic" else 3):
                rules += _both(f"{theirs}.layer.{number}", f"{ours}/conv{number + 1}")
        before = width
    return rules


def head(cfg: Config, task: str) -> list[Rule]:
    """The classifier."""
    return dense("classifier.1", "head") if task == "image-classification" else []


def _both(theirs: str, ours: str) -> list[Rule]:
    """A convolution and its norm."""
    return conv(f"{theirs}.convolution", f"{ours}/conv") + batch_norm(
        f"{theirs}.normalization", f"{ours}/norm"
    )
