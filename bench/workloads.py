"""What every peer trains: the same shapes, data, optimizer and loss, in float32."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LEARNING_RATE = 1e-3
"""Of Adam, with each library's other defaults, in every workload."""
BATCHES = 16
"""Different batches in the data; a peer goes round them in order."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Workload:
    """One network on one shape of data."""

    name: str
    """What the command line calls it."""
    title: str
    """What it is, in one line."""
    model: str
    """Its name in zoo; the other peers spell the same layers out."""
    batch: int
    """Examples in a step."""
    loss: str
    """binary (logits [B, 1]), classes (logits [B, C]) or squares (outputs [B, 1])."""
    target: float
    """Largest accepted ratio of zoo's step time to the fastest other peer's."""
    draw: Callable[[np.random.Generator, int], Arrays]
    """Makes n examples: x and y, and for padded sequences mask [n, T] with 1 where x counts."""

    def data(self) -> Arrays:
        """All batches, `[BATCHES, batch, ...]` each; the same in every process."""
        rows = self.draw(np.random.default_rng(0), BATCHES * self.batch)
        return {key: x.reshape(BATCHES, self.batch, *x.shape[1:]) for key, x in rows.items()}


def _rows(rng: np.random.Generator, n: int) -> Arrays:
    x = rng.standard_normal((n, 8), dtype=np.float32)
    return {"x": x, "y": (x[:, 0] * x[:, 1] > 0).astype(np.int32)}


def _images(rng: np.random.Generator, n: int) -> Arrays:
    y = rng.integers(0, 10, n, dtype=np.int32)
    x = rng.random((n, 28, 28, 1), dtype=np.float32)
    x[np.arange(n), 2 * y + 4] += 1  # a bright line whose height is the class
    return {"x": x, "y": y}


def _texts(rng: np.random.Generator, n: int) -> Arrays:
    mask = (np.arange(100) < rng.integers(20, 101, (n, 1))).astype(np.int32)
    x = rng.integers(1, 10_000, (n, 100), dtype=np.int32) * mask
    return {"x": x, "y": x[:, 0] % 10, "mask": mask}


def _series(rng: np.random.Generator, n: int) -> Arrays:
    x = rng.standard_normal((n, 10, 10), dtype=np.float32)
    return {"x": x, "y": x[:, :, :1].sum(axis=1)}


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", "dense 8-10-5-1, batch 32", "mlp-8-10-5-1", 32, "binary", 0.05, _rows),
        Workload(
            "W2", "two convolutions and two dense layers on 28x28 images, batch 128",
            "cnn-28x28-dense64", 128, "classes", 1.5, _images,
        ),
        Workload(
            "W3", "embedding and two LSTMs of 128 on padded sequences of 20 to 100, batch 128",
            "lstm-embed10-128-128", 128, "classes", 1.3, _texts,
        ),
        Workload(
            "W3b", "LSTM of 100 and two dense layers on 10 steps of 10 numbers, batch 32",
            "lstm-100-dense50", 32, "squares", 0.95, _series,
        ),
    )
}  # fmt: skip
