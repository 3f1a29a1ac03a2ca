"""When a model and its reference disagree, the first module that differs is printed."""

import contextlib

import jax
import pytest

import zoo


@pytest.fixture
def names_divergence():
    """`with names_divergence((model, variables), dump, *inputs, tolerance=...): assert ...`

    `dump` is the reference's intermediates by our module paths, as many as there are; `tolerance`
    says whether the comparison is one of float64.
    """

    @contextlib.contextmanager
    def context(ours, dump, *inputs, tolerance):
        try:
            yield
        except AssertionError:
            with jax.enable_x64(tolerance < 1e-7):
                found = zoo.inspect.first_divergence(ours, dump, *inputs, tolerance=tolerance)
            print("first divergence:", found)
            raise

    return context
