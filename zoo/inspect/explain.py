"""Why a trained run answers an input as it does: scores of its pixels, tokens or columns."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from zoo.data.tokenized import open_tokenizer
from zoo.errors import InputError
from zoo.inspect.attribution import (
    grad_cam,
    input_gradient,
    integrated_gradients,
    scored,
    smooth_grad,
)
from zoo.inspect.patching import layers, logit_lens, outputs
from zoo.inspect.rollout import attention_rollout
from zoo.runs import OpenedRun
from zoo.tasks import Binary, Regression, Translation, split_inputs

METHODS = (
    "integrated-gradients", "gradient", "smooth-grad", "grad-cam", "attention-rollout",
    "logit-lens",
)  # fmt: skip
Call = tuple[nn.Module, Any, Any]
"""A module, its variables, the inputs."""
SEED = 0
"""Of the noise of ``smooth-grad``."""


@dataclass(frozen=True)
class Explanation:
    """Scores of the parts of one input."""

    name: str
    """Of the input: its file, or the text itself."""
    method: str
    target: str
    """What was explained: a class, a token or an output, by name."""
    score: float
    """The model's output for it, before any softmax."""
    scores: np.ndarray
    """``[H, W]`` of an image, ``[N]`` of the parts of anything else."""
    parts: tuple[str, ...] = ()
    """Names of the parts: tokens or columns; none of an image."""
    image: np.ndarray | None = None
    """``[H, W, 3]``, from 0 to 1."""
    missed: float | None = None
    """Of integrated gradients: by how much their sum misses the difference they should sum to, as
    a share of it."""


@dataclass(frozen=True)
class Lens:
    """What a language model would say after each of its layers."""

    name: str
    position: int
    rows: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    """For each layer its path, and the likeliest tokens with their probabilities."""


def explain(
    opened: OpenedRun,
    given: str,
    method: str = METHODS[0],
    target: str = "",
    position: int | None = None,
    at: str | None = None,
) -> Explanation | Lens:
    """Explains a run's answer to one input.

    Args:
        opened: a run folder, opened.
        given: path of an image, a table or a text file, or for models of text the text itself.
        method: one of ``METHODS``.
        target: a class by name or number; empty is the likeliest.
        position: the token whose output is explained, where there is one for each; None is the
            last that counts.
        at: path of the module to look at, instead of the method's own choice.

    Raises:
        InputError: the input cannot be read or holds several examples, the method does not fit the
            model, or there is no such class or token.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; there are: {', '.join(METHODS)}")
    joined = hasattr(opened.run.data, "read") and hasattr(opened.task, "show")
    if joined or isinstance(opened.task, Translation):
        raise InputError(f"a run of {type(opened.task).__name__} cannot be explained yet")
    names, batch = opened.run.data.encode([given], opened.info)
    if len(names) != 1:
        raise InputError(f"{given} holds {len(names)} examples; give one that holds one")
    primary, keywords = split_inputs({k: v for k, v in batch.items() if k != "label"})
    inputs = {next(iter(opened.module.cfg.inputs())): primary, **keywords}
    call = (opened.module, opened.variables, inputs)
    output = jax.jit(opened.module.apply)(opened.variables, **inputs)
    place = _place(output, keywords.get("attention_mask"), position)
    if method == "logit-lens":
        return _lens(opened, call, names[0], place)
    index = _index(opened, output, target, place)
    explanation = Explanation(
        names[0], method, _name(opened, index), float(_at(place, index)(output)[0]),
        scores=np.zeros(0),
    )  # fmt: skip
    return _scores(opened, call, primary, explanation, _at(place, index), at)


def _scores(
    opened: OpenedRun, call: Call, primary: Any, so_far: Explanation, target: Any, at: str | None
) -> Explanation:
    """With the scores of the parts, by the explanation's method."""
    method, missed = so_far.method, None
    if method == "grad-cam":
        values = grad_cam(*call, target, at)
    elif method == "attention-rollout":
        values = _followed(call, target, np.shape(primary))
    elif method == "integrated-gradients":
        values = integrated_gradients(*call, target, at)
        x, score = scored(*call, target, at)
        wanted = score(x, *call[1:]) - score(jnp.zeros_like(x), *call[1:])
        missed = float(jnp.abs(values.sum() - wanted.sum()) / jnp.abs(wanted.sum()))
    elif method == "smooth-grad":
        values = smooth_grad(*call, jax.random.key(SEED), target, at)
    else:
        values = input_gradient(*call, target, at)
    values = np.asarray(values, np.float64)
    if np.ndim(primary) == 4:
        if values.shape[:3] != np.shape(primary)[:3]:
            raise InputError(f"{at} gives {values.shape}, which is no picture of the image")
        if values.ndim == 4:
            # Which way a channel counts has no meaning to the eye, unless they sum to the score.
            values = (values if missed is not None else np.abs(values)).sum(-1)
        picture = _picture(np.asarray(primary)[0])
        return replace(so_far, scores=values[0], image=picture, missed=missed)
    parts = _parts(opened, np.asarray(primary)[0])
    if values.ndim == 3:
        values = values.swapaxes(0, 1) if values.shape[1] == 1 != len(parts) else values
        if missed is not None:
            values = values.sum(-1)
        else:
            values = np.linalg.norm(values, axis=-1)
    if values.shape != (1, len(parts)):
        raise InputError(f"scores of shape {values.shape} do not belong to {len(parts)} parts")
    return replace(so_far, scores=values[0], parts=parts, missed=missed)


def _place(output: Any, mask: Any, position: int | None) -> int | None:
    """The token whose output is meant; None where there is one output for all."""
    rank = getattr(output, "ndim", None)
    if rank not in (2, 3):
        raise InputError("only models that give one row of outputs, or one a token, are explained")
    if rank == 2:
        if position is not None:
            raise InputError("--position is for models that give an output for each token")
        return None
    length = output.shape[1]
    if position is None:
        return int(np.flatnonzero(mask[0]).max(initial=0)) if mask is not None else length - 1
    if not 0 <= position < length:
        raise InputError(f"there is no position {position}; tokens are 0 to {length - 1}")
    return position


def _at(place: int | None, index: int) -> Any:
    """The output that is explained, as a function of all."""
    return lambda out: out[:, index] if place is None else out[:, place, index]


def _index(opened: OpenedRun, output: Any, target: str, place: int | None) -> int:
    """The number of a class, by its name or number; the likeliest where none is given."""
    row = np.asarray(output[0] if place is None else output[0, place], np.float32)
    names = list(opened.info.class_names)
    if isinstance(opened.task, Binary):
        if target not in ("", names[1]):
            raise InputError(f"the run's one output speaks for {names[1]!r}; there is no other")
        return 0
    if not target:
        return 0 if isinstance(opened.task, Regression) else int(row.argmax())
    if target in names:
        return names.index(target)
    if target.isdigit() and int(target) < len(row):
        return int(target)
    known = ", ".join(names[:20]) if names else f"0 to {len(row) - 1}"
    raise InputError(f"no class {target!r}; there are: {known}")


def _name(opened: OpenedRun, index: int) -> str:
    names = opened.info.class_names
    if isinstance(opened.task, Binary):
        return names[1]
    if len(names) > index:
        return names[index]
    if opened.info.vocab_size and not opened.info.num_classes:
        return _tokens(opened, [index])[0]
    return str(index)


def _parts(opened: OpenedRun, row: np.ndarray) -> tuple[str, ...]:
    """Names of what one example consists of: tokens, or columns of a table."""
    if np.issubdtype(row.dtype, np.integer):
        return _tokens(opened, row.tolist())
    names: list[str] = []
    for column in opened.info.columns.get("inputs", ()):
        values = column.get("values")
        names += [f"{column['name']}={v}" for v in values] if values else [column["name"]]
    return tuple(names) if len(names) == row.size else tuple(map(str, range(len(row))))


def _tokens(opened: OpenedRun, ids: list[int]) -> tuple[str, ...]:
    data = opened.run.data
    if getattr(data, "tokenizer", ""):
        return tuple(map(str, open_tokenizer(data.tokenizer).convert_ids_to_tokens(ids)))
    if hasattr(data, "decode"):
        return tuple(data.decode(np.asarray([i]), opened.info) or str(i) for i in ids)
    return tuple(map(str, ids))


def _picture(image: np.ndarray) -> np.ndarray:
    """A normalised image as colours from 0 to 1."""
    low, high = image.min(), image.max()
    scaled = (image - low) / (high - low if high > low else 1)
    return np.broadcast_to(scaled, (*scaled.shape[:2], 3)) if scaled.shape[-1] != 3 else scaled


def _followed(call: Call, target: Any, shape: tuple[int, ...]) -> Any:
    """Attention rollout from the tokens that the score is read from, as far as they count in it:
    a class token, the last one, or all."""
    module, variables, inputs = call
    stack = layers(outputs(module, variables, inputs))
    if not stack:
        raise InputError("this model has no layers that are named so, such as layer0 or block0")
    read = jnp.linalg.norm(input_gradient(*call, target, at=stack[-1]), axis=-1)
    read = read / read.sum(-1, keepdims=True)
    values = jnp.einsum("bt,bts->bs", read, attention_rollout(module, variables, inputs))
    if len(shape) != 4:
        return values
    return jax.image.resize(_grid(values, *shape[1:3]), shape[:3], "linear")


def _grid(values: Any, height: int, width: int) -> Any:
    """Scores of patches as a map ``[B, h, w]`` of the image's proportions; what stands before the
    patches, such as a class token, is left out."""
    for first in range(9):
        count = values.shape[1] - first
        rows = round((count * height / width) ** 0.5) if count > 0 else 0
        if rows and count % rows == 0 and rows * width == count // rows * height:
            return values[:, first:].reshape(len(values), rows, count // rows)
    raise InputError(f"{values.shape[1]} tokens are no grid over {height}x{width} pixels")


def _lens(opened: OpenedRun, call: Call, name: str, place: int | None) -> Lens:
    if place is None or opened.info.num_classes:
        raise InputError("the logit lens is for language models: outputs that are tokens")
    rows = []
    for path, logits in logit_lens(*call).items():
        chances = jax.nn.softmax(jnp.asarray(logits[0, place], jnp.float32))
        best, which = jax.lax.top_k(chances, min(3, chances.size))
        tokens = _tokens(opened, which.tolist())
        rows.append((path, tuple(zip(tokens, best.tolist(), strict=True))))
    return Lens(name, place, tuple(rows))


def draw(explanation: Explanation, target: Path) -> None:
    """Draws the image, and beside it the image under its scores as colours.

    Raises:
        InputError: the file's ending is no format of pictures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image, scores = explanation.image, explanation.scores
    assert image is not None
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    if target.suffix[1:] not in FigureCanvasAgg(figure).get_supported_filetypes():
        raise InputError(f"{target}: no picture has the ending {target.suffix!r}; take .png")
    plain, covered = figure.subplots(1, 2)
    plain.imshow(image)
    plain.set_title(Path(explanation.name).name[-40:], fontsize=9)
    signed = scores.min() < 0
    # One pixel that stands out should not hide the others.
    limit = float(np.quantile(np.abs(scores), 0.995)) or float(np.abs(scores).max()) or 1.0
    # Pale, so that what lies above keeps the colours of its scale.
    covered.imshow(image.mean(-1), cmap="gray", vmin=-1, vmax=1)
    colours = {"cmap": "bwr", "vmin": -limit} if signed else {"cmap": "inferno", "vmin": 0}
    shown = covered.imshow(scores, vmax=limit, alpha=0.75, **colours)
    figure.colorbar(shown, ax=covered, shrink=0.85)
    covered.set_title(f"{explanation.method}: {explanation.target}", fontsize=9)
    for axis in (plain, covered):
        axis.set_axis_off()
    figure.savefig(target, dpi=120)
