"""Optimizers and learning-rate schedules: optax, chosen by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from zoo.errors import InputError


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

    def rate(self, steps: int) -> Callable[[Any], Any]:
        """The learning rate as a function of the number of updates made so far."""
        return self.schedule.build(self.learning_rate, steps)

    def build(self, steps: int) -> optax.GradientTransformation:
        """The optax transformation for a run of `steps` steps.

        Raises:
            InputError: weight decay with plain adam (use adamw), or a negative rate.
        """
        if self.learning_rate < 0 or self.weight_decay < 0 or self.clip_norm < 0:
            raise InputError("optimizer: learning_rate, weight_decay and clip_norm must be >= 0")
        rate = self.rate(steps)
        clip = [optax.clip_by_global_norm(self.clip_norm)] if self.clip_norm else []
        return optax.chain(*clip, self._rule(rate))

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


def _last(path: Any) -> str:
    return jax.tree_util.keystr(path[-1:], simple=True)


def _muon_dimensions(params: Any) -> Any:
    """Muon orthogonalises hidden matrices; embeddings, heads and vectors are left to adam.

    Keller Jordan et al., 2024, https://kellerjordan.github.io/posts/muon: "should be used for
    2D parameters of the hidden layers".
    """

    def dimensions(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        hidden = _last(path) == "kernel" and leaf.ndim == 2 and "head" not in name
        return optax.contrib.MuonDimensionNumbers() if hidden else None

    return jax.tree_util.tree_map_with_path(dimensions, params)


def averaging_decay(decay: float, updates: Any) -> Any:
    """The decay of the parameter average after `updates` updates: it starts low and rises.

    `min(decay, (1 + n) / (10 + n))`, so that a short run's average is not stuck at its start.
    """
    return jnp.minimum(decay, (1.0 + updates) / (10.0 + updates))
