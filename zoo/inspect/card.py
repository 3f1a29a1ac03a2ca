"""What is known of a model: cited from its source, counted from its shapes and measured, which
``python -m zoo.inspect.measure NAME...`` keeps in ``measured.json`` beside this file, and compared
with its reference, which ``parity.json`` keeps."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from zoo.inspect.summary import scaled, summary
from zoo.models import registry

MEASURED = Path(__file__).with_name("measured.json")
PARITY = Path(__file__).with_name("parity.json")
MARGIN = 2
"""How much larger than stated an error may be on another processor."""
FLOOR = 1e-6
"""An error in float32 may always be so large: it is of the size of rounding."""
PAGE = """# Models

Every model by name, with what is known of it. `zoo card NAME` prints one of them, and

```bash
zoo card lenet5
```

is run with this page by the tests. The page is generated from what
`python -m zoo.inspect.measure NAME...` and `python tests/parity_errors.py` have written down, by
`zoo card '*' --format page > docs/models.md`; the tests fail when it is stale, and count, measure
and compare again.

- *parameters* are trained, and equal the count that the source publishes; *statistics* are kept but
  not trained, such as the means of batch norms.
- *FLOPs* are those of the matrix products and convolutions of one inference of the input named, a
  multiply-add as two, each layer counted as often as it runs.
- *kept* is what one training step keeps of it from the forward for the backward pass.
- *licence* and *reported* are of the weights published under that name.
"""
ERRORS = """
## Parity

How far outputs are from those of the reference library at most, as a share of their standard
deviation, over small random models that it wrote. The reference computes in float32; ours in
float32, and in bfloat16 from the same weights. The models are kept in `tests/golden`, so the tests
need no reference to compare again: they fail where an error is more than {margin} times what is
stated here, or in float32 where it is above {floor:g} as well. `pytest -m parity` compares many
more models live: outputs within 2e-5 in float32, and in float64, gradients and running statistics.

"""
RUNS = """
## Measured

One example each. A digest is of the parameters that seed 0 gives; XLA's FLOPs are its own count of
one inference, all operations included, a loop once; temporary memory is what the compiled inference
needs beside its inputs, parameters and output; the time is the processor's. Models of more than
{most:,} parameters are only counted.

"""
MOST = 100_000_000
"""Parameters of the largest model that is run to measure it."""


@dataclasses.dataclass(frozen=True)
class Counted:
    """What follows from the shapes of a model."""

    jax: str
    """The version that counted: with it `activation_bytes` changes."""
    task: str
    parameters: int
    statistics: int
    inputs: str
    """Of one example."""
    flops: int
    activation_bytes: int


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of a model by one version of jax."""

    jax: str
    platform: str
    """Such as cpu."""
    machine: str
    """Its architecture and a digest of its instruction set, with which bits change."""
    init_digest: str
    """SHA-256 of the parameters that seed 0 gives (``params_digest`` of a run)."""
    compiled_flops: int
    """XLA's own count of one inference of one example, all operations included; a loop counts
    once."""
    temporary_bytes: int
    """What the compiled inference needs beside its inputs, parameters and output."""
    compile_seconds: float
    """Of the processor's time."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far an architecture's outputs are from a reference's; see the page."""

    reference: str
    """A library."""
    models: int
    """How many were compared."""
    float32: float
    """The largest error, as a share of the standard deviation."""
    bfloat16: float

    def allows(self, dtype: str, error: float) -> bool:
        """Whether an error that is measured anew agrees with what is stated."""
        floor = FLOOR if dtype == "float32" else 0.0
        return error <= max(floor, MARGIN * getattr(self, dtype))


@dataclasses.dataclass(frozen=True)
class Card:
    """What is known of a model; ``str()`` is text."""

    name: str
    family: str
    """Its file in ``zoo/models``."""
    task: str
    source: str
    """Who publishes the count."""
    licence: str
    metric: str
    published: int | None
    """Parameters that the source states."""
    parameters: int
    statistics: int
    inputs: str
    """Of one example."""
    flops: int
    activation_bytes: int
    parity: tuple[Parity, ...]
    """Of its architecture."""
    measured: tuple[Measured, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        stated = "" if self.published is None else " (as published)"
        lines = {
            "file": f"zoo/models/{self.family}.py",
            "task": self.task,
            "source": self.source,
            "licence": self.licence or "no weights are known under this name",
            "reported": self.metric or "nothing recorded",
            "parameters": f"{self.parameters:,}{stated}",
            "statistics": f"{self.statistics:,}",
            "one example": self.inputs,
            "FLOPs": f"{scaled(self.flops)} (products and convolutions of one inference)",
            "kept": f"{scaled(self.activation_bytes, 'B', 1024)} (for the backward pass)",
        }
        text = "".join(f"  {key:<12}{value}\n" for key, value in lines.items())
        for found in self.parity:
            text += (
                f"  {self.family} beside {found.reference}, {found.models} small models: largest "
                f"error\n    {found.float32:.1e} of the standard deviation in float32, "
                f"{found.bfloat16:.1e} in bfloat16\n"
            )
        for found in self.measured:
            text += (
                f"  measured with jax {found.jax} on {found.platform}\n"
                f"    parameters of seed 0    sha256 {found.init_digest}\n"
                f"    XLA's count of FLOPs    {scaled(found.compiled_flops)}\n"
                f"    temporary memory        {scaled(found.temporary_bytes, 'B', 1024)}\n"
                f"    time to compile         {found.compile_seconds:.1f} s of the processor\n"
            )
        return f"{self.name}\n{text}".rstrip()


def card(name: str) -> Card:
    """The card of a model. Nothing is allocated and nothing runs.

    Raises:
        InputError: there is no model of that name.
    """
    size = registry.find(name)
    known = measured().get(name)
    counted = Counted(**known["counted"]) if known else count(name)
    family = registry.family(size.config)
    return Card(
        name, family, counted.task, size.source, size.licence, size.metric, size.params,
        counted.parameters, counted.statistics, counted.inputs, counted.flops,
        counted.activation_bytes, parity().get(family, ()),
        tuple(Measured(**row) for row in known["measured"]) if known else (),
    )  # fmt: skip


def count(name: str) -> Counted:
    """Counts a model; nothing is allocated and nothing runs, but large ones take a while.

    Raises:
        InputError: there is no model of that name.
    """
    found, task = summary(name), registry.create_model(name).task
    return Counted(
        jax.__version__,
        task,
        found.parameters,
        found.statistics,
        found.inputs,
        found.flops,
        found.activation_bytes,
    )


@functools.cache
def measured() -> dict[str, dict[str, Any]]:
    """What was counted and measured, by model."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))


@functools.cache
def parity() -> dict[str, tuple[Parity, ...]]:
    """What was compared, by architecture."""
    found = json.loads(PARITY.read_text(encoding="utf-8"))
    return {family: tuple(Parity(**row) for row in rows) for family, rows in found.items()}


def page(names: Iterable[str]) -> str:
    """The page of these models, a section for each architecture."""
    cards = [card(name) for name in names]
    text = PAGE
    families = dict.fromkeys(sorted(found.family for found in cards))
    for family in families:
        about = inspect.getdoc(registry.families()[family]) or ""
        text += f"\n## {family}\n\n{about.partition(chr(10) + chr(10))[0]}\n\n"
        text += _table(
            "model", "parameters", "statistics", "input", "FLOPs", "kept", "licence", "reported",
            "count published by",
        )  # fmt: skip
        text += "".join(row(found) for found in cards if found.family == family)
    text += ERRORS.format(margin=MARGIN, floor=FLOOR)
    text += _table("architecture", "beside", "models", "float32", "bfloat16")
    text += "".join(
        _row(family, one.reference, str(one.models), f"{one.float32:.1e}", f"{one.bfloat16:.1e}")
        for family in families
        for one in parity().get(family, ())
    )
    if without := [family for family in families if family not in parity()]:
        text += f"\nNo models of {', '.join(without)} are kept so.\n"
    text += RUNS.format(most=MOST)
    text += _table(
        "model", "jax", "on", "parameters of seed 0", "XLA's FLOPs", "temporary", "compile"
    )
    return text + "".join(map(measured_rows, cards))


def row(found: Card) -> str:
    """A card as a line of its family's table."""
    first = found.inputs.split(", ")[0]
    return _row(
        f"`{found.name}`", f"{found.parameters:,}", f"{found.statistics:,}", f"`{first}`",
        scaled(found.flops), scaled(found.activation_bytes, "B", 1024), found.licence,
        found.metric, found.source,
    )  # fmt: skip


def measured_rows(found: Card) -> str:
    """What was measured, as lines of the last table."""
    return "".join(
        _row(
            f"`{found.name}`", one.jax, one.platform, f"`{one.init_digest[:16]}`",
            scaled(one.compiled_flops), scaled(one.temporary_bytes, "B", 1024),
            f"{one.compile_seconds:.1f} s",
        )
        for one in found.measured
    )  # fmt: skip


def _table(*heads: str) -> str:
    return _row(*heads) + "|" + "---|" * len(heads) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
