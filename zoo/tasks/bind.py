"""What a task learns from the data: the checks and helpers that `bind` of the tasks share.

Bound facts are fields with `init=False`: no part of a config, unset until `bind(info)`.
"""

import copy
import dataclasses
from typing import Any, Literal, TypeVar

from zoo.errors import InputError

ClassWeights = Literal["balanced"] | tuple[float, ...] | None

T = TypeVar("T")


def bound(task: T, **facts: Any) -> T:
    """A copy of a task with these fields set, those included that its constructor does not take."""
    new = copy.copy(task)
    for name, value in facts.items():
        object.__setattr__(new, name, value)
    return new


def fact(name: str, value: Any) -> Any:
    """`value`, unless it is None because the task was not bound.

    Raises:
        InputError: it is None.
    """
    if value is None:
        raise InputError(f"{name} is not known yet: bind the task to its data first")
    return value


def classes_of(task: Any, info: Any) -> int:
    """The number of classes of the data.

    Raises:
        InputError: the labels are no classes, or fewer than two.
    """
    num_classes = getattr(info, "num_classes", None)
    kind = type(task).__name__
    if num_classes is None:
        if getattr(info, "vocab_size", None) and getattr(info, "label_mean", None) is None:
            raise InputError(
                f"{kind} needs classes; these data are text without them: use "
                "LanguageModelling or Translation"
            )
        raise InputError(
            f"{kind} needs classes; the labels of these data are numbers: use Regression"
        )
    if num_classes < 2:
        raise InputError(f"{kind} needs two classes or more; the data have {num_classes}")
    return int(num_classes)


def expect_label(task: Any, info: Any, dtype: str, ndims: tuple[int, ...], advice: str) -> None:
    """Checks the label of one example, where `info.label` gives its (shape, dtype).

    Args:
        task: the task that is bound.
        info: what is known of the data.
        dtype: the dtype it must have.
        ndims: how many axes one example's label may have.
        advice: what to use otherwise.

    Raises:
        InputError: it differs.
    """
    if getattr(info, "label", None) is None:
        return
    shape, given = info.label
    if str(given) != dtype or len(shape) not in ndims:
        raise InputError(
            f"{type(task).__name__} does not fit labels of shape {tuple(shape)} and "
            f"dtype {given}: {advice}"
        )


def resolve_class_weights(
    weights: ClassWeights, num_classes: int, info: Any
) -> tuple[float, ...] | None:
    """One weight per class, or None.

    `"balanced"` is n / (num_classes x count), with the counts of the training split, as in
    scikit-learn.

    Raises:
        InputError: there are not as many weights as classes, or "balanced" meets a class without
            training examples.
    """
    if weights is None:
        return None
    names = getattr(info, "class_names", None) or tuple(str(i) for i in range(num_classes))
    if weights == "balanced":
        counts = getattr(info, "class_counts", None)
        if not counts:
            raise InputError('class_weights="balanced" needs class counts; the data give none')
        empty = [name for name, count in zip(names, counts, strict=True) if not count]
        if empty:
            raise InputError(
                f'class_weights="balanced": no training example of {", ".join(map(str, empty))}; '
                "give the weights as numbers"
            )
        return tuple(float(sum(counts) / (num_classes * count)) for count in counts)
    if len(weights) != num_classes:
        raise InputError(
            f"class_weights holds {len(weights)} numbers; the data have {num_classes} classes: "
            f"{', '.join(map(str, names))}"
        )
    return tuple(float(weight) for weight in weights)


def check_options(task: Any) -> None:
    """Checks the options that the losses of several tasks share.

    Raises:
        InputError: one is out of its range.
    """
    values = {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}
    smoothing = values.get("label_smoothing", 0.0)
    if not 0 <= smoothing < 1:
        raise InputError(f"label_smoothing is {smoothing}; it must be in [0, 1)")
    z_loss = values.get("z_loss", 0.0)
    if not 0 <= z_loss < float("inf"):
        raise InputError(f"z_loss is {z_loss}; it must be 0 or more")
    weights = values.get("class_weights")
    if isinstance(weights, str):
        if weights != "balanced":
            raise InputError(f'class_weights is {weights!r}; it must be "balanced" or numbers')
    elif weights is not None and not (
        all(0 <= w < float("inf") for w in weights) and sum(weights) > 0
    ):
        raise InputError(f"class_weights are {weights}; each must be 0 or more, and not all 0")
