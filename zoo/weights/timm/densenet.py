"""DenseNet as timm keeps it, and torchvision with it."""

from zoo.models.densenet import Config
from zoo.weights.mapping import COUNTERS, Rule, batch_norm, conv, dense, first_conv

ARCHITECTURES = {
    "densenet121": Config(),
    "densenet169": Config(depths=(6, 12, 32, 32)),
    "densenet201": Config(depths=(6, 12, 48, 32)),
    "densenet161": Config(growth=48, depths=(6, 12, 36, 24)),
}

ARGS = {
    "growth_rate": "growth", "block_config": "depths", "bn_size": "bottleneck",
    "act_layer": "activation", "proj_drop_rate": "layer_dropout",
}  # fmt: skip
ONLY = {"stem_type": ("",), "norm_layer": ("batchnorm", "batchnorm2d")}
HARMLESS = ("memory_efficient", "aa_stem_only")  # the latter says where aa_layer, which is not here
FIRST_CONV, CLASSIFIER = "features.conv0", "classifier"
IGNORED = (COUNTERS,)
LEGACY = ((r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),)
"""Names of the weights that torchvision published first."""


def backbone(cfg: Config) -> list[Rule]:
    """Stem, blocks, what lies between them, and the last norm."""
    rules = first_conv("features.conv0", "stem/conv", cfg.in_chans)
    rules += batch_norm("features.norm0", "stem/norm")
    for block, depth in enumerate(cfg.depths, 1):
        if block > 1:
            theirs, ours = f"features.transition{block - 1}", f"transition{block - 1}"
            rules += batch_norm(f"{theirs}.norm", f"{ours}/norm1")
            rules += conv(f"{theirs}.conv", f"{ours}/conv1")
        for i in range(depth):
            theirs, ours = f"features.denseblock{block}.denselayer{i + 1}", f"block{block}_layer{i}"
            rules += batch_norm(f"{theirs}.norm1", f"{ours}/norm1")
            rules += conv(f"{theirs}.conv1", f"{ours}/conv1/conv")
            rules += batch_norm(f"{theirs}.norm2", f"{ours}/conv1/norm")
            rules += conv(f"{theirs}.conv2", f"{ours}/conv2")
    return rules + batch_norm("features.norm5", "final_norm")


def head(cfg: Config, task: str) -> list[Rule]:
    """The classifier."""
    return dense("classifier", "head") if task == "image-classification" else []
