"""Cards: every figure on them and on the page of all models is counted or measured again; those of
parity are in test_parity_errors.py."""

import collections
import dataclasses
import json
import re
from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.inspect import card as cards
from zoo.inspect import measure
from zoo.models import registry

NAMES = registry.list_models()
SMALL = [name for name in NAMES if (registry.find(name).params or 10**9) < 250_000]
FEW = ("lenet5", "mlp-8-10-5-1")
"""Models that every run of the tests measures again."""


def test_the_page_is_what_the_command_writes():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    missing = NAMES - cards.measured().keys()
    assert not missing, f"python -m zoo.inspect.measure {' '.join(sorted(missing))}"
    assert cards.page(NAMES) == page, "stale: zoo card '*' --format page > docs/models.md"
    rows = collections.Counter(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))
    runs = {name: len(cards.measured()[name]["measured"]) for name in NAMES}
    assert rows == {name: 1 + count for name, count in runs.items()}


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_that_the_source_publishes(name):
    found, size = cards.card(name), registry.find(name)
    assert found.published in (None, found.parameters)
    assert (found.source, found.licence, found.metric) == (size.source, size.licence, size.metric)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.full] * (n not in SMALL)) for n in NAMES]
)
def test_what_the_page_counts_is_counted_again(name):
    counted = dict(cards.measured()[name]["counted"])
    again = dataclasses.asdict(cards.count(name))
    if counted["jax"] != again["jax"]:  # which keeps other things for the backward pass
        assert 0.4 < again.pop("activation_bytes") / counted.pop("activation_bytes") < 2.5
        del counted["jax"], again["jax"]
    assert again == counted


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.full] * (n not in FEW)) for n in NAMES]
)
def test_what_was_measured_is_measured_again(name):
    known = [cards.Measured(**row) for row in cards.measured()[name]["measured"]]
    here = measure.here()
    same = [one for one in known if here == {key: getattr(one, key) for key in here}]
    if not same:
        pytest.skip(f"nothing was measured with {here}")
    found = measure.measure(name)
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
    one = cards.Measured("0.0", "cpu", "x86_64 12ab", "ab" * 32, 1234, 2048, 0.25)
    assert "sha256 abab" in str(dataclasses.replace(found, measured=(one,)))
    with pytest.raises(InputError, match="nearest"):
        cards.card("mlp-8-10-5")


def test_measuring_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    file = tmp_path / "measured.json"
    monkeypatch.setattr(measure, "MEASURED", file)
    row = {"jax": "0.0", "platform": "cpu", "machine": "none", "init_digest": "ab"}
    file.write_text(json.dumps({"removed": {}, "lenet5": {"counted": {}, "measured": [row]}}))
    ran = []
    found = cards.Measured(**measure.here(), init_digest="cd", compiled_flops=1,
                           temporary_bytes=2, compile_seconds=0.1)  # fmt: skip
    counts = cards.Counted("0.0", "regression", 151, 0, "features float32[1,8]", 270, 300)
    monkeypatch.setattr(measure, "measure", lambda name: ran.append(name) or found)
    monkeypatch.setattr(measure, "count", lambda name: counts)
    measure.main(["mlp-8-*", "mlp-64-128-10"])
    assert ran == ["mlp-8-10-5-1", "mlp-64-128-10"]
    kept = json.loads(file.read_text())
    assert list(kept) == ["lenet5", "mlp-64-128-10", "mlp-8-10-5-1"]
    assert kept["lenet5"]["measured"] == [row]
    assert kept["mlp-8-10-5-1"] == {
        "counted": dataclasses.asdict(counts), "measured": [dataclasses.asdict(found)],
    }  # fmt: skip
    measure.main(["mlp-*", "--most", "150"])
    assert len(ran) == 2 and "3/3 mlp-784-512-512-10\n" in capsys.readouterr().out
    measure.main(["mlp-8-10-5-1", "--again"])
    assert ran[2:] == ["mlp-8-10-5-1"] and list(tmp_path.iterdir()) == [file]
    assert len(json.loads(file.read_text())["mlp-8-10-5-1"]["measured"]) == 1
    with pytest.raises(SystemExit):
        measure.main(["mlp-8-10-5"])
    assert "nearest" in capsys.readouterr().err
