"""What is known of a model: counted from its shapes, cited from its source, and measured where
``zoo/inspect/measured.json`` says so, which ``python -m zoo.inspect.measure NAME...`` writes."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.inspect.summary import scaled, summary
from zoo.models import registry

MEASURED = Path(__file__).with_name("measured.json")
PAGE = """# Models

Every model by name, with what is known of it. `zoo card NAME` prints one of them, and

```bash
zoo card lenet5
```

is run with this page by the tests. The page is generated: `zoo card '*' --format page >
docs/models.md`; the tests fail when it is stale.

- *parameters* are trained, and equal the count that the source publishes; *statistics* are kept but
  not trained, such as the means of batch norms.
- *FLOPs* are those of the matrix products and convolutions of one inference of the input named, a
  multiply-add as two, each layer counted as often as it runs.
- *kept* is what one training step keeps of it from the forward for the backward pass.
- *licence* and *reported* are of the weights published under that name.
"""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of a model by one version of jax."""

    jax: str
    platform: str
    """Such as cpu."""
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
    found = summary(name)
    task = registry.create_model(name).task
    return Card(
        name, registry.family(size.config), task, size.source, size.licence, size.metric,
        size.params, found.parameters, found.statistics, found.inputs, found.flops,
        found.activation_bytes,
        tuple(Measured(**row) for row in measured().get(name, ())),
    )  # fmt: skip


@functools.cache
def measured() -> dict[str, list[dict[str, Any]]]:
    """What was measured, by model."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def page(names: Iterable[str]) -> str:
    """The page of these models, a section for each architecture."""
    cards = [card(name) for name in names]
    text = PAGE
    for family in dict.fromkeys(found.family for found in sorted(cards, key=lambda c: c.family)):
        about = inspect.getdoc(registry.families()[family]) or ""
        text += f"\n## {family}\n\n{about.partition(chr(10) + chr(10))[0]}\n\n"
        text += _table(
            "model", "parameters", "statistics", "input", "FLOPs", "kept", "licence", "reported",
            "count published by",
        )  # fmt: skip
        text += "".join(row(found) for found in cards if found.family == family)
    text += "\n## Measured\n\nBy `python -m zoo.inspect.measure NAME...`, one example each.\n\n"
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
