"""A model some of whose dense layers compute otherwise, while all else stays the model's own."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from zoo.nn.dense import Dense


class Wrapped(nn.Module):
    """Inputs, outputs, Config and the paths of parameters are the model's own.

    Methods beside ``__call__`` are the model's as they are; ``init_cache`` needs no other.
    """

    model: nn.Module

    # One that is wrapped itself keeps its name: two called "model" cannot share a scope.
    preserve_adopted_names = True

    def setup(self) -> None:
        nn.share_scope(self, self.model)

    def init_cache(self, batch: int, length: int) -> Any:
        """The model's own."""
        return self.model.init_cache(batch, length)  # type: ignore[attr-defined]

    @property
    def cfg(self) -> Any:
        """The model's Config."""
        return self.model.cfg  # type: ignore[attr-defined]

    @property
    def task(self) -> str:
        """The model's task."""
        return self.model.task  # type: ignore[attr-defined]

    @property
    def dtype(self) -> Any:
        """Of the model's computation."""
        return self.model.dtype  # type: ignore[attr-defined]

    @property
    def param_dtype(self) -> Any:
        """Of the model's parameters."""
        return self.model.param_dtype  # type: ignore[attr-defined]


def is_dense(context: nn.module.InterceptorContext) -> bool:
    """Whether an intercepted call is that of a dense layer, ours or Flax's."""
    return isinstance(context.module, (Dense, nn.Dense)) and context.method_name == "__call__"


def dense_layers(model: nn.Module, variables: Mapping[str, Any], *inputs: Any) -> set[str]:
    """Paths of the dense layers that a model calls; nothing is computed.

    Args:
        model: unbound module.
        variables: of it.
        *inputs: example arrays, where the model has no ``cfg.inputs()``.
    """
    seen: set[str] = set()

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if is_dense(context):
            seen.add("/".join(context.module.path))
        return call(*args, **kwargs)

    keywords = {} if inputs else model.cfg.inputs()  # type: ignore[attr-defined]
    with nn.intercept_methods(note):
        jax.eval_shape(model.apply, variables, *inputs, **keywords)
    return seen
