"""The errors that cards state: outputs of tiny models of the references, computed again."""

import parity_errors
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.inspect import card as cards

FEW = ("BertForTokenClassification", "timm/resnet18", "torch/rnn lstm-forward")
"""Those of the quick run."""


def test_every_frozen_model_of_a_reference_is_compared():
    compared = sum(one.models for rows in cards.parity().values() for one in rows)
    assert compared == len(parity_errors.models()), "stale: python tests/parity_errors.py"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.full] * (name not in FEW))
        for name in parity_errors.models()
    ],
)
def test_errors_are_what_the_cards_state(name):
    family, reference, found = parity_errors.errors(name)
    (stated,) = [one for one in cards.parity()[family] if one.reference == reference]
    for dtype, error in found.items():
        assert stated.allows(dtype, error), (dtype, error, stated)
    assert not stated.allows("bfloat16", 3 * stated.bfloat16)
