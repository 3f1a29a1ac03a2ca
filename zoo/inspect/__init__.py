"""Looking into models and runs: summary, features, divergence, canaries, the doctor."""

from typing import TYPE_CHECKING, Any

__all__ = ["first_divergence"]

if TYPE_CHECKING:
    from zoo.inspect.divergence import first_divergence


def __getattr__(name: str) -> Any:
    if name == "first_divergence":
        from zoo.inspect.divergence import first_divergence

        return first_divergence
    raise AttributeError(f"module 'zoo.inspect' has no attribute {name!r}")
