"""Looking into models and runs: costs, features, attribution, patching, divergence, the doctor."""

import importlib
from typing import TYPE_CHECKING, Any

_PLACES = {
    "activation_patching": "patching",
    "attention_rollout": "rollout",
    "first_divergence": "divergence",
    "grad_cam": "attribution",
    "input_gradient": "attribution",
    "integrated_gradients": "attribution",
    "logit_lens": "patching",
    "patched_apply": "patching",
    "smooth_grad": "attribution",
}

__all__ = [
    "activation_patching", "attention_rollout", "first_divergence", "grad_cam", "input_gradient",
    "integrated_gradients", "logit_lens", "patched_apply", "smooth_grad",
]  # fmt: skip

if TYPE_CHECKING:
    from zoo.inspect.attribution import (
        grad_cam,
        input_gradient,
        integrated_gradients,
        smooth_grad,
    )
    from zoo.inspect.divergence import first_divergence
    from zoo.inspect.patching import activation_patching, logit_lens, patched_apply
    from zoo.inspect.rollout import attention_rollout


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"zoo.inspect.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'zoo.inspect' has no attribute {name!r}")
