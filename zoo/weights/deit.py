"""DeiT as transformers keeps it (`DeiTModel` and its heads)."""

from typing import Any

from zoo.models.deit import SPECIAL, Config
from zoo.weights import vit
from zoo.weights.mapping import Rule, dense, norm

MODEL_TYPES = ("deit",)
BOTH = "DeiTForImageClassificationWithTeacher"
ARCHITECTURES = {
    "DeiTModel": "feature-extraction",
    "DeiTForImageClassification": "image-classification",
    BOTH: "image-classification",
}
PREFIX = "deit."
IGNORED = (
    r"(deit\.)?pooler\.dense\.(weight|bias)",  # where the head does not use it
    r"(deit\.)?embeddings\.mask_token",  # of pre-training
)
MODULES = vit.MODULES


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json; it has two heads only where both were saved.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    both = values.get("architectures") == [BOTH]
    return Config(**vit.read_fields(values, Config), distilled=both)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels. Rates of dropout that
    it does not have are left out.

    Raises:
        InputError: it has no such model.
    """
    name = next(name for name, of in ARCHITECTURES.items() if of == task)
    if task == "image-classification" and cfg.distilled:
        name = BOTH
    return {"architectures": [name], "model_type": "deit", **vit.write_fields(cfg, task)}


def backbone(cfg: Config) -> list[Rule]:
    """Everything but pooler and heads, without the prefix."""
    layers = vit.layers(cfg.depth, cfg.qkv_bias)
    return vit.tokens(cfg, *SPECIAL) + layers + norm("layernorm", "norm")


def head(cfg: Config, task: str) -> list[Rule]:
    """Pooler or classifiers; names without the prefix where they lie under it."""
    if task == "feature-extraction":
        return dense("{prefix}pooler.dense", "pooler") if cfg.pooler else []
    if not cfg.distilled:
        return dense("classifier", "head")
    second = dense("distillation_classifier", "distillation_head")
    return dense("cls_classifier", "head") + second
