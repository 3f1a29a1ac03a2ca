"""Cards: every figure on them and on the page of all models is counted or measured again."""

import dataclasses
import re
from pathlib import Path

import jax
import pytest

from zoo.errors import InputError
from zoo.inspect import card as cards
from zoo.inspect.measure import measure
from zoo.models import registry

NAMES = registry.list_models()
SMALL = [name for name in NAMES if (registry.find(name).params or 0) < 250_000]
REGENERATE = "zoo card '*' --format page > docs/models.md"


@pytest.fixture(scope="module")
def page():
    return (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


def _rows(text):
    """Lines of the tables by the model's name."""
    return re.findall(r"^(\| `([^`]+)` \| .*\n)", text, re.MULTILINE)


def test_the_page_has_every_model_once_with_what_the_sizes_say(page):
    counted, measured = page.split("\n## Measured\n")
    assert counted.startswith(cards.PAGE)
    rows = _rows(counted)
    names = [name for _, name in rows]
    assert sorted(names) == NAMES, f"the page is stale: {REGENERATE}"
    for line, name in rows:
        size = registry.find(name)
        cells = [cell.strip() for cell in line.strip("|\n ").split(" | ")]
        assert size.params is None or cells[1] == f"{size.params:,}"
        assert cells[-3:] == [size.licence, size.metric, size.source], f"stale: {REGENERATE}"
    there = {name: [line for line, other in _rows(measured) if other == name] for name in NAMES}
    assert {name for name, lines in there.items() if lines} == set(cards.measured())


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.full] * (n not in SMALL)) for n in NAMES]
)
def test_what_the_page_counts_is_true(name, page):
    found = cards.card(name)
    assert cards.row(found) in page, f"the page is stale: {REGENERATE}"
    assert found.published in (None, found.parameters)
    assert cards.measured_rows(found) in page, f"the page is stale: {REGENERATE}"


@pytest.mark.full
def test_the_page_is_what_the_command_writes(page):
    assert cards.page(NAMES) == page


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.full] * (n not in SMALL)) for n in cards.measured()],
)
def test_what_was_measured_is_measured_again(name):
    known = [cards.Measured(**row) for row in cards.measured()[name]]
    same = [k for k in known if (k.jax, k.platform) == (jax.__version__, jax.default_backend())]
    if not same:
        pytest.skip(f"nothing was measured with jax {jax.__version__}")
    found = measure(name)
    assert found.init_digest == same[0].init_digest
    assert found.compiled_flops == same[0].compiled_flops
    # Time and memory depend on the machine; these bounds only catch what cannot be.
    assert found.temporary_bytes < 2 * same[0].temporary_bytes + 2**20
    assert found.compile_seconds < 10 * same[0].compile_seconds + 10


def test_a_card_by_hand():
    found = cards.card("mlp-8-10-5-1")
    assert (found.parameters, found.published, found.statistics) == (151, 151, 0)
    assert found.flops == 2 * (80 + 50 + 5) and found.family == "mlp"
    assert found.as_json()["inputs"] == "features float32[1,8]"
    plain = str(dataclasses.replace(found, measured=()))
    assert "151 (as published)" in plain and "measured" not in plain
    one = cards.Measured("0.0", "cpu", "ab" * 32, 1234, 2048, 0.25)
    assert "sha256 abab" in str(dataclasses.replace(found, measured=(one,)))
    with pytest.raises(InputError, match="nearest"):
        cards.card("mlp-8-10-5")
