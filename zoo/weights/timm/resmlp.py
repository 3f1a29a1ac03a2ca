"""ResMLP as timm keeps it."""

from zoo.models.resmlp import Config
from zoo.weights.mapping import Rule, dense, repeat
from zoo.weights.timm import mlp_mixer

ARCHITECTURES = {
    "resmlp_12_224": Config(),
    "resmlp_24_224": Config(depth=24, layer_scale=1e-5),
    "resmlp_36_224": Config(depth=36, layer_scale=1e-6),
    "resmlp_big_24_224": Config(patch_size=8, width=768, depth=24, layer_scale=1e-6),
}

ARGS = mlp_mixer.SHARED
ONLY = mlp_mixer.ONLY
HARMLESS = mlp_mixer.HARMLESS
NOT_COMPARED = ("layer_scale",)  # what its factors start at, which are read
FIRST_CONV, CLASSIFIER = mlp_mixer.FIRST_CONV, mlp_mixer.CLASSIFIER
IGNORED = ()


def backbone(cfg: Config) -> list[Rule]:
    """Patches and layers."""
    theirs, ours = "blocks.{i}", "layer{i}"
    layer = [
        *affine(f"{theirs}.norm1", f"{ours}/token_affine"),
        *dense(f"{theirs}.linear_tokens", f"{ours}/token_linear"),
        Rule(f"{theirs}.ls1", f"{ours}/token_scale"),
        *affine(f"{theirs}.norm2", f"{ours}/channel_affine"),
        *dense(f"{theirs}.mlp_channels.fc1", f"{ours}/channel_mlp/up"),
        *dense(f"{theirs}.mlp_channels.fc2", f"{ours}/channel_mlp/down"),
        Rule(f"{theirs}.ls2", f"{ours}/channel_scale"),
    ]
    return mlp_mixer.stem(cfg) + repeat(layer, cfg.depth)


def affine(theirs: str, ours: str) -> list[Rule]:
    """Factor and summand of each channel."""
    return [
        Rule(f"{theirs}.alpha", f"{ours}/scale", "1 1 d -> d"),
        Rule(f"{theirs}.beta", f"{ours}/bias", "1 1 d -> d"),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """What ends the network, which the maps of a pyramid do not go through, and the classifier."""
    return mlp_mixer.ending(affine("norm", "affine"), task)
