"""Optimizers and learning-rate schedules: optax, chosen by name."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zoo.errors import InputError
from zoo.paths import leaf_paths, map_leaves, mask, path_of

Freeze = Collection[str] | Callable[[Any], Any]
"""What is not trained: patterns, or a function that makes a tree of booleans of the parameters."""


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves over the run; steps count updates."""

    name: Literal["constant", "cosine", "linear", "step"] = "constant"
    """Shape after the warm-up: constant, cosine or linear decay, or drops at given steps."""
    warmup_steps: int = 0
    """Updates over which the rate rises linearly from zero."""
    decay_steps: int = 0
    """Update at which cosine or linear decay ends; 0 is the last step of the run."""
    final_fraction: float = 0.0
    """Cosine and linear: the last rate as a fraction of the learning rate."""
    boundaries: tuple[int, ...] = ()
    """Step: the updates at which the rate is multiplied by `factor`."""
    factor: float = 0.1
    """Step: what the rate is multiplied by at each boundary."""

    def depends_on_steps(self) -> bool:
        """Whether the rates of the first steps change when the run is made longer."""
        return self.name in ("cosine", "linear") and self.decay_steps == 0

    def build(self, learning_rate: float, steps: int) -> Callable[[Any], Any]:
        """The rate as a function of the number of updates made so far."""
        end = max((self.decay_steps or steps) - self.warmup_steps, 1)
        if self.name == "cosine":  # Loshchilov & Hutter, arXiv:1608.03983, eq. 5, one cycle
            after = optax.cosine_decay_schedule(learning_rate, end, self.final_fraction)
        elif self.name == "linear":
            after = optax.linear_schedule(learning_rate, learning_rate * self.final_fraction, end)
        elif self.name == "step":
            drops = {max(at - self.warmup_steps, 0): self.factor for at in self.boundaries}
            after = optax.piecewise_constant_schedule(learning_rate, drops)
        else:
            after = optax.constant_schedule(learning_rate)
        if not self.warmup_steps:
            return after
        rise = optax.linear_schedule(0.0, learning_rate, self.warmup_steps)
        return optax.join_schedules([rise, after], [self.warmup_steps])


@dataclass(frozen=True)
class Optimizer:
    """What turns gradients into updates."""

    name: Literal["sgd", "momentum", "adam", "adamw", "lion", "adafactor", "muon"] = "adam"
    """The update rule, as optax implements it."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    schedule: Schedule = field(default_factory=Schedule)
    """How the learning rate moves over the run."""
    weight_decay: float = 0.0
    """Decoupled decay, times the learning rate; for sgd and momentum an L2 penalty's gradient."""
    decay: tuple[str, ...] = ("kernel", "embedding")
    """Last names of the parameters that decay (by name: biases and norm scales do not)."""
    clip_norm: float = 0.0
    """Gradients are scaled down to this global norm; 0 leaves them as they are."""
    momentum: float = 0.9
    """Momentum and muon: the decay of the running gradient."""
    nesterov: bool = False
    """Momentum: look ahead as Nesterov does."""
    b1: float = 0.9
    """Adam, adamw, lion: decay of the first moment."""
    b2: float = 0.999
    """Adam, adamw, lion: decay of the second moment."""
    eps: float = 1e-8
    """Adam, adamw: added to the root of the second moment."""
    freeze: tuple[str, ...] = ()
    """Parameters that are not trained: patterns of their paths, or of a part's that holds them,
    such as `embed*` or `layer[0-3]`; * also stands for /, and `!head` leaves the head out."""
    freeze_steps: int = 0
    """Updates after which what `freeze` names is trained too, with moments of its own that start
    there; 0 is never. Until then its gradients are computed and not used."""
    layer_decay: float = 1.0
    """Factor on the learning rate from one layer to the one below it: the head has the whole rate,
    the embeddings, below the first layer, the least."""

    def rate(self, steps: int) -> Callable[[Any], Any]:
        """The learning rate as a function of the number of updates made so far."""
        return self.schedule.build(self.learning_rate, steps)

    def build(self, steps: int, freeze: Freeze | None = None) -> optax.GradientTransformation:
        """The optax transformation for a run of `steps` steps.

        Args:
            steps: of the whole run.
            freeze: what is not trained, where it is not what `freeze` says.

        Raises:
            InputError: weight decay with plain adam (use adamw), a negative rate, or
                `freeze_steps` without `freeze`; once the parameters are known, a pattern of
                `freeze` that is the path of none.
        """
        if self.learning_rate < 0 or self.weight_decay < 0 or self.clip_norm < 0:
            raise InputError("optimizer: learning_rate, weight_decay and clip_norm must be >= 0")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"optimizer: layer_decay is {self.layer_decay}; it must be in (0, 1]")
        if self.freeze_steps < 0 or (self.freeze_steps and not self.freeze):
            raise InputError(
                f"optimizer: freeze_steps is {self.freeze_steps}; it needs freeze, and must be >= 0"
            )
        rate = self.rate(steps)
        clip = [optax.clip_by_global_norm(self.clip_norm)] if self.clip_norm else []
        if self.freeze_steps:
            # All in one norm, so that clipping sees every gradient that counts, and no other.
            later: dict[Any, Any] = {
                True: _after(self.freeze_steps, self._rule(lambda n: rate(n + self.freeze_steps))),
                False: self._rule(rate),
            }
            used: dict[Any, Any] = {
                True: _after(self.freeze_steps, optax.identity()),
                False: optax.identity(),
            }
            labels = partial(frozen, patterns=self.freeze)
            parts = [optax.multi_transform(used, labels), *clip] if clip else []
            rule = optax.chain(*parts, optax.multi_transform(later, labels))
        else:
            rule = optax.chain(*clip, self._rule(rate))
        if self.layer_decay < 1:
            rule = optax.chain(rule, _scaled(lambda params: layer_rates(params, self.layer_decay)))
        still = self.freeze if freeze is None else freeze
        if still and not self.freeze_steps:
            rules: dict[Any, Any] = {True: _nothing(), False: rule}
            rule = optax.multi_transform(rules, lambda params: frozen(params, still))
        return rule

    def _rule(self, rate: Callable[[Any], Any]) -> optax.GradientTransformation:
        decay, mask = self.weight_decay, self._decayed
        if self.name in ("sgd", "momentum"):
            l2 = [optax.add_decayed_weights(decay, mask)] if decay else []
            momentum = self.momentum if self.name == "momentum" else None
            return optax.chain(*l2, optax.sgd(rate, momentum, nesterov=self.nesterov))
        if self.name == "adam":
            if decay:
                raise InputError(
                    "optimizer: adam has no weight decay; set --optimizer.name adamw, or "
                    "--optimizer.weight-decay 0"
                )
            return optax.adam(rate, self.b1, self.b2, self.eps)
        if self.name == "adamw":
            return optax.adamw(rate, self.b1, self.b2, self.eps, weight_decay=decay, mask=mask)
        if self.name == "lion":
            return optax.lion(rate, self.b1, self.b2, weight_decay=decay, mask=mask)
        # Of these two optax decays without the mask, or without the learning rate.
        shrink = [optax.add_decayed_weights(lambda n: -decay * rate(n), mask)] if decay else []
        if self.name == "adafactor":
            return optax.chain(optax.adafactor(rate), *shrink)
        muon = optax.contrib.muon(
            rate,
            beta=self.momentum,
            adam_learning_rate=rate,
            adam_b1=self.b1,
            adam_b2=self.b2,
            muon_weight_dimension_numbers=_muon_dimensions,
        )
        return optax.chain(muon, *shrink)

    def _decayed(self, params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: _last(path) in self.decay, params)


def frozen(params: Any, patterns: Freeze) -> Any:
    """A tree of booleans: whether the path of a leaf, or of what holds it, fits the patterns, or
    what a function of the parameters says instead of them.

    Raises:
        InputError: a pattern fits nothing, or nothing is left to train.
    """
    if callable(patterns):
        return patterns(params)
    chosen = mask(params, patterns, "optimizer.freeze")
    if all(jax.tree.leaves(chosen)):
        raise InputError("optimizer.freeze: nothing is left to train")
    return chosen


def stop_gradients(params: Any, patterns: Freeze) -> Any:
    """The parameters, those that `patterns` freeze as constants: their gradients are zeros, and the
    compiler leaves out what would compute them."""
    return jax.tree.map(
        lambda leaf, still: jax.lax.stop_gradient(leaf) if still else leaf,
        params, frozen(params, patterns),
    )  # fmt: skip


def layer_rates(params: Any, decay: float) -> Any:
    """A tree of factors of the learning rate: `decay` to the power of the layers above.

    Layers are numbered by the names `layer0` or `block0`, ...; embeddings lie below the first, all
    else (head, pooler, last norm) above the last. Clark et al., 2020, arXiv:2003.10555, appendix.

    Raises:
        InputError: no name has such a number.
    """
    names = leaf_paths(params)
    depth = 1 + max((number for name in names if (number := _layer(name)) is not None), default=-1)
    if not depth:
        raise InputError("optimizer.layer_decay: the model has no parts named layer0, layer1, ...")

    def factor(name: str, _: Any) -> float:
        number = _layer(name)
        if number is None:
            number = -1 if name.startswith("embed") or name.endswith("embedding") else depth
        return decay ** (depth - number)

    return map_leaves(factor, params)


def _layer(name: str) -> int | None:
    match = re.search(r"(?:^|/)(?:layer|block)(\d+)(?:/|$)", name)
    return int(match[1]) if match else None


def _scaled(factors: Callable[[Any], Any]) -> optax.GradientTransformation:
    def update(updates: Any, state: Any, params: Any = None) -> Any:
        scale = lambda update, factor: update * jnp.asarray(factor, update.dtype)  # noqa: E731
        return jax.tree.map(scale, updates, factors(updates)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _nothing() -> optax.GradientTransformation:
    """No change at all: a negative zero, since -0.0 + 0.0 is 0.0, which are other bits."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, -0.0), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class _Waiting(NamedTuple):
    """State of a rule that is not used yet."""

    count: Any
    inner: Any


def _after(steps: int, rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """No change at all for `steps` updates, then a rule in its first state."""

    def init(params: Any) -> _Waiting:
        return _Waiting(jnp.zeros((), jnp.int32), rule.init(params))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        waiting = state.count < steps
        found, inner = rule.update(updates, state.inner, params)
        found = jax.tree.map(lambda new: jnp.where(waiting, jnp.full_like(new, -0.0), new), found)
        inner = jax.tree.map(lambda new, old: jnp.where(waiting, old, new), inner, state.inner)
        return found, _Waiting(jnp.minimum(state.count + 1, steps), inner)

    return optax.GradientTransformation(init, update)


def _last(path: Any) -> str:
    return jax.tree_util.keystr(path[-1:], simple=True)


def _muon_dimensions(params: Any) -> Any:
    """Muon orthogonalises hidden matrices; embeddings, heads and vectors are left to adam.

    Keller Jordan et al., 2024, https://kellerjordan.github.io/posts/muon: "should be used for
    2D parameters of the hidden layers".
    """

    def dimensions(path: Any, leaf: Any) -> Any:
        hidden = _last(path) == "kernel" and leaf.ndim == 2 and "head" not in path_of(path)
        return optax.contrib.MuonDimensionNumbers() if hidden else None

    return jax.tree_util.tree_map_with_path(dimensions, params)


def averaging_decay(decay: float, updates: Any) -> Any:
    """The decay of the parameter average after `updates` updates: it starts low and rises.

    `min(decay, (1 + n) / (10 + n))`, so that a short run's average is not stuck at its start.
    """
    return jnp.minimum(decay, (1.0 + updates) / (10.0 + updates))
