"""The loop: data, step, evaluation, checkpoints and log meet here, and only here.

The batch and the key of step n are functions of the seed and n, so a run that is stopped anywhere
and started again ends with the same bits.
"""

import dataclasses
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zoo import assemble, config_json, finetuning, runs
from zoo import config as configs
from zoo.data import Stream, evaluation_batches, load
from zoo.errors import InputError, RunError
from zoo.parallel.compile import check_divisible, initialise, local_rows
from zoo.parallel.processes import largest
from zoo.training import pictures
from zoo.training.checkpoints import Checkpoints, abstract_state
from zoo.training.evaluator import Evaluator
from zoo.training.feed import Feed, Rows, microbatches
from zoo.training.lock import Lock
from zoo.training.log import Log
from zoo.training.receipt import FILE, append_start, describe_start, write_json
from zoo.training.signals import Signals
from zoo.training.state import check_names, leaf_shapes, params_digest
from zoo.training.step import Step, slow_in_loops, steps_per_dispatch
from zoo.training.sums import leaf_sums


class Stopped(Exception):
    """A signal or --stop-after ended the run after a checkpoint."""

    def __init__(self, step: int, exit_code: int):
        super().__init__(f"stopped at step {step}; run the same command to go on")
        self.exit_code = exit_code


def train(run: configs.Run, signals: Signals | None = None) -> dict[str, Any]:
    """Trains a run to its end, from its newest whole checkpoint if there is one.

    Args:
        run: what to train; `run.workdir` is the run folder.
        signals: where requests to stop come from; None listens to none.

    Returns:
        What `result.json` holds: step, metrics of the test split, params_digest.

    Raises:
        InputError: config and data do not fit, or the folder holds another experiment.
        RunError: the loss is not finite, saving fails, or no checkpoint is whole.
        Stopped: a signal came; everything is saved.
    """
    if not run.workdir:
        raise InputError("workdir: a run needs a folder")
    folder = Path(run.workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"workdir {folder}: {error.strerror}") from None
    with Lock(folder) if jax.process_index() == 0 else nullcontext() as lock:
        return Training(run, folder, signals or Signals(), lock).run_to_end()


class Training:
    """One start of a run: everything built, the state restored."""

    def __init__(self, run: configs.Run, folder: Path, signals: Signals, lock: Lock | None = None):
        self.folder, self.signals, self.lock = folder, signals, lock
        self.deadline = time.monotonic() + configs.seconds(run.stop_after)
        self.first_process = jax.process_index() == 0
        asked, source, data = finetuning.opened(run, folder)
        runs.check_config(folder, asked)
        self.run = run = assemble.resolved(asked)
        self.splits, self.info = data.splits, data.info
        self.task = run.task.bind(self.info)
        self.module = assemble.build_model(run, self.task)
        assemble.check_fit(run, self.module, self.info)
        self.metric, mode = (run.best_metric, run.best_mode) if run.best_metric else self.task.best
        self.sign = 1.0 if mode == "max" else -1.0

        self.parallel = assemble.parallelism(run)
        check_divisible("batch_size", run.batch_size // run.accumulate, self.parallel)
        first, count = local_rows(run.batch_size)
        self.stream = Stream(
            self.splits["train"], run.batch_size, run.seed, run.augment, run.balance, first, count
        )
        self.step = Step(
            self.module, self.task, run.optimizer.build(run.steps, assemble.frozen(run)),
            run.optimizer.rate(run.steps), run.accumulate, run.average,
            run.on_nonfinite == "skip", axis=self.parallel.axis,
            freeze=assemble.never_trained(run),
        )  # fmt: skip
        init = partial(assemble.fresh_state, run, self.module, self.info)
        self.shapes = jax.eval_shape(init)
        check_names((self.shapes.params, self.shapes.extra))
        batch = microbatches(self.stream[0], run.accumulate)
        if run.accumulate > 1 and slow_in_loops(self.step, self.shapes, batch):
            self.step = dataclasses.replace(self.step, unroll=True)

        warnings: list[str] = []
        self.checkpoints = Checkpoints(
            folder / "checkpoints", run.keep, warnings.append, on_error=run.on_save_error,
            foreign=self._foreign,
        )  # fmt: skip
        like = abstract_state(self.shapes, self.parallel.shardings(self.shapes))
        restored = self.checkpoints.restore(like)
        self.warm_start: dict[str, Any] = {}
        if restored:
            self.state, meta = self.parallel.place_state(restored[0]), restored[1]
            self.chunk, self.receipt = meta["steps_per_dispatch"], meta.get("receipt", {})
            self._check_data(meta["info"]["fingerprint"])
        else:
            self.receipt = {}
            state = initialise(self.parallel, init)
            if run.init_from:
                state, self.warm_start = finetuning.warm_start(
                    run, folder, state, self.module, warnings.append
                )
            self.state = self.parallel.place_state(state)
            # Traces the step: what does not fit together is refused before the folder is taken.
            chosen = steps_per_dispatch(self.step, self.shapes, batch)
            self.chunk = run.steps_per_dispatch or (1 if run.reproducible else chosen)
        if self.first_process:  # only now: a start that was refused leaves the folder free
            runs.write_config(folder, asked)
            finetuning.keep(run, source, folder)
        self.first, self.last = int(self.state.step), run.steps
        self.log = Log(
            folder, self.first, run.steps, run.batch_size, run.tensorboard,
            leaf_shapes(self.shapes.params), not self.first_process,
        )  # fmt: skip
        self.sums = self.parallel.whole(leaf_sums)
        for warning in warnings:
            self.log.warn(warning)
        self.checkpoints.warn = self.log.warn
        self.evaluator = Evaluator(
            self.module, self.task, self.parallel,
            *assemble.text_generator(self.module, self.task, source, self.info),
        )  # fmt: skip

    def run_to_end(self) -> dict[str, Any]:
        """Trains, evaluates on the test split, writes the result."""
        run, log = self.run, self.log
        if self.first_process:
            self.receipt = append_start(self.folder / FILE, self.describe(), self.receipt)
        counts = "  ".join(f"{name} {count}" for name, count in self.info.counts.items())
        devices = f"{run.devices or jax.device_count()} device(s) by {run.parallel}"
        if run.reproducible:
            devices += f", {run.reproducible} virtual shards"
        log.say(f"{self.folder}: {counts} examples; {self._size()} parameters; {devices}")
        if self.info.skipped.get("count"):
            log.warn(f"{self.info.skipped['count']} malformed records skipped, such as "
                     f"{', '.join(self.info.skipped['names'][:3])}")  # fmt: skip
        if self.first:
            log.say(f"resumed at step {self.first}")
        self.signals.armed = True
        try:
            if not self._stale():
                self._train()
            return self._finish()
        finally:
            self.signals.armed = False
            log.close()
            self.checkpoints.close()

    def describe(self) -> dict[str, Any]:
        """This start, for the receipt."""
        run, info = self.run, self.info
        data = {
            "fingerprint": info.fingerprint, "order": self.stream.order_digest(),
            "examples": info.counts, "skipped": info.skipped,
        }  # fmt: skip
        own = [type(run.model), type(run.task), type(run.data), type(self.module)]
        return describe_start(
            config_json.to_json(run), data, self.warm_start, self.first, self.chunk,
            self.parallel.shape, own,
        )  # fmt: skip

    def _train(self) -> None:
        """Steps to `last`."""
        run, step, last = self.run, self.first, self.last
        self.log.start(self.sums(self.state.params))
        train_step = self.parallel.train(
            self.step.many if self.chunk > 1 else self.step,
            self.shapes,
            (self.chunk > 1) + (run.accumulate > 1),
        )
        stop = self.first + -(-max(last - self.first, 0) // self.chunk) * self.chunk
        batches = load(self.stream, self.first, stop, self.chunk, run.loader_threads, 8)
        feed = Feed(self.stream, self.task, self.info, self.parallel, run.accumulate, self.chunk)
        placed = feed.placed(self.first, batches)
        for start in range(self.first, last, self.chunk):
            batch = next(placed)
            while step < min(start + self.chunk, last):
                until = min(start + self.chunk, self._next_event(step))
                if self.chunk > 1:
                    self.state, metrics = train_step(
                        self.state, batch, np.int32(step - start), np.int32(until - start)
                    )
                else:
                    self.state, metrics = train_step(self.state, batch)
                step = until
                written = None
                if step % run.log_every == 0 or step == last:
                    written = self.log.train(step, metrics, self.sums(self.state.params))
                if self._after(step, written):
                    return

    def _after(self, step: int, written: dict[str, Any] | None) -> bool:
        """Evaluates, saves and stops where it is due; true when early stopping ends the run."""
        self._check_finite(written)
        run, score, improved = self.run, None, False
        evaluate = step % run.eval_every == 0 or step == run.steps
        save = step % run.save_every == 0 or step == run.steps
        stop = self._asked_to_stop(step)
        if evaluate or save or stop:
            self.log.flush()
            self._check_finite({"failed": int(self.state.failed)})
        if evaluate and self.info.counts.get("validation"):
            metrics = self._evaluate("validation")
            self.log.evaluation(step, metrics)
            score, improved = self._judge(metrics)
        stale = evaluate and self._stale()
        if save or improved or stop or stale:
            self._save(step, score)
        if stop and step < run.steps:
            self.log.say(f"stopping at step {step}, saved; run the same command to go on")
            self.checkpoints.finish()
            raise Stopped(step, 128 + stop if stop > 0 else 0)
        if stale:
            self.log.say(
                f"stopping early: {run.early_stopping} evaluations without a better {self.metric}"
            )
        return stale

    def _asked_to_stop(self, step: int) -> int:
        """The signal that came, on any process; -1 when the time is up; else 0."""
        stop = self.signals.received or -(time.monotonic() > self.deadline)
        if jax.process_count() == 1:
            return stop
        if step % self.run.log_every:  # asking the others costs a message
            return 0
        return largest(stop) or -largest(-stop)

    def _judge(self, metrics: dict[str, Any]) -> tuple[float | None, bool]:
        """The validation score (larger is better), and whether it is the best so far."""
        if self.metric not in metrics:
            known = ", ".join(name for name, value in metrics.items() if isinstance(value, float))
            raise InputError(f"best_metric {self.metric}: the task has {known}")
        if metrics[self.metric] is None:
            return None, False
        score = self.sign * float(metrics[self.metric])
        best, stale = float(self.state.best), int(self.state.stale)
        improved = np.float32(score) > best
        new = (np.float32(score if improved else best), np.int32(0 if improved else stale + 1))
        best, stale = jax.device_put(new, (self.state.best.sharding, self.state.stale.sharding))
        self.state = self.state.replace(best=best, stale=stale)
        return score, bool(improved)

    def _stale(self) -> bool:
        return 0 < self.run.early_stopping <= int(self.state.stale)

    def _evaluate(self, split: str) -> dict[str, Any]:
        variables = self.state.averaged_variables
        return evaluate(self.evaluator, variables, self.splits[split], self.run, self.info)

    def _save(self, step: int, score: float | None) -> None:
        meta = {
            "config": config_json.to_json(self.run),
            "info": self.info.to_json(),
            "steps_per_dispatch": self.chunk,
            "receipt": self.receipt,
        }
        if self.lock:
            self.lock.check()
        self.checkpoints.save(step, self.parallel.saveable(self.state), meta, score)

    def _finish(self) -> dict[str, Any]:
        self.checkpoints.finish()
        step = int(self.state.step)
        metrics = self._evaluate("test") if self.info.counts.get("test") else {}
        if metrics:
            self.log.evaluation(step, metrics, "test")
        digest = params_digest(self.state.params)
        result = {"step": step, "metrics": metrics, "params_digest": digest}
        if self.first_process:
            write_json(self.folder / "result.json", result)
            self.log.close()
            pictures.draw_curves(self.log.path, self.folder / "curves.png", self.metric)
            if matrix := metrics.get("confusion_matrix"):
                names = list(self.info.class_names) or list(map(str, range(len(matrix))))
                pictures.draw_confusion(matrix, names, self.folder / "confusion.png")
        return result

    def _foreign(self, meta: dict[str, Any]) -> str:
        return runs.of_another_run(config_json.to_json(self.run), meta)

    def _check_data(self, fingerprint: str) -> None:
        if fingerprint != self.info.fingerprint:
            raise InputError(
                f"the data have changed since {self.folder} was begun; restore them, or choose "
                "another --workdir"
            )

    def _check_finite(self, metrics: dict[str, Any] | None) -> None:
        if metrics is None or metrics["failed"] < 0:
            return
        self.log.flush()
        self.checkpoints.finish()
        steps = self.checkpoints.steps()
        last = f"the last good checkpoint is step {steps[-1]}" if steps else "nothing was saved yet"
        raise RunError(
            f"the loss, a gradient or a parameter of step {metrics['failed']} is NaN or infinite; "
            f"{last} in {self.folder / 'checkpoints'}. Try a lower --optimizer.learning-rate, "
            "--optimizer.clip-norm 1, or --on-nonfinite skip"
        )

    def _next_event(self, step: int) -> int:
        """The next step after which something is logged, evaluated or saved."""
        run = self.run
        every = (run.log_every, run.eval_every, run.save_every)
        return min(self.last, *(step - step % interval + interval for interval in every))

    def _size(self) -> str:
        return f"{sum(leaf.size for leaf in jax.tree.leaves(self.shapes.params)):,}"


def evaluate(
    evaluator: Evaluator, variables: Any, split: Any, run: configs.Run, info: Any
) -> dict[str, Any]:
    """Metrics of a split, every example exactly once."""
    shards = evaluator.parallel.num_shards
    size = -(-(run.eval_batch_size or run.batch_size) // shards) * shards
    first, count = local_rows(size)
    seen = 0

    def check(batch: dict[str, np.ndarray]) -> None:
        nonlocal seen
        start = seen
        real = {k: v[batch["weight"] > 0] for k, v in batch.items()}
        rows = Rows(split, len(real["label"]), lambda row: start + first + row)
        evaluator.task.check(real, info, rows)
        seen += size

    return evaluator(variables, evaluation_batches(split, size, first, count), check, split)
