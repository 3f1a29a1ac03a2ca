"""timm without torchvision, which has no CPU build that goes with the torch of this suite.

timm asks torchvision for names at import, for its data pipelines and one frozen norm; its models
need none of them. `load()` gives timm with modules in their place whose every name is an empty
class.
"""

import importlib
import sys
import types

NAMES = (
    "torchvision", "torchvision.datasets", "torchvision.datasets.folder", "torchvision.models",
    "torchvision.models.feature_extraction", "torchvision.ops", "torchvision.ops.misc",
    "torchvision.transforms", "torchvision.transforms.functional",
)  # fmt: skip


class StandIn(types.ModuleType):
    """A module that has every name."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        known = {"BILINEAR": "bilinear", "NEAREST": "nearest", "BICUBIC": "bicubic"}
        made = type(name, (), known | {"BOX": "box", "HAMMING": "hamming", "LANCZOS": "lanczos"})
        setattr(self, name, made)
        return made


def load() -> types.ModuleType:
    """The module timm."""
    for name in NAMES:
        if name not in sys.modules:
            sys.modules[name] = StandIn(name)
    for name in NAMES[1:]:
        parent, _, last = name.rpartition(".")
        if isinstance(sys.modules[parent], StandIn):
            setattr(sys.modules[parent], last, sys.modules[name])
    try:
        return importlib.import_module("timm")
    finally:  # transformers asks whether torchvision is there
        for name in NAMES:
            if isinstance(sys.modules[name], StandIn):
                del sys.modules[name]
