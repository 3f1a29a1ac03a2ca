"""config.json of a reference's folder: what of it changes the computation, and what does not."""

import collections
import dataclasses
import typing
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from zoo.errors import InputError

HARMLESS = {
    "architectures", "model_type", "transformers_version", "torch_dtype", "dtype", "id2label",
    "label2id", "num_labels", "problem_type", "finetuning_task", "name_or_path", "use_cache",
    "initializer_range", "initializer_factor", "gradient_checkpointing", "output_attentions",
    "output_hidden_states", "return_dict", "pad_token_id", "bos_token_id", "eos_token_id",
    "sep_token_id", "cls_token_id", "mask_token_id", "decoder_start_token_id",
    "task_specific_params", "chunk_size_feed_forward", "tokenizer_class", "prefix", "torchscript",
    "is_encoder_decoder",
    "pretraining_tp", "use_mamba_kernels", "summary_type", "language", "license", "auto_map",
    "hidden_act", "hidden_activation", "classifier_dropout", "attn_implementation",
}  # fmt: skip
"""Fields that change no number a model computes, or that each family reads by itself."""
HARMLESS_VALUES = (None, False, {}, [], "")

ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh", "quick_gelu": "quick_gelu", "relu": "relu",
    "leaky_relu": "leaky_relu", "silu": "silu", "swish": "silu", "tanh": "tanh",
    "sigmoid": "sigmoid", "relu6": "relu6", "hardswish": "hard_swish",
}  # fmt: skip
"""Their names of activation functions, and ours."""
WRITTEN = {"gelu_tanh": "gelu_new", "hard_swish": "hardswish"}
"""Which of their names is written, where it is not ours."""


LARGEST = collections.defaultdict(
    lambda: 2**24, depth=10_000, depths=1000, head_dim=2**16, max_length=2**27, window=2**27
)
"""Values above these are damage, and would take any memory or time."""
PER_STAGE = ("depths", "widths")
"""Fields with a number for each stage of a network."""


def to_activation(name: Any, field: str = "the activation") -> str:
    """Our name of an activation function, which stands in that field.

    Raises:
        InputError: it is not implemented.
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise InputError(
            f"config.json: {field} {name!r} is not implemented; there are "
            f"{', '.join(sorted(ACTIVATIONS))}"
        )
    return ACTIVATIONS[name]


def from_activation(name: str) -> str:
    """Their name of one of our activation functions.

    Raises:
        InputError: they have none.
    """
    found = WRITTEN.get(name, name)
    if found not in ACTIVATIONS:
        raise InputError(f"the activation {name!r} has no name in transformers")
    return found


def check_values(
    values: Mapping[str, Any],
    config: type,
    fields: Mapping[str, str],
    only: Mapping[str, Collection[Any]],
    own: Collection[str] = (),
) -> dict[str, Any]:
    """Our fields from theirs, by name.

    Args:
        values: config.json.
        config: our Config class, whose types are checked.
        fields: their name and ours, where the value is the same.
        only: fields with the values of them that are implemented.
        own: fields that the family reads by itself.

    Raises:
        InputError: a value is of the wrong type, or not implemented.
    """
    hints = typing.get_type_hints(config)
    defaults: dict[str, Any] = {part.name: part.default for part in dataclasses.fields(config)}
    found: dict[str, Any] = {}
    for theirs, ours in fields.items():
        if theirs in values:
            found[ours] = typed(theirs, values[theirs], hints[ours])
            if hints[ours] is int and not (defaults[ours] > 0) <= found[ours] <= LARGEST[ours]:
                raise InputError(f"config.json: {theirs} is {found[ours]}, which cannot be")
    for theirs, implemented in only.items():
        if theirs in values and values[theirs] not in implemented:
            listed = " or ".join(map(repr, implemented))
            raise InputError(
                f"config.json: {theirs} {values[theirs]!r} is not implemented, only {listed}"
            )
    unknown = sorted(
        name
        for name, value in values.items()
        if name not in {*fields, *only, *own, *HARMLESS}
        and not name.startswith("_")
        and value not in HARMLESS_VALUES
    )
    if unknown:
        warnings.warn(
            f"config.json: unknown fields are not used: {', '.join(unknown)}", stacklevel=4
        )
    return found


def check_sizes(cfg: Any) -> None:
    """Checks that no number of a Config is below what its default says can be, or beyond reason.

    Raises:
        InputError: one is.
    """
    hints = typing.get_type_hints(type(cfg))
    for part in dataclasses.fields(cfg):
        value, hint = getattr(cfg, part.name), hints[part.name]
        if part.name in PER_STAGE and not all(1 <= n <= LARGEST[part.name] for n in value):
            raise InputError(f"config.json gives {part.name} {value}, which cannot be")
        if value is None or hint not in (int, int | None):
            continue
        from_zero = part.name.endswith("_id") or part.default == 0
        from_zero = from_zero or part.name in ("window", "num_classes")
        if not (0 if from_zero else 1) <= value <= LARGEST[part.name]:
            raise InputError(f"config.json gives {part.name} {value}, which cannot be")


def typed(name: str, value: Any, hint: Any) -> Any:
    """A value of config.json as the type a Config declares.

    Raises:
        InputError: it is of another one, or no finite number.
    """
    good = isinstance(value, bool) if hint is bool else not isinstance(value, bool)
    kinds = (int, float) if hint is float else hint
    if not good or not isinstance(value, kinds):
        raise InputError(f"config.json: {name} is {value!r}; it must be of type {hint.__name__}")
    if hint is float and not abs(value) < float("inf"):
        raise InputError(f"config.json: {name} is {value!r}; it must be finite")
    return float(value) if hint is float else value


def read_size(name: str, value: Any) -> int | tuple[int, int]:
    """A size of config.json: one number, or height and width.

    Raises:
        InputError: it is neither, or no size of a picture.
    """
    parts = value if isinstance(value, list) else [value, value]
    whole = all(isinstance(part, int) and not isinstance(part, bool) for part in parts)
    if len(parts) != 2 or not whole or not all(1 <= part <= 2**16 for part in parts):
        raise InputError(
            f"config.json: {name} is {value!r}; it must be a number of pixels, or height and width"
        )
    return parts[0] if parts[0] == parts[1] else (parts[0], parts[1])


def write_size(size: int | tuple[int, int]) -> int | list[int]:
    """A size as config.json has it."""
    return size if isinstance(size, int) else list(size)


def head_dropout(values: Mapping[str, Any], known: Mapping[str, Any]) -> float:
    """The rate before a classifier, which is that of the rest where none is given.

    Raises:
        InputError: it is no number.
    """
    rate = values.get("classifier_dropout")
    return known.get("dropout", 0.1) if rate is None else typed("classifier_dropout", rate, float)


def read_labels(values: Mapping[str, Any]) -> dict[str, Any]:
    """`num_classes`, and `labels` where the classes have names, from `id2label` or `num_labels`.

    Raises:
        InputError: the ids are not 0, 1, 2, ...
    """
    names = values.get("id2label")
    if names is None:
        count = values.get("num_labels")
        return {} if count is None else {"num_classes": typed("num_labels", count, int)}
    try:
        by_id = {int(number): name for number, name in names.items()}
        labels = tuple(by_id[number] for number in range(len(by_id)))
        if not labels or not all(isinstance(name, str) for name in labels):
            raise ValueError
    except (AttributeError, ValueError, TypeError, KeyError):
        raise InputError("config.json: id2label must name the classes 0, 1, 2, ...") from None
    plain = labels == tuple(f"LABEL_{number}" for number in range(len(labels)))
    return {"num_classes": len(labels), "labels": () if plain else labels}


def write_labels(count: int, labels: Sequence[str]) -> dict[str, Any]:
    """`id2label` and its inverse for a classifier."""
    names = list(labels) or [f"LABEL_{number}" for number in range(count)]
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
