"""Versions of JAX that compute wrong numbers: `import zoo` and `zoo doctor` say so."""

import importlib.metadata

JAX = {"0.10.2": "computes wrong numbers on CPU (github.com/jax-ml/jax/issues/39103)"}


def complaint() -> str | None:
    """One sentence if a version known to be bad is installed. JAX itself is not imported."""
    for package in ("jaxlib", "jax"):
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # vendored, or on the path without metadata
            continue
        if version in JAX:
            return (
                f"{package} {version} {JAX[version]}; install another version of jax and jaxlib, "
                "such as 0.10.1 or 0.12"
            )
    return None
