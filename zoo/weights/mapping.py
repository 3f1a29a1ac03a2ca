"""Tables that say where each tensor of a reference's file lies in our parameters, and how turned.

A table is a list of `Rule`; the same table reads and writes. A rule's `axes` is an einops pattern
from their side to ours; a side that is a tuple of names is one array with a leading axis more.

    Rule("h.{i}.mlp.c_fc.weight", "h{i}/up/kernel")                        as it is
    Rule("fc.weight", "head/kernel", "o i -> i o")                         turned
    Rule("attn.c_attn.weight", ("q/kernel", "k/kernel", "v/kernel"), "i (n o) -> n i o")    fused
    Rule(("e0.w", "e1.w"), "experts/kernel", "e o i -> e i o")             stacked

Running statistics have paths that begin with `batch_stats/`, since they lie in that collection.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import einops
import numpy as np

Names = str | tuple[str, ...]
STATISTICS = "batch_stats/"  # what their paths begin with


@dataclass(frozen=True)
class Rule:
    """Where tensors go.

    Attributes:
        theirs: name or names in the reference's file.
        ours: path or paths in `params`, such as `layer0/query/kernel`.
        axes: einops pattern from theirs to ours; empty where they are equal.
        sizes: lengths of axes that the pattern cannot tell by itself.
    """

    theirs: Names
    ours: Names
    axes: str = ""
    sizes: tuple[tuple[str, int], ...] = ()

    def read(self, arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Our arrays, in the order of `ours`, from theirs.

        Raises:
            ValueError: the shapes do not fit the pattern.
        """
        return _turn(list(arrays), self.theirs, self.ours, self.axes, self.sizes)

    def shapes(self, given: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The shapes of our arrays from those of theirs; nothing is allocated.

        Raises:
            ValueError: they do not fit the pattern, or differ where they are to be stacked.
        """
        given = list(given)
        if len(set(given)) != 1:
            raise ValueError("the tensors to be stacked have different shapes")
        lead = () if isinstance(self.theirs, str) else (len(given),)
        whole = np.broadcast_to(np.zeros((), np.bool_), (*lead, *given[0]))
        made = _rearrange(whole, self.theirs, self.ours, self.axes, self.sizes)
        return [made.shape] if isinstance(self.ours, str) else [part.shape for part in made]

    def write(self, arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Their arrays, in the order of `theirs`, from ours."""
        left, _, right = self.axes.partition("->")
        back = f"{right.strip()} -> {left.strip()}" if self.axes else ""
        return _turn(list(arrays), self.ours, self.theirs, back, self.sizes)


@dataclass(frozen=True)
class FirstConv(Rule):
    """A convolution that sees the image: theirs is `[out, channels, height, width]`.

    Where other channels are asked for than those that were saved, the weights are made to fit as
    timm does: one channel takes the sum over the old ones; more or fewer repeat them in turn,
    scaled so that the sum of all weights stays about the same.

    Attributes:
        channels: how many are asked for; None is as many as there are.
    """

    channels: int | None = None

    def read(self, arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
        return super().read(self._fit(array) for array in arrays)

    def shapes(self, given: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
        def fitting(shape: tuple[int, ...]) -> tuple[int, ...]:
            return (shape[0], self.channels or shape[1], *shape[2:]) if len(shape) > 1 else shape

        return super().shapes(map(fitting, given))

    def _fit(self, weight: np.ndarray) -> np.ndarray:
        old, new = weight.shape[1], self.channels
        if new in (None, old):
            return weight
        wide = weight.astype(np.float64 if weight.dtype == np.float64 else np.float32)
        if new == 1:
            wide = wide.sum(1, keepdims=True)
        else:
            wide = wide[:, np.arange(new) % old] * (old / new)
        return wide.astype(weight.dtype)


def names(side: Names) -> tuple[str, ...]:
    """A side of a rule as a tuple."""
    return (side,) if isinstance(side, str) else side


def repeat(rules: Iterable[Rule], count: int, letter: str = "i") -> list[Rule]:
    """The rules once for each layer: `{i}` on both sides becomes 0, 1, ... `count - 1`."""

    def at(side: Names, index: int) -> Names:
        filled = tuple(name.replace(f"{{{letter}}}", str(index)) for name in names(side))
        return filled[0] if isinstance(side, str) else filled

    return [
        dataclasses.replace(rule, theirs=at(rule.theirs, index), ours=at(rule.ours, index))
        for index in range(count)
        for rule in rules
    ]


def at_prefix(prefix: str, rules: Iterable[Rule]) -> list[Rule]:
    """The rules with `{prefix}` in their names filled in."""
    return [
        dataclasses.replace(
            rule, theirs=rule.theirs.replace("{prefix}", prefix)
            if isinstance(rule.theirs, str)
            else tuple(name.replace("{prefix}", prefix) for name in rule.theirs),
        )
        for rule in rules
    ]  # fmt: skip


def under(prefix: str, rules: Iterable[Rule]) -> list[Rule]:
    """The rules with a prefix before each of their names."""

    def at(side: Names) -> Names:
        filled = tuple(prefix + name for name in names(side))
        return filled[0] if isinstance(side, str) else filled

    return [dataclasses.replace(rule, theirs=at(rule.theirs)) for rule in rules]


def dense(theirs: str, ours: str, bias: bool = True) -> list[Rule]:
    """A PyTorch `Linear`, whose weight is `[out, in]`, as our `Dense`."""
    rules = [Rule(f"{theirs}.weight", f"{ours}/kernel", "o i -> i o")]
    return rules + [Rule(f"{theirs}.bias", f"{ours}/bias")] * bias


def conv(theirs: str, ours: str, bias: bool = False) -> list[Rule]:
    """A PyTorch `Conv2d`, whose weight is `[out, in, height, width]`, as our `Conv`."""
    rules = [Rule(f"{theirs}.weight", f"{ours}/kernel", "o i h w -> h w i o")]
    return rules + [Rule(f"{theirs}.bias", f"{ours}/bias")] * bias


def first_conv(theirs: str, ours: str, channels: int, bias: bool = False) -> list[Rule]:
    """The same for the convolution that sees the image of so many channels."""
    (weight, *rest) = conv(theirs, ours, bias)
    return [FirstConv(weight.theirs, weight.ours, weight.axes, channels=channels), *rest]


def batch_norm(theirs: str, ours: str) -> list[Rule]:
    """A PyTorch `BatchNorm` as ours; its counter of batches is of no use (`COUNTERS`)."""
    return norm(theirs, ours) + [
        Rule(f"{theirs}.running_mean", f"{STATISTICS}{ours}/mean"),
        Rule(f"{theirs}.running_var", f"{STATISTICS}{ours}/var"),
    ]


COUNTERS = r".*\.num_batches_tracked"
"""Names of the tensors in which PyTorch's batch norms count their batches."""


def decoder_head(task: str, tied: bool, name: str = "lm_head") -> list[Rule]:
    """The head of a decoder: a classifier's scores, or an output layer that is not the embedding.

    Args:
        task: what the head is for.
        tied: whether the embedding is the output layer.
        name: theirs, of the output layer.
    """
    if task == "text-classification":
        return dense("score", "head", bias=False)
    if task == "text-generation" and not tied:
        return dense(name, "head", bias=False)
    return []


def norm(theirs: str, ours: str, bias: bool = True) -> list[Rule]:
    """A PyTorch `LayerNorm` (or a root-mean-square norm, without bias) as ours."""
    rules = [Rule(f"{theirs}.weight", f"{ours}/scale")]
    return rules + [Rule(f"{theirs}.bias", f"{ours}/bias")] * bias


def read_all(rules: Iterable[Rule], read: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """Our arrays by path, from a function that reads theirs by name."""
    found: dict[str, np.ndarray] = {}
    for rule in rules:
        made = rule.read(read(name) for name in names(rule.theirs))
        found.update(zip(names(rule.ours), made, strict=True))
    return found


def write_all(rules: Iterable[Rule], params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Their arrays by name, from ours by path."""
    found: dict[str, np.ndarray] = {}
    for rule in rules:
        made = rule.write(params[path] for path in names(rule.ours))
        found.update(zip(names(rule.theirs), made, strict=True))
    return found


def _turn(
    arrays: list[np.ndarray], source: Names, target: Names, axes: str, sizes: Any
) -> list[np.ndarray]:
    whole = arrays[0] if isinstance(source, str) else np.stack(arrays)
    turned = _rearrange(whole, source, target, axes, sizes)
    return [turned] if isinstance(target, str) else list(turned)


def _rearrange(
    whole: np.ndarray, source: Names, target: Names, axes: str, sizes: Any
) -> np.ndarray:
    if not axes:
        return whole
    lengths = dict(sizes)
    for side, pattern in zip((source, target), axes.split("->"), strict=True):
        if not isinstance(side, str):  # its leading axis counts the names
            lengths[pattern.split()[0]] = len(side)
    try:
        return einops.rearrange(whole, axes, **lengths)
    except einops.EinopsError as error:
        raise ValueError(str(error).strip().splitlines()[-1].strip()) from None
