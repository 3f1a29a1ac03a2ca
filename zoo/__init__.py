"""Zoo: a functional model zoo for JAX.

The verbs are imported when first used, so that ``import zoo`` itself imports nothing heavy.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from zoo import known_bad

__version__ = "0.1.0"

_VERBS = {
    "list_models": "zoo.models.registry",
    "create_model": "zoo.models.registry",
    "init": "zoo.models.registry",
    "summary": "zoo.inspect.summary",
    "features": "zoo.inspect.features",
    "from_pretrained": "zoo.pretrained",
    "save_pretrained": "zoo.pretrained",
    "load_tokenizer": "zoo.data.tokenizer",
    "load_processor": "zoo.data.processor",
    "generate": "zoo.inference.generate",
}

_PARTS = ("inspect", "surgery")

__all__ = [
    "__version__", "create_model", "features", "from_pretrained", "generate", "init", "inspect",
    "list_models", "load_processor", "load_tokenizer", "save_pretrained", "summary", "surgery",
]  # fmt: skip

if TYPE_CHECKING:
    from zoo import inspect, surgery
    from zoo.data.processor import load_processor
    from zoo.data.tokenizer import load_tokenizer
    from zoo.inference.generate import generate
    from zoo.inspect.features import features
    from zoo.inspect.summary import summary
    from zoo.models.registry import create_model, init, list_models
    from zoo.pretrained import from_pretrained, save_pretrained


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(_VERBS[name]), name)
    if name in _PARTS:
        return importlib.import_module(f"zoo.{name}")
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_VERBS, *_PARTS})


if _complaint := known_bad.complaint():
    warnings.warn(_complaint, RuntimeWarning, stacklevel=2)
