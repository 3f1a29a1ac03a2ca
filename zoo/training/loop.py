"""The loop: data, step, evaluation, checkpoints and log meet here, and only here.

The batch and the key of step n are functions of the seed and n, so a run that is stopped anywhere
and started again ends with the same bits.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zoo import config as configs, runs
from zoo.data import Stream, evaluation_batches, load
from zoo.errors import InputError, RunError
from zoo.parallel.compile import Jit, Pmap, check_divisible, initialise, local_rows
from zoo.parallel.mesh import make_mesh, select_devices
from zoo.training import pictures
from zoo.training.checkpoints import Checkpoints, abstract_state
from zoo.training.evaluator import Evaluator
from zoo.training.lock import Lock
from zoo.training.log import Log
from zoo.training.receipt import append_start, describe_start, write_json
from zoo.training.signals import Signals
from zoo.training.state import State, params_digest
from zoo.training.step import Step, slow_in_loops, steps_per_dispatch


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
    with Lock(folder):
        return Training(run, folder, signals or Signals()).run_to_end()


class Training:
    """One start of a run: everything built, the state restored."""

    def __init__(self, run: configs.Run, folder: Path, signals: Signals):
        self.folder, self.signals = folder, signals
        self.deadline = time.monotonic() + configs.seconds(run.stop_after)
        self.first_process = jax.process_index() == 0
        write_config(folder, run)
        self.run = run = runs.resolved(run)

        data = run.data.open()
        self.splits, self.info = data.splits, data.info
        self.task = run.task.bind(self.info)
        self.module = runs.build_model(run, self.task)
        runs.check_fit(run, self.module, self.task, self.info)
        self.metric, mode = (run.best_metric, run.best_mode) if run.best_metric else self.task.best
        self.sign = 1.0 if mode == "max" else -1.0

        self.parallel = parallelism(run)
        check_divisible("batch_size", run.batch_size // run.accumulate, self.parallel)
        first, count = local_rows(run.batch_size)
        self.stream = Stream(
            self.splits["train"], run.batch_size, run.seed, run.augment, run.balance, first, count
        )
        self.step = Step(
            self.module, self.task, run.optimizer.build(run.steps), run.optimizer.rate(run.steps),
            run.accumulate, run.average, run.on_nonfinite == "skip", axis=self.parallel.axis,
        )  # fmt: skip
        init = partial(runs.fresh_state, run, self.module, self.task, self.info, run.steps)
        self.shapes = jax.eval_shape(init)
        batch = self._shape(self.stream[0])
        self.step = self._unrolled(self.step, batch)

        warnings: list[str] = []
        self.checkpoints = Checkpoints(folder / "checkpoints", run.keep, warnings.append)
        like = abstract_state(self.shapes, self.parallel.shardings(self.shapes))
        restored = self.checkpoints.restore(like)
        if restored:
            self.state, meta = self.parallel.place_state(restored[0]), restored[1]
            self.chunk = meta["steps_per_dispatch"]
            if meta["info"]["fingerprint"] != self.info.fingerprint:
                raise InputError(
                    f"the data have changed since {folder} was begun; restore them, or choose "
                    "another --workdir"
                )
        else:
            self.state = initialise(self.parallel, init)
            if run.init_from:
                source = runs.open_run(run.init_from, warn=warnings.append)
                self.state = self.parallel.place_state(
                    runs.warm_start(self.state, source, warnings.append)
                )
            self.chunk = run.steps_per_dispatch or steps_per_dispatch(self.step, self.shapes, batch)
        self.first = int(self.state.step)
        self.log = Log(
            folder, self.first, run.steps, run.batch_size, run.tensorboard, not self.first_process
        )
        for warning in warnings:
            self.log.warn(warning)
        self.evaluator = Evaluator(
            self.module, self.task, self.parallel,
            *runs.text_generator(self.module, self.task, run.data, self.info),
        )  # fmt: skip

    def run_to_end(self) -> dict[str, Any]:
        """Trains, evaluates on the test split, writes the result."""
        run, log = self.run, self.log
        if self.first_process:
            start = describe_start(run, self.info, self.first, self.chunk)
            append_start(self.folder / "receipt.json", start)
        counts = "  ".join(f"{name} {count}" for name, count in self.info.counts.items())
        log.say(f"{self.folder}: {counts} examples; {self._size()} parameters; "
                f"{self.parallel.num_shards} device(s) by {run.parallel}")  # fmt: skip
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

    def _train(self) -> None:
        run, step = self.run, self.first
        train_step = self.parallel.train(
            self.step.many if self.chunk > 1 else self.step, self.shapes
        )
        stop = self.first + -(-max(run.steps - self.first, 0) // self.chunk) * self.chunk
        batches = load(self.stream, self.first, stop, self.chunk, run.loader_threads, 8)
        placed = prefetch(batches, self._place)
        for start in range(self.first, run.steps, self.chunk):
            batch = next(placed)
            while step < min(start + self.chunk, run.steps):
                until = min(start + self.chunk, self._next_event(step))
                if self.chunk > 1:
                    self.state, metrics = train_step(
                        self.state, batch, np.int32(step - start), np.int32(until - start)
                    )
                    metrics = {name: values[until - start - 1] for name, values in metrics.items()}
                else:
                    self.state, metrics = train_step(self.state, batch)
                step = until
                if step % run.log_every == 0 or step == run.steps:
                    self._check_finite(self.log.train(step, metrics))
                if self._after(step):
                    return

    def _after(self, step: int) -> bool:
        """Evaluates, saves and stops where it is due; true when early stopping ends the run."""
        run, score, improved = self.run, None, False
        evaluate = step % run.eval_every == 0 or step == run.steps
        save = step % run.save_every == 0 or step == run.steps
        stop = self.signals.received is not None or time.monotonic() > self.deadline
        if evaluate or save or stop:
            self._check_finite(self.log.flush())
        if evaluate and self.info.counts.get("validation"):
            metrics = self._evaluate("validation")
            self.log.evaluation(step, metrics)
            score, improved = self._judge(metrics)
        if save or improved or stop:
            self._save(step, score)
        if stop and step < run.steps:
            self.log.say(f"stopping at step {step}, saved; run the same command to go on")
            self.checkpoints.finish()
            raise Stopped(step, self.signals.exit_code if self.signals.received else 0)
        if self._stale():
            self.log.say(f"stopping early: {run.early_stopping} evaluations without a better {self.metric}")
            self._save(step, score)
            return True
        return False

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
            "config": configs.to_json(self.run),
            "info": self.info.to_json(),
            "steps_per_dispatch": self.chunk,
        }
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
            if "confusion_matrix" in metrics:
                names = list(self.info.class_names) or [str(i) for i in range(len(metrics["confusion_matrix"]))]
                pictures.draw_confusion(
                    metrics["confusion_matrix"], names, self.folder / "confusion.png"
                )
        return result

    def _check_finite(self, metrics: dict[str, Any] | None) -> None:
        if metrics is None or metrics["failed"] < 0:
            return
        self.checkpoints.finish()
        steps = self.checkpoints.steps()
        last = f"the last good checkpoint is step {steps[-1]}" if steps else "nothing was saved yet"
        raise RunError(
            f"the loss or gradient of step {metrics['failed']} is NaN or infinite; {last} in "
            f"{self.folder / 'checkpoints'}. Try a lower --optimizer.learning-rate, "
            "--optimizer.clip-norm 1, or --on-nonfinite skip"
        )

    def _next_event(self, step: int) -> int:
        """The next step after which something is logged, evaluated or saved."""
        run = self.run
        every = (run.log_every, run.eval_every, run.save_every)
        return min(run.steps, *(step - step % interval + interval for interval in every))

    def _shape(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Cuts the rows of a step into microbatches, on an axis before them."""
        parts = self.run.accumulate
        if parts == 1:
            return batch
        return {k: v.reshape(parts, len(v) // parts, *v.shape[1:]) for k, v in batch.items()}

    def _place(self, at: int, batch: dict[str, np.ndarray]) -> Any:
        """Checks a batch of one step, or of a chunk of steps, and puts it on the devices."""
        start = self.first + at * self.chunk
        chunked = self.chunk > 1
        flat = {k: v.reshape(-1, *v.shape[2:]) for k, v in batch.items()} if chunked else batch
        rows = Rows(self.splits["train"], len(flat["label"]), partial(self._row, start))
        self.task.check(flat, self.info, rows)
        if chunked and self.run.accumulate > 1:
            batch = jax.tree.map(
                lambda *steps: np.stack(steps),
                *[self._shape({k: v[i] for k, v in batch.items()}) for i in range(self.chunk)],
            )
        elif not chunked:
            batch = self._shape(batch)
        return self.parallel.place_batch(batch, chunked + (self.run.accumulate > 1))

    def _row(self, start: int, row: int) -> int:
        step, within = divmod(row, self.stream.num_rows)
        return int(self.stream.indices(start + step)[within])

    def _unrolled(self, step: Step, batch: Any) -> Step:
        if step.accumulate == 1 or not slow_in_loops(step, self.shapes, batch):
            return step
        return Step(**{**vars(step), "unroll": True})

    def _size(self) -> str:
        return f"{sum(leaf.size for leaf in jax.tree.leaves(self.shapes.params)):,}"


class Rows:
    """Names of the examples of a batch, looked up only for an error's message."""

    def __init__(self, split: Any, length: int, index: Callable[[int], int]):
        self._split, self._length, self._index = split, length, index

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> str:
        return self._split.names([self._index(int(row))])[0]


def prefetch(batches: Any, place: Callable[[int, Any], Any], ahead: int = 2) -> Any:
    """Places each batch on the devices `ahead` of its use, so that transfers overlap steps."""
    waiting: list[Any] = []
    for at, batch in enumerate(batches):
        waiting.append(place(at, batch))
        if len(waiting) > ahead:
            yield waiting.pop(0)
    yield from waiting


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

    return evaluator(variables, evaluation_batches(split, size, first, count), check)


def parallelism(run: configs.Run) -> Jit | Pmap:
    """How a run uses its devices.

    Raises:
        InputError: too few devices, or a mesh that does not fit.
    """
    devices = select_devices(run.devices)
    if run.parallel == "pmap":
        if (run.mesh.fsdp, run.mesh.tensor) != (1, 1):
            raise InputError("--parallel pmap copies the state to every device; a mesh needs jit")
        return Pmap(devices)
    table = getattr(runs.registry.module_of(run.model), "TENSOR_PARALLEL", ())
    return Jit(make_mesh(run.mesh, devices), table)


def write_config(folder: Path, run: configs.Run) -> None:
    """Writes config.json, unless the folder already holds this experiment.

    Raises:
        InputError: it holds another one; the message names the fields that differ.
    """
    new = configs.to_json(run)
    if (folder / "config.json").is_file():
        old = runs.read_config(folder)
        found = configs.differences(old, new)
        if old.get("steps", 0) < run.steps and not run.optimizer.schedule.depends_on_steps():
            found = [field for field in found if not field.startswith("steps: ")]
        if found:
            raise InputError(
                f"{folder} holds another experiment; choose another --workdir, or undo: "
                + "; ".join(found)
            )
    elif (folder / "checkpoints").is_dir() and any((folder / "checkpoints").iterdir()):
        raise InputError(f"{folder} holds checkpoints but no config.json; choose another --workdir")
    if jax.process_index() == 0:
        write_json(folder / "config.json", new)


__all__ = ["State", "Stopped", "Training", "evaluate", "parallelism", "train"]
