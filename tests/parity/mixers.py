"""timm's MLP-Mixer, gMLP and ResMLP made small: its functions fix their sizes by name."""

import contextlib
from collections.abc import Iterator
from typing import Any

from pictures import timm
from timm.layers import GatedMlp
from timm.models import _registry, mlp_mixer

from zoo.models import registry
from zoo.weights.timm.vit import ratio_of

BLOCKS = {
    "mlp_mixer": {},
    "gmlp": dict(block_layer=mlp_mixer.SpatialGatingBlock, mlp_layer=GatedMlp),
    "resmlp": dict(block_layer=mlp_mixer.ResBlock, norm_layer=mlp_mixer.Affine),
}
USUAL = {"mlp_mixer": (0.5, 4.0), "gmlp": 6, "resmlp": 4}


def arguments(cfg: Any) -> dict[str, Any]:
    """Sizes of our Config as arguments of timm's class."""
    family = registry.family(cfg)
    ratio = USUAL[family]
    if family != "mlp_mixer":  # whose ratios are arguments
        ratio = ratio_of(cfg.hidden, cfg.width, ratio)
    sizes = dict(patch_size=cfg.patch_size, num_blocks=cfg.depth, embed_dim=cfg.width)
    return BLOCKS[family] | sizes | {"mlp_ratio": ratio}


@contextlib.contextmanager
def smaller(architecture: str, cfg: Any) -> Iterator[None]:
    """timm while an architecture has the sizes of a Config; as it is where that is None."""
    if cfg is None:
        yield
        return
    assert timm.is_model(architecture)

    def make(pretrained: bool = False, **given: Any) -> Any:
        return mlp_mixer._create_mixer(architecture, pretrained, **arguments(cfg) | given)

    before = _registry._model_entrypoints[architecture]
    _registry._model_entrypoints[architecture] = make
    try:
        yield
    finally:
        _registry._model_entrypoints[architecture] = before
