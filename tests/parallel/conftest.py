"""Compiled programs are kept for the length of the session, as in tests/training."""

from compile_cache import compiled_once  # noqa: F401 (a fixture of every test here)
