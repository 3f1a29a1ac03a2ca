"""One training step: three pure functions, composed here and compiled elsewhere.

`grads` sums losses and gradients over the examples of a shard, `reduce` adds the shards,
`update` changes the state. Sums and not means, so that padding, accumulation and any number of
devices give the same number.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zoo.training.optimizers import Freeze, averaging_decay, stop_gradients
from zoo.training.state import State

Batch = dict[str, Any]
Metrics = dict[str, Any]

# Below this many floating-point operations, the dispatch of a step is a good part of its cost
# (bench W1, W3b). The batches of one dispatch are held at once, and some more wait their turn.
SMALL_STEP_FLOPS = 2e8
STEPS_PER_DISPATCH = 64
MAX_DISPATCH_BYTES = 32 * 2**20


class Sums(NamedTuple):
    """What a shard contributes: gradient and loss summed over its examples, and their weight."""

    grads: Any
    loss: Any
    weight: Any


@dataclass(frozen=True)
class Step:
    """The training step of one run.

    Attributes:
        module: the model.
        task: gives `loss(apply, variables, batch, rngs, train)`.
        optimizer: an optax transformation.
        rate: the learning rate as a function of the number of updates, for the log.
        accumulate: microbatches a batch is cut into; their sums are added before the update.
        average: decay of the parameter average; 0 keeps none.
        skip_nonfinite: leave out updates that are not finite and go on, instead of freezing.
        unroll: write the microbatches out instead of looping (convolutions on CPU).
        axis: the named axis to add over (`pmap`); None where the compiler does it (`jit`).
        freeze: which parameters get no gradient, see `zoo.training.optimizers.frozen`.
    """

    module: Any
    task: Any
    optimizer: optax.GradientTransformation
    rate: Callable[[Any], Any]
    accumulate: int = 1
    average: float = 0.0
    skip_nonfinite: bool = False
    unroll: bool = False
    axis: str | None = None
    freeze: Freeze = ()

    def __call__(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """One step. `batch` leaves are `[B, ...]`, or `[A, B/A, ...]` when accumulating."""
        sums, extra = self.shard(state, batch, self.key(state))
        return self.update(state, self.reduce(sums), extra)

    def key(self, state: State) -> Any:
        """The random key of the next step."""
        return jax.random.fold_in(jax.random.key(state.seed), state.step)

    def shard(self, state: State, batch: Batch, key: Any) -> tuple[Sums, Any]:
        """What a shard of the batch contributes, in one piece or in microbatches."""
        if self.accumulate == 1:
            return self.grads(state.params, state.extra, batch, key)
        return self._accumulated(state, batch, key)

    def many(self, state: State, batches: Batch, first: Any, last: Any) -> tuple[State, Metrics]:
        """Steps `first` to `last - 1` of a chunk of batches stacked on a leading axis; metrics of
        the last.

        The number of steps is not part of the program, so that a run cut anywhere runs the same
        program, and gets the same bits, as a run that was never cut.
        """

        def batch(at: Any) -> Batch:
            return jax.tree.map(lambda leaf: leaf[at], batches)

        _, shapes = jax.eval_shape(self, state, batch(0))
        metrics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.fori_loop(
            first, last, lambda at, carry: self(carry[0], batch(at)), (state, metrics)
        )

    def grads(self, params: Any, extra: Any, shard: Batch, key: Any) -> tuple[Sums, Any]:
        """Sums of loss, weight and gradient over the examples of a shard; the new collections."""

        def loss(params: Any) -> tuple[Any, Any]:
            params = stop_gradients(params, self.freeze) if self.freeze else params
            loss_sum, weight_sum, aux = self.task.loss(
                apply_function(self.module), {"params": params, **extra}, shard, rngs(key), True
            )
            return loss_sum, (weight_sum, aux["updates"])

        (loss_sum, (weight_sum, updates)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return Sums(gradient, loss_sum, weight_sum), {**extra, **updates}

    def reduce(self, sums: Sums) -> Sums:
        """Adds the shards of a named axis; without one the compiler has done it."""
        return jax.lax.psum(sums, self.axis) if self.axis else sums

    def update(self, state: State, sums: Sums, extra: Any) -> tuple[State, Metrics]:
        """Applies the summed gradient, unless it, the loss or what it applies to is not finite."""
        weight = jnp.where(sums.weight > 0, sums.weight, 1)
        loss = sums.loss / weight
        grads = jax.tree.map(lambda leaf: (leaf / weight).astype(leaf.dtype), sums.grads)
        kept = [state.params, *([state.average] if self.average else [])]
        norm = optax.tree.norm(jax.tree.map(_poisoned, grads, *kept))
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)

        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        made = state.step - state.skipped
        average = state.average
        if self.average:
            decay = averaging_decay(self.average, made)
            average = optax.incremental_update(params, average, 1 - decay)
        new = (params, opt_state, extra, average)
        old = (state.params, state.opt_state, state.extra, state.average)
        running = state.failed < 0
        commit = finite & running
        params, opt_state, extra, average = jax.tree.map(
            lambda new, old: jnp.where(commit, new, old), new, old
        )
        failed, skipped = state.failed, state.skipped
        if self.skip_nonfinite:
            skipped = skipped + (~finite).astype(jnp.int32)
            step = state.step + 1
        else:
            failed = jnp.where(running & ~finite, state.step, failed)
            step = state.step + commit.astype(jnp.int32)
        metrics = {
            "loss": loss,
            "learning_rate": jnp.asarray(self.rate(made), jnp.float32),
            "gradient_norm": norm,
            "failed": failed,
            "skipped": skipped,
        }
        state = dataclasses.replace(
            state,
            step=step,
            params=params,
            opt_state=opt_state,
            extra=extra,
            average=average,
            failed=failed,
            skipped=skipped,
        )
        return state, metrics

    def _accumulated(self, state: State, batch: Batch, key: Any) -> tuple[Sums, Any]:
        def microbatch(at: Any) -> Batch:
            return jax.tree.map(lambda leaf: leaf[at], batch)

        def add(at: Any, carry: Any) -> Any:
            total, extra = carry
            sums, extra = self.grads(
                state.params, extra, microbatch(at), jax.random.fold_in(key, at)
            )
            return jax.tree.map(jnp.add, total, sums), extra

        first = self.grads(state.params, state.extra, microbatch(0), jax.random.fold_in(key, 0))
        if not self.unroll:
            return jax.lax.fori_loop(1, self.accumulate, add, first)
        carry = first
        for at in range(1, self.accumulate):
            carry = add(at, carry)
        return carry


def _poisoned(gradient: Any, *kept: Any) -> Any:
    """The gradient, NaN where a parameter or its average is not finite: a dead unit would hide it,
    and as part of the norm it needs no pass of its own.
    """
    return sum((0 * at_least_float32(leaf) for leaf in kept), at_least_float32(gradient))


def at_least_float32(leaf: Any) -> Any:
    """Squares of float16 gradients overflow at 256."""
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def apply_function(module: Any) -> Callable[..., tuple[Any, Any]]:
    """`apply(variables, *inputs, train, rngs, **inputs) -> (outputs, new collections)`."""

    def apply(variables: Any, *args: Any, train: bool = False, rngs: Any = None, **kwargs: Any):
        mutable = [name for name in variables if name != "params"] if train else []
        if not mutable:
            return module.apply(variables, *args, train=train, rngs=rngs, **kwargs), {}
        return module.apply(variables, *args, train=train, rngs=rngs, mutable=mutable, **kwargs)

    return apply


def rngs(key: Any) -> dict[str, Any]:
    """The random streams of one step: dropout's, and one for whatever else a module draws."""
    return {"dropout": jax.random.fold_in(key, 0), "default": jax.random.fold_in(key, 1)}


def steps_per_dispatch(step: Step, state: Any, batch: Any) -> int:
    """How many steps one dispatch should hold: many for a small step, else one.

    A fixed rule and no measurement, because the choice changes the bits of a run: a step of less
    than `SMALL_STEP_FLOPS` is dispatched `STEPS_PER_DISPATCH` at a time, unless their batches take
    more than `MAX_DISPATCH_BYTES`, and one with a convolution on CPU never (inside a loop it is 4
    to 20 times slower there).
    """
    size = STEPS_PER_DISPATCH * sum(leaf.nbytes for leaf in jax.tree.leaves(batch))
    if size > MAX_DISPATCH_BYTES or slow_in_loops(step, state, batch):
        return 1
    cost = jax.jit(dataclasses.replace(step, axis=None)).lower(state, batch).cost_analysis()
    flops = (cost or {}).get("flops", SMALL_STEP_FLOPS)
    return STEPS_PER_DISPATCH if 0 < flops < SMALL_STEP_FLOPS else 1


def slow_in_loops(step: Step, state: State, batch: Batch) -> bool:
    """Whether the step convolves on CPU, where XLA runs convolutions slowly inside a loop."""
    if jax.default_backend() != "cpu":
        return False
    single = dataclasses.replace(step, axis=None, unroll=True)
    return "conv_general_dilated" in str(jax.make_jaxpr(single)(state, batch))
