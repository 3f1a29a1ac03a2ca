"""What a batch holds, and how its arrays reach a model and a loss.

A batch is a dict of arrays: one primary input, optional keyword inputs of the model, the target
under `label`, and optionally `weight`, float32 `[B]`, the weight of every example: absent means
ones, zero marks a row that pads the last batch of an evaluation.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from zoo.errors import InputError

PRIMARY = ("image", "features", "input_ids")
"""Names of the input a model takes first; a batch holds exactly one of them, or an image and its
text: then the text goes by keyword."""
PAIRED = ("image", "input_ids")

KEYWORDS = ("attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask")
"""Names of the inputs a model takes by keyword, where the batch holds them."""

IGNORED = -100
"""The label of a position that has no target, such as padding."""

Batch = Mapping[str, Any]
Apply = Callable[..., tuple[Any, Any]]


def split_inputs(batch: Batch) -> tuple[Any, dict[str, Any]]:
    """Returns (primary input, keyword inputs) of a batch, as a model takes them.

    Raises:
        InputError: the batch holds no primary input, or more than one.
    """
    primary = primary_names(batch)
    if not primary:
        raise InputError(
            f"a batch holds exactly one of {', '.join(PRIMARY)}, or an image and input_ids; this "
            f"one has {sorted(batch)}"
        )
    keywords = {name: batch[name] for name in (*primary[1:], *KEYWORDS) if name in batch}
    return batch[primary[0]], keywords


def primary_names(batch: Batch) -> tuple[str, ...]:
    """Names of the primary inputs, the first of them given first; none where they do not go
    together."""
    primary = tuple(name for name in PRIMARY if name in batch)
    return primary if len(primary) == 1 or primary == PAIRED else ()


def example_weights(batch: Batch, n: int) -> Float[Array, " B"]:
    """Weight of each of the `n` examples `[B]`: `batch["weight"]`, or ones."""
    if "weight" not in batch:
        return jnp.ones((n,), jnp.float32)
    weight = jnp.asarray(batch["weight"])
    if weight.shape != (n,):
        raise InputError(f"weight has shape {weight.shape}; {n} examples need ({n},)")
    return weight


def position_weights(batch: Batch) -> Float[Array, "B T"]:
    """Weight of each position `[B, T]`: its example's, and 0 where the label is `IGNORED`."""
    label = jnp.asarray(batch["label"])
    weight = example_weights(batch, label.shape[0])
    return jnp.where(label != IGNORED, weight[:, None], 0)


def where_counts(weight: Float[Array, "..."], value: Array) -> Array:
    """`value` with zeros where the weight is 0, whatever stood there, NaN included.

    `value` has the axes of `weight` first. Selecting, and not multiplying, keeps both the number
    and its gradient finite.
    """
    counts = weight != 0
    return jnp.where(counts.reshape(counts.shape + (1,) * (value.ndim - counts.ndim)), value, 0)


def label_index(label: Int[Array, " B"] | Float[Array, "B C"]) -> Int[Array, " B"]:
    """Class index of each example; of soft labels `[B, C]` the class with the largest share."""
    label = jnp.asarray(label)
    return jnp.argmax(label, -1) if jnp.issubdtype(label.dtype, jnp.floating) else label


def expect_width(outputs: Any, ndim: int, width: int | None, axes: str, advice: str) -> None:
    """Checks the shape of a model's outputs while the program is traced.

    Args:
        outputs: what the model returned.
        ndim: number of axes it must have.
        width: size its last axis must have; None accepts any.
        axes: the expected shape in words, such as `"[B, C]"`.
        advice: what to do when it differs.

    Raises:
        InputError: it is no array, or its shape differs.
    """
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != ndim or (width is not None and shape[-1] != width):
        got = type(outputs).__name__ if shape is None else str(tuple(shape))
        wanted = axes if width is None else f"{axes} with a last axis of {width}"
        raise InputError(f"the model returns {got}; the task needs {wanted}: {advice}")


def run(
    objective: Callable[[Any, Batch], tuple[Any, Any]],
    apply: Apply,
    variables: Any,
    batch: Batch,
    rngs: Any,
    train: bool,
) -> tuple[Any, Any, dict[str, Any]]:
    """Applies a model to a batch and its objective to the outputs.

    Returns:
        The sum of the loss, the sum of the weights, and `{"outputs", "updates"}`: what the model
        returned and its new collections.
    """
    primary, keywords = split_inputs(batch)
    outputs, updates = apply(variables, primary, train=train, rngs=rngs, **keywords)
    loss_sum, weight_sum = objective(outputs, batch)
    return loss_sum, weight_sum, {"outputs": outputs, "updates": updates}
