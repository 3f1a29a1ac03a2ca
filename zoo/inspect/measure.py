"""Counts and measures models and writes it down for their cards:
``python -m zoo.inspect.measure NAME...``.

What is written stays, model by model, so a run that was stopped goes on where it was.
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import jax

from zoo.errors import InputError
from zoo.inspect.card import MEASURED, MOST, Measured, count
from zoo.models import registry
from zoo.training.machine import describe_host
from zoo.training.state import params_digest

KEY = ("jax", "platform", "machine")
"""Fields of a measurement that tell where it was made; the last one replaces those before."""


def here() -> dict[str, str]:
    """Where this process measures."""
    host = describe_host()
    machine = f"{host['machine']} {host['instruction_set']}"
    return {"jax": jax.__version__, "platform": jax.default_backend(), "machine": machine}


def measure(name: str) -> Measured:
    """Compiles one inference of one example, and initialises the model with seed 0.

    Raises:
        InputError: there is no model of that name.
    """
    model = registry.create_model(name)
    variables = registry.init(model, jax.random.key(0))
    digest = params_digest(variables["params"])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
    del variables
    lowered = jax.jit(lambda v, x: model.apply(v, **x)).lower(shapes, model.cfg.inputs())
    before = time.process_time()
    compiled = lowered.compile()
    seconds = time.process_time() - before
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    assert memory is not None and cost is not None
    return Measured(
        **here(), init_digest=digest, compiled_flops=int(cost["flops"]),
        temporary_bytes=memory.temp_size_in_bytes, compile_seconds=round(seconds, 1),
    )  # fmt: skip


def record(names: Sequence[str], most: int = MOST, again: bool = False) -> None:
    """Counts and measures models, the smallest first, and writes each down at once.

    Args:
        names: of models; * and ? are wildcards.
        most: parameters of the largest model that is measured; larger ones are only counted.
        again: also what was written down before, for this jax, platform and machine.

    Raises:
        InputError: no model has such a name.
    """
    chosen = {name for pattern in names for name in _matching(pattern)}
    for n, name in enumerate(sorted(chosen, key=_size), 1):
        found = _kept().get(name, {})
        place = here()
        known = [{key: one[key] for key in KEY} for one in found.get("measured", ())]
        if again or not found:
            found["counted"] = dataclasses.asdict(count(name))
            _keep(name, found)
        run = found["counted"]["parameters"] <= most and (again or place not in known)
        if run:
            others = [one for one in found.get("measured", ()) if {k: one[k] for k in KEY} != place]
            rows = [*others, dataclasses.asdict(measure(name))]
            found["measured"] = sorted(rows, key=lambda one: [one[key] for key in KEY])
            _keep(name, found)
            jax.clear_caches()
        print(f"{n}/{len(chosen)} {name}{': measured' if run else ''}", flush=True)


def _matching(pattern: str) -> list[str]:
    if found := registry.list_models(pattern):
        return found
    registry.find(pattern)  # raises, and names the nearest
    return []


def _size(name: str) -> tuple[int, str]:
    return registry.find(name).params or 0, name


def _kept() -> dict[str, dict[str, Any]]:
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def _keep(name: str, found: dict[str, Any]) -> None:
    """Replaces what is kept of one model; a reader finds the old file or the new one, whole."""
    kept = _kept() | {name: {"measured": []} | found}
    kept = {name: kept[name] for name in sorted(kept) if name in registry.list_models()}
    new = MEASURED.with_suffix(".new")
    new.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    os.replace(new, MEASURED)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m zoo.inspect.measure", description=__doc__)
    parser.add_argument("names", nargs="+", help="of models; * and ? are wildcards")
    parser.add_argument(
        "--most", type=int, default=MOST, help="parameters of the largest model to measure"
    )
    parser.add_argument("--again", action="store_true", help="also what was measured before")
    options = parser.parse_args(arguments)
    # As the tests have it: with as many threads as cores, programs on two cores can lock up.
    os.environ.setdefault("NPROC", "16")
    try:
        record(options.names, options.most, options.again)
    except InputError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
