"""Measures models and records it for their cards: ``python -m zoo.inspect.measure NAME...``."""

import dataclasses
import json
import sys
import time

import jax

from zoo.inspect.card import MEASURED, Measured
from zoo.models import registry
from zoo.training.state import params_digest


def measure(name: str) -> Measured:
    """Compiles one inference of one example, and initialises the model with seed 0.

    Raises:
        InputError: there is no model of that name.
    """
    model = registry.create_model(name)
    variables = registry.init(model, jax.random.key(0))
    lowered = jax.jit(lambda v, x: model.apply(v, **x)).lower(variables, model.cfg.inputs())
    before = time.process_time()
    compiled = lowered.compile()
    seconds = time.process_time() - before
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    assert memory is not None and cost is not None
    return Measured(
        jax.__version__, jax.default_backend(), params_digest(variables["params"]),
        int(cost["flops"]), memory.temp_size_in_bytes, round(seconds, 1),
    )  # fmt: skip


def record(names: list[str]) -> None:
    """Measures models and writes it down, in the place of what the same jax measured before."""
    for name in names:
        found = measure(name)
        known = json.loads(MEASURED.read_text(encoding="utf-8"))
        others = [
            one
            for one in known.get(name, ())
            if (one["jax"], one["platform"]) != (found.jax, found.platform)
        ]
        known[name] = sorted([*others, dataclasses.asdict(found)], key=lambda one: one["jax"])
        text = json.dumps(dict(sorted(known.items())), indent=1)
        MEASURED.write_text(text + "\n", encoding="utf-8")
        print(f"{name}: {found}")


if __name__ == "__main__":
    record(sys.argv[1:])
