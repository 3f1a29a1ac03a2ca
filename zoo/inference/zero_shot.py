"""Classes that are known by their names alone, by a model of pictures and texts."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.models.clip import unit
from zoo.nn.activation import softmax

TASK = "zero-shot-image-classification"
TEMPLATES = ("a photo of a {}.",)
"""What is said of a class; `{}` is its name."""


def classify_zero_shot(
    model: nn.Module,
    variables: Any,
    image: Float[ArrayLike, "B H W I"],
    class_names: Sequence[str],
    tokenizer: Callable[..., Mapping[str, Any]],
    templates: Sequence[str] = TEMPLATES,
) -> Float[Array, "B C"]:
    """The probability of each class for each picture (Radford et al., 2021,
    https://arxiv.org/abs/2103.00020, section 3.1).

    Args:
        model: built for zero-shot-image-classification.
        variables: its variables.
        image: as the model takes it, such as `zoo.load_processor(path)(["cat.jpg"])` gives it.
        class_names: what to tell apart.
        tokenizer: texts to ids, such as `zoo.load_tokenizer(path)`.
        templates: as for `class_vectors`.

    Raises:
        InputError: a model of another task; no classes, or one twice; a template without place for
            a name.
    """
    vectors_CE = class_vectors(model, variables, class_names, tokenizer, templates)
    return probabilities(model, variables, image, vectors_CE)


def class_vectors(
    model: nn.Module,
    variables: Any,
    class_names: Sequence[str],
    tokenizer: Callable[..., Mapping[str, Any]],
    templates: Sequence[str] = TEMPLATES,
) -> Float[Array, "C E"]:
    """A vector of length 1 for each class: the mean direction of what the templates say of it.

    Args:
        model, variables, class_names, tokenizer: as for `classify_zero_shot`.
        templates: sentences with `{}` where the name of the class goes; several make a class
            surer (section 3.1.4).

    Raises:
        InputError: as for `classify_zero_shot`.
    """
    names, templates = _several("class_names", class_names), _several("templates", templates)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"class_names has {', '.join(map(repr, twice))} more than once")
    if bare := [text for text in templates if "{}" not in text]:
        raise InputError(f"the template {bare[0]!r} has no place {{}} for the name of a class")
    texts = [text.replace("{}", name) for name in names for text in templates]
    longest = model.cfg.max_length  # type: ignore[attr-defined]
    tokens = tokenizer(
        texts, padding=True, truncation=True, max_length=longest, return_tensors="np"
    )
    inputs = {key: jnp.asarray(tokens[key]) for key in ("input_ids", "attention_mask")}
    vectors = unit(_tower(model, "text-feature-extraction")(variables, **inputs))
    vectors = vectors.reshape(len(names), len(templates), -1)
    return unit(jnp.mean(vectors, axis=1))


def probabilities(
    model: nn.Module,
    variables: Any,
    image: Float[ArrayLike, "B H W I"],
    vectors: Float[Array, "C E"],
) -> Float[Array, "B C"]:
    """The probability of each class for each picture, in at least float32.

    Args:
        model, variables, image: as for `classify_zero_shot`.
        vectors: from `class_vectors`, which pictures to come may share.
    """
    seen = unit(_tower(model, "image-feature-extraction")(variables, image=jnp.asarray(image)))
    scale = jnp.exp(variables["params"]["logit_scale"])
    logits = (seen @ vectors.T).astype(jnp.promote_types(seen.dtype, jnp.float32)) * scale
    return softmax(logits)


@functools.lru_cache(8)
def _tower(model: nn.Module, task: str) -> Callable[..., Any]:
    """One tower with its projection, compiled."""
    if getattr(model, "task", None) != TASK:
        raise InputError(
            f"zero-shot classification needs a model of {TASK}, not of "
            f"{getattr(model, 'task', type(model).__name__)}"
        )
    return jax.jit(model.clone(task=task).apply)


def _several(what: str, given: Sequence[str]) -> list[str]:
    if isinstance(given, str) or not len(given):
        raise InputError(f"{what} is {given!r}; it must be a list of texts")
    return [str(one) for one in given]
