"""gMLP as timm keeps it."""

from zoo.models.gmlp import Config
from zoo.weights.mapping import Rule, dense, norm, repeat
from zoo.weights.timm import mlp_mixer

ARCHITECTURES = {
    "gmlp_s16_224": Config(),
    "gmlp_ti16_224": Config(width=128),
    "gmlp_b16_224": Config(width=512),
}

ARGS = mlp_mixer.SHARED
ONLY = mlp_mixer.ONLY
HARMLESS = mlp_mixer.HARMLESS
FIRST_CONV, CLASSIFIER = mlp_mixer.FIRST_CONV, mlp_mixer.CLASSIFIER
IGNORED = ()


def backbone(cfg: Config) -> list[Rule]:
    """Patches and layers."""
    theirs, ours = "blocks.{i}", "layer{i}"
    layer = [
        *norm(f"{theirs}.norm", f"{ours}/norm"),
        *dense(f"{theirs}.mlp_channels.fc1", f"{ours}/up"),
        *norm(f"{theirs}.mlp_channels.gate.norm", f"{ours}/gate/norm"),
        *dense(f"{theirs}.mlp_channels.gate.proj", f"{ours}/gate/places"),
        *dense(f"{theirs}.mlp_channels.fc2", f"{ours}/down"),
    ]
    return mlp_mixer.stem(cfg) + repeat(layer, cfg.depth)


def head(cfg: Config, task: str) -> list[Rule]:
    """The last norm, which the maps of a pyramid do not go through, and the classifier."""
    return mlp_mixer.ending(norm("norm", "norm"), task)
