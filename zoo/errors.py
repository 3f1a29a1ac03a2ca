"""Errors a user can meet. Each says what was wrong, where, and what to do."""

import importlib
from types import ModuleType


class InputError(ValueError):
    """Bad usage, config or data; the command ends with exit code 2."""


class RunError(RuntimeError):
    """Something foreseen went wrong while running; the command ends with exit code 1."""


def require(module: str, extra: str) -> ModuleType:
    """Imports an optional dependency.

    Args:
        module: dotted name of the module, such as ``"sacrebleu"``.
        extra: the extra of this package that installs it.

    Raises:
        InputError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise InputError(
            f"{module} is not installed; install it with: pip install 'zoo-jax[{extra}]'"
        ) from None
