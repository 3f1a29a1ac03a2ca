"""Runs small enough to train in a second, for the tests of the trainer."""

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zoo import assemble, tasks
from zoo.config import Optimizer, Run
from zoo.data import Npz, Stream
from zoo.models import cnn, mlp, rnn, transformer
from zoo.training.loop import train
from zoo.training.state import State
from zoo.training.step import Step

CLASSES = 3
LAYERS = ("conv 4 3 bias=0", "batch_norm", "relu", "dropout 0.3")


def write_features(folder: Path, name: str = "tiny.npz", seed: int = 0, rows: int = 60) -> Path:
    """Three clouds of points of four features; 60 train, 20 validation, 21 test."""
    return _write(folder / name, (4,), seed, rows)


def write_images(folder: Path, name: str = "images.npz", seed: int = 1, rows: int = 60) -> Path:
    """The same with images of 6x6 pixels."""
    return _write(folder / name, (6, 6, 1), seed, rows)


def _write(path: Path, shape: tuple[int, ...], seed: int, rows: int) -> Path:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, *shape))
    arrays = {}
    for split, count in (("train", rows), ("validation", 20), ("test", 21)):
        y = np.arange(count) % CLASSES
        arrays[f"x_{split}"] = (centres[y] + rng.normal(size=(count, *shape))).astype(np.float32)
        arrays[f"y_{split}"] = y
    np.savez(path, **arrays)
    return path


def features_run(folder: Path, **changes: Any) -> Run:
    """A multilayer perceptron with dropout on `write_features`, 12 steps of 8 examples."""
    path = folder / "tiny.npz"
    if not path.exists():
        write_features(folder)
    run = Run(
        model=mlp.Config(input_shape=(4,), widths=(8,), num_classes=CLASSES, dropout=0.25),
        task=tasks.Classification(),
        data=Npz(str(path)),
        optimizer=Optimizer(name="adam", learning_rate=1e-2),
        workdir=str(folder / "run"),
        steps=12, batch_size=8, eval_every=4, log_every=1, steps_per_dispatch=1, devices=1,
        tensorboard=False, loader_threads=1,
    )  # fmt: skip
    return dataclasses.replace(run, **changes)


def images_run(folder: Path, **changes: Any) -> Run:
    """A convolution with batch norm and dropout on `write_images`."""
    path = folder / "images.npz"
    if not path.exists():
        write_images(folder)
    given = {
        "model": cnn.Config(layers=LAYERS, num_classes=CLASSES, image_size=6),
        "data": Npz(str(path), form="image"),
    }
    return features_run(folder, **(given | changes))


def sequences_run(folder: Path, **changes: Any) -> Run:
    """An LSTM over sequences of three features."""
    rng = np.random.default_rng(4)
    np.savez(folder / "series.npz", x=rng.normal(size=(90, 5, 3)), y=np.arange(90) % CLASSES)
    model = rnn.Config(features=3, hidden=(6,), num_classes=CLASSES, dropout=0.2, length=5)
    return features_run(folder, model=model, data=Npz(str(folder / "series.npz")), **changes)


def tokens_run(folder: Path, **changes: Any) -> Run:
    """A Transformer over token ids."""
    ids = np.random.default_rng(5).integers(0, 12, (90, 7))
    ids[0, 0] = 11
    np.savez(folder / "ids.npz", x=ids, y=np.arange(90) % CLASSES)
    model = transformer.Config(
        vocab_size=12, width=8, depth=1, num_heads=2, hidden=16, max_length=7,
        num_classes=CLASSES,
    )  # fmt: skip
    data = Npz(str(folder / "ids.npz"), form="input_ids")
    return features_run(folder, model=model, data=data, **changes)


def again(run: Run, **changes: Any) -> dict[str, Any]:
    """Trains a run with some fields changed; returns its result."""
    return train(dataclasses.replace(run, **changes))


def metrics_of(run: Run) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    lines = (Path(run.workdir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def losses_of(run: Run) -> list[float]:
    """The training losses in order of the steps."""
    return [line["loss"] for line in metrics_of(run) if "loss" in line]


@dataclasses.dataclass
class Bench:
    """What a run consists of before its first step, to drive the step by hand."""

    run: Run
    task: Any
    module: Any
    parallel: Any
    step: Step
    stream: Stream
    shapes: State
    fresh: Callable[[], State]

    def compiled(self) -> Callable[..., Any]:
        """`(state, placed batch) -> (state, metrics)`; the state is consumed."""
        return self.parallel.train(self.step, self.shapes)

    def steps(self, state: State, first: int, count: int) -> tuple[State, list[dict[str, Any]]]:
        """Runs some steps; returns the state and what each step reported."""
        function, found = self.compiled(), []
        for n in range(first, first + count):
            state, metrics = function(state, self.parallel.place_batch(self.stream[n]))
            found.append(jax.device_get(metrics))
        return state, found


def bench(run: Run, **options: Any) -> Bench:
    """Builds the parts of a run; `options` are fields of its Step."""
    run = assemble.resolved(run)
    data = run.data.open()
    task = run.task.bind(data.info)
    module = assemble.build_model(run, task)
    parallel = assemble.parallelism(run)
    step = Step(
        module, task, run.optimizer.build(run.steps), run.optimizer.rate(run.steps),
        axis=parallel.axis, **options,
    )  # fmt: skip
    init = partial(assemble.fresh_state, run, module, data.info)
    stream = Stream(
        data.splits["train"], run.batch_size, run.seed, run.augment, run.balance, 0, run.batch_size
    )
    return Bench(
        run, task, module, parallel, step, stream, jax.eval_shape(init),
        lambda: parallel.place_state(jax.jit(init)()),
    )  # fmt: skip


def arrays_of(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a pytree on the host, by path."""
    from zoo.training.state import leaf_paths

    return {path: np.array(leaf) for path, leaf in leaf_paths(tree).items()}


def assert_same_bits(ours: Any, theirs: Any) -> None:
    """Both trees have the same leaves, bit for bit."""
    a, b = arrays_of(ours), arrays_of(theirs)
    assert a.keys() == b.keys()
    differing = [path for path in a if _bits(a[path]) != _bits(b[path])]
    assert not differing


def _bits(array: np.ndarray) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.tobytes()
