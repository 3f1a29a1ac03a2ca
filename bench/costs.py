"""What exactness costs: `python -m bench.costs` writes its sections of bench/RESULTS.md.

D: digests and their verification, as a share of whole runs at the default save interval.
R: a step with `reproducible=8` beside a plain step, on one device and on eight simulated ones.
"""

import dataclasses
import datetime
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from bench import report
from bench.harness import ROOT
from zoo import tasks
from zoo.config import Optimizer, Run
from zoo.data import Npz
from zoo.launch import configure
from zoo.models import cnn, transformer
from zoo.training import checkpoints, loop
from zoo.training.signals import Signals

DEVICES, SHARDS, ROUNDS = 8, 8, 10
MOST_DIGESTS, MOST_REPRODUCIBLE = 2.0, 15.0
"""Goals, percent."""
BATCH, LENGTH = 64, 32

say = Console(stderr=True, highlight=False).print


def runs(folder: Path) -> dict[str, Run]:
    """A convolution and a Transformer, on arrays written to the folder."""
    rng = np.random.default_rng(0)
    rows = 16 * BATCH
    np.savez(folder / "images.npz", x=rng.random((rows, 28, 28, 1), dtype=np.float32),
             y=rng.integers(0, 10, rows))  # fmt: skip
    ids = rng.integers(0, 1000, (rows, LENGTH))
    ids[0, 0] = 999
    np.savez(folder / "ids.npz", x=ids, y=rng.integers(0, 10, rows))
    common = {
        "task": tasks.Classification(), "optimizer": Optimizer(name="adam", learning_rate=1e-3),
        "batch_size": BATCH, "tensorboard": False, "steps_per_dispatch": 1, "devices": 1,
    }  # fmt: skip
    image = Npz(str(folder / "images.npz"), form="image")
    text = Npz(str(folder / "ids.npz"), form="input_ids")
    encoder = transformer.Config(
        vocab_size=1000, width=128, depth=2, num_heads=4, hidden=512, max_length=LENGTH,
        num_classes=10, dropout=0.1,
    )  # fmt: skip
    return {
        "convolution": Run(
            model=cnn.SIZES["cnn-28x28-dense64"].config, data=image, steps=600, **common
        ),
        "Transformer": Run(model=encoder, data=text, steps=400, **common),
    }


@contextmanager
def timed(spent: list[float], *names: str) -> Iterator[None]:
    """Adds the seconds that functions of `zoo.training.checkpoints` take, while open."""
    originals = {name: getattr(checkpoints, name) for name in names}

    def watch(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                spent.append(time.perf_counter() - began)

        return call

    for name, function in originals.items():
        setattr(checkpoints, name, watch(function))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(checkpoints, name, function)


def digests(name: str, run: Run, folder: Path) -> str:
    """A row: seconds of a run and of one that resumes it, and of digests therein."""
    spent: list[float] = []
    run = dataclasses.replace(run, workdir=str(folder / name))
    with timed(spent, "leaf_digests", "differing_leaf", "_sum"):
        began = time.perf_counter()
        loop.train(run)
        whole = time.perf_counter() - began
        saving = sum(spent)
        loop.train(run)  # ended already: restores and verifies
    opened = sum(spent) - saving
    size = sum(path.stat().st_size for path in (folder / name / "checkpoints").rglob("*")
               if path.is_file()) / 2**20  # fmt: skip
    share = 100 * (saving + opened) / whole
    met = "met" if share <= MOST_DIGESTS else "NOT met"
    return (
        f"| {name} | {whole:.1f} | {size / 2:.1f} | {1e3 * saving:.0f} | {1e3 * opened:.0f} | "
        f"{share:.2f} | {met} |"
    )


def one_step(run: Run) -> Callable[[], None]:
    """Trains one step and waits for it, each time it is called."""
    with tempfile.TemporaryDirectory() as place:
        built = loop.Training(dataclasses.replace(run, workdir=place), Path(place), Signals())
        built.log.close()
        built.checkpoints.close()
    train = built.parallel.train(built.step, built.shapes)
    batches = [built.stream[n] for n in range(8)]

    def one() -> None:
        built.state, metrics = train(built.state, built.parallel.place_batch(batches[0]))
        batches.append(batches.pop(0))
        jax.block_until_ready((built.state, metrics))

    return one


def reproducible(name: str, run: Run, devices: int, batch: int) -> str:
    """A row: milliseconds of a step, plain and reproducible, in turns."""
    run = dataclasses.replace(run, devices=devices, batch_size=batch)
    ways = {0: one_step(run), SHARDS: one_step(dataclasses.replace(run, reproducible=SHARDS))}
    rounds: dict[int, list[float]] = {shards: [] for shards in ways}
    for number in range(ROUNDS + 1):
        for shards, one in ways.items():
            if not number:
                one()
            began = time.perf_counter()
            for _ in range(5):
                one()
            if number:
                rounds[shards].append((time.perf_counter() - began) / 5)
    plain, exact = (statistics.median(rounds[shards]) for shards in (0, SHARDS))
    cost = 100 * (exact / plain - 1)
    met = "met" if cost <= MOST_REPRODUCIBLE else "NOT met"
    return (
        f"| {name} | {batch} | {devices} | {1e3 * plain:.1f} | {1e3 * exact:.1f} | {cost:+.0f} | "
        f"{met} |"
    )


def main() -> None:
    """Measures and writes both sections."""
    configure(DEVICES, True, reproducible=True)
    where = f"{datetime.date.today()}, {report.machine()}, jax {jax.__version__}."
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = []
        for name, run in runs(folder).items():
            say(f"digests: {name}")
            rows.append(digests(name, run, folder))
        title = "D: digests of checkpoints, ten saves and one restore in a run"
        head = "| run | seconds | MiB a save | digests, ms | verification, ms | percent | goal 2 |"
        _write("D", title, where, head, rows)
        rows = []
        for name, run in runs(folder).items():
            for batch, devices in itertools.product((BATCH, 4 * BATCH), (1, DEVICES)):
                say(f"reproducible: {name}, batch {batch} on {devices}")
                rows.append(reproducible(name, run, devices, batch))
        title = f"R: a step with reproducible={SHARDS}, simulated devices"
        head = "| run | batch | devices | plain ms | reproducible ms | cost, percent | goal 15 |"
        _write("R", title, where, head, rows)


def _write(name: str, title: str, where: str, head: str, rows: list[str]) -> None:
    table = "\n".join([head, "|---" + "|---:" * (head.count("|") - 2) + "|", *rows])
    print(f"{title}\n{table}\n")
    report.write(ROOT / "bench" / "RESULTS.md", name, f"## {title}\n\n{where}\n\n{table}\n")


if __name__ == "__main__":
    main()
