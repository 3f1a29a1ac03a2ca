"""Pictures of a run: learning curves, and the confusion matrix of a classifier."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo.training.log import read_metrics


def draw_curves(metrics: Path, target: Path, score: str) -> None:
    """Draws `curves.png` from metrics.jsonl: the training and validation loss, and the score."""
    lines = read_metrics(metrics)
    names = [("loss", "training loss"), ("eval/loss", "validation loss")]
    has_score = score != "loss" and any(f"eval/{score}" in line for line in lines)
    figure, axes = _figure(2 if has_score else 1)
    for name, label in names:
        _plot(axes[0], lines, name, label)
    axes[0].set(xlabel="step", ylabel="loss")
    axes[0].legend()
    if has_score:
        _plot(axes[1], lines, f"eval/{score}", f"validation {score}")
        axes[1].set(xlabel="step", ylabel=score)
        axes[1].legend()
    figure.savefig(target, dpi=120)


def draw_confusion(matrix: list[list[float]], names: list[str], target: Path) -> None:
    """Draws a confusion matrix, rows the true class, columns the predicted one."""
    counts = np.asarray(matrix)
    figure, (axis,) = _figure(1, side=max(4.0, 1.5 + 0.4 * len(counts)))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks = np.arange(len(counts))
    labels = [str(name)[:16] for name in names]
    axis.set_xticks(ticks, labels, rotation=90 if max(map(len, labels)) > 2 else 0)
    axis.set_yticks(ticks, labels)
    axis.set(xlabel="predicted", ylabel="true")
    if len(counts) <= 30:
        for row, column in np.ndindex(*counts.shape):
            if counts[row, column]:
                colour = "white" if share[row, column] > 0.5 else "black"
                axis.text(column, row, f"{counts[row, column]:g}", ha="center", va="center",
                          color=colour, fontsize=8)  # fmt: skip
    figure.savefig(target, dpi=120)


def _plot(axis: Any, lines: list[dict[str, Any]], name: str, label: str) -> None:
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    if points:
        axis.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 30 else None)
    else:
        axis.plot([], [], label=label)


def _figure(columns: int, side: float = 4.0) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(side * 1.4 * columns, side), layout="constrained")
    FigureCanvasAgg(figure)  # no display, whatever the machine has
    return figure, np.atleast_1d(figure.subplots(1, columns))
