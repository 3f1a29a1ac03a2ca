"""DeiT with a distillation token as timm keeps it."""

from zoo.models.deit import Config
from zoo.weights.mapping import Rule, dense, norm
from zoo.weights.timm import vit

ARCHITECTURES = {
    "deit_base_distilled_patch16_224": Config(),
    "deit_base_distilled_patch16_384": Config(image_size=384),
    "deit_small_distilled_patch16_224": Config(width=384, num_heads=6),
    "deit_tiny_distilled_patch16_224": Config(width=192, num_heads=3),
}

ARGS = vit.ARGS
ONLY = vit.ONLY | {"global_pool": ("token",)}
HARMLESS = vit.HARMLESS
NOT_COMPARED = ("antialias", "averaged")
FIRST_CONV, CLASSIFIER = "patch_embed.proj", ("head", "head_dist")
IGNORED = ()


def backbone(cfg: Config) -> list[Rule]:
    """Tokens, layers and the last norm."""
    special = {"class_token": "cls_token", "distillation_token": "dist_token"}
    return vit.tokens(cfg, **special) + vit.layers(cfg) + norm("norm", "norm")


def head(cfg: Config, task: str) -> list[Rule]:
    """The classifiers."""
    if task == "feature-extraction":
        return []
    return dense("head", "head") + dense("head_dist", "distillation_head") * cfg.distilled
