"""`zoo models`, `zoo summary` and `zoo card`: what models there are, and what they cost."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from tyro.conf import Positional

from zoo.errors import InputError


@dataclass(frozen=True)
class Models:
    """Lists the models by name, with their parameters and source."""

    pattern: Positional[str] = "*"
    """Names to list; * and ? are wildcards."""
    task: str = ""
    """Only models with a head for this task, such as image-classification."""


@dataclass(frozen=True)
class Summary:
    """Shows a model's modules: shapes, parameters, floating-point operations, bytes."""

    name: Positional[str]
    """A model's name, as `zoo models` lists it."""
    task: str = ""
    """Which head; empty is the model's own."""
    depth: int | None = None
    """How deep to go into modules of modules; 1 shows the outermost. All by itself."""
    batch: int = 1
    """Examples in the call."""
    shapes: tuple[str, ...] = ()
    """Other shapes of the inputs, such as image=1x256x192x3 or input_ids=1x128."""
    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True)
class Card:
    """Shows what is known of models: counts, paper, licence, and what was measured where."""

    name: Positional[str]
    """A model's name, as `zoo models` lists it; * and ? are wildcards."""
    format: Literal["text", "json", "page"] = "text"
    """Text, one JSON object a line, or a page of tables such as docs/models.md."""


def models_command(options: Models) -> int:
    """`zoo models`."""
    from rich.console import Console
    from rich.table import Table

    from zoo.models import registry

    names = registry.list_models(options.pattern, options.task or None)
    if not names:
        raise InputError(f"no model is named {options.pattern!r}; zoo models lists all")
    table = Table("model", "parameters", "tasks", "source")
    for name in names:
        size = registry.find(name)
        tasks = registry.module_of(size.config).TASKS
        count = f"{size.params:,}" if size.params else ""
        table.add_row(name, count, ", ".join([size.task] if size.task else tasks), size.source)
    Console().print(table)
    return 0


def summary_command(options: Summary) -> int:
    """`zoo summary`."""
    import dataclasses

    import zoo

    model: Any = options.name
    if options.task:
        model = zoo.create_model(options.name, task=options.task)
    shapes = dict(map(_shape, options.shapes))
    found = zoo.summary(model, options.batch, shapes or None)
    if options.json:
        print(json.dumps(dataclasses.asdict(found.down_to(options.depth)), indent=1))
    else:
        print(found.down_to(options.depth))
    return 0


def card_command(options: Card) -> int:
    """`zoo card`."""
    from zoo.inspect import card
    from zoo.models import registry

    names = registry.list_models(options.name) or [options.name]
    if options.format == "page":
        print(card.page(names), end="")
        return 0
    for name in names:
        found = card.card(name)
        print(json.dumps(found.as_json()) if options.format == "json" else found)
    return 0


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``"image=1x32x32x3"`` as name and shape."""
    name, _, sides = text.partition("=")
    if not name or not all(side.isdigit() and int(side) for side in sides.split("x")):
        raise InputError(f"a shape is written as image=1x32x32x3, not {text!r}")
    return name, tuple(map(int, sides.split("x")))
