"""Checkpoints that are whole or not used: Orbax, with a SHA-256 of every leaf inside each save."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from zoo.errors import RunError
from zoo.parallel.processes import largest, wait_for_all
from zoo.training.state import State, differing_leaf, leaf_digests, leaf_paths, leaf_shapes


class Checkpoints:
    """The checkpoints of one run folder: the last `keep_last` steps, and the best one.

    A step is an Orbax composite of `state` (a `State`) and `meta` (JSON: the digests of the
    state's leaves, the step it was trained on from, and what the caller adds), committed together
    by one atomic rename. Saving is asynchronous; an error surfaces before the next save and on
    close, and what a failed save left behind is removed.

    Args:
        directory: the folder `checkpoints` of a run.
        keep_last: newest steps kept.
        warn: called with one sentence when something is wrong and can be recovered from.
        read_only: nothing is created, moved or deleted.
        on_error: `stop` raises what went wrong with a save, `warn` tells it and goes on.
        foreign: given what a step's meta says, why the step is not of this run; empty if it is.
    """

    def __init__(
        self,
        directory: Path,
        keep_last: int = 2,
        warn: Callable[[str], None] = print,
        read_only: bool = False,
        on_error: str = "stop",
        foreign: Callable[[dict[str, Any]], str] = lambda _: "",
    ):
        self.directory = directory.absolute()
        self.warn = warn
        self.read_only = read_only
        self.on_error = on_error
        self.foreign = foreign
        self._parent: dict[str, Any] | None = None
        if not read_only:
            self.directory.mkdir(parents=True, exist_ok=True)
            if jax.process_index() == 0:
                self._set_partial_steps_aside()
            wait_for_all("partial checkpoints set aside")
        self._scores: dict[int, float | None] = {}
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_LastAndBest(keep_last, self._best_of),
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
                create=False,
            ),
            item_names=("state", "meta"),
        )

    def steps(self) -> list[int]:
        """The committed steps, oldest first."""
        self._manager.reload()
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step with the best validation score, the earliest of equals; None if none has one."""
        return self._best_of(self.steps())

    def save(self, step: int, state: State, meta: dict[str, Any], score: float | None) -> None:
        """Starts saving; returns once the state is copied and may be consumed.

        Raises:
            RunError: this save, or the one before, failed (disk full, no permission), and errors
                are to stop the run.
        """
        self.finish()
        meta = {**meta, "step": step, "score": score, "shapes": leaf_shapes(state)}
        meta["digests"] = leaf_digests(state)
        meta["parent"] = self._parent
        meta["saved"] = datetime.now(UTC).isoformat(timespec="seconds")
        meta["sha256"] = _sum(meta)
        self._parent = {"step": step, "sha256": meta["sha256"]}
        # Read now what scores are on disk: Orbax asks while it saves, when reading would wait for
        # the save and lose its error, and older steps would be deleted all the same.
        self._best_of(list(self._manager.all_steps()))
        self._scores[step] = score
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta)
                ),
                force=True,
            )
        except Exception as error:
            self._failed(error)

    def finish(self) -> None:
        """Waits for the save under way.

        Raises:
            RunError: it failed, and errors are to stop the run.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            self._failed(error)

    def restore(self, like: State, step: int | None = None) -> tuple[State, dict[str, Any]] | None:
        """The newest step that verifies (or the given one), placed like the abstract `like`.

        A step that does not read back, whose leaves differ from their digests, or that is of
        another run, is named and moved to `quarantine/`, and the one before is tried.

        Returns:
            The state and its meta; None when there is no checkpoint at all.

        Raises:
            RunError: there are checkpoints and none of them is whole.
        """
        steps = self.steps() if step is None else [step]
        for candidate in reversed(steps):
            found, reason = None, ""
            try:
                found = self._restore(candidate, like)
            except RunError:
                raise
            except Exception as error:  # Orbax raises a dozen types for a damaged step
                reason = (str(error).strip() or repr(error)).splitlines()[0][:200]
            if largest(found is None) == 0:
                return found
            self._set_aside(candidate, reason or "another process could not read it")
        if steps or self._quarantined():
            raise RunError(
                f"no whole checkpoint in {self.directory}: {self._tried(steps)}; start anew in "
                "another --workdir, or remove the folder to train from scratch"
            )
        return None

    def meta(self, step: int) -> dict[str, Any]:
        """What was saved beside the state of a step.

        Raises:
            ValueError: it is damaged; so do many other exceptions of Orbax say.
        """
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta = self._manager.restore(step, args=args)["meta"]
        if not isinstance(meta, dict) or meta.get("sha256") != _sum(meta):
            raise ValueError("its meta differs from its SHA-256")
        if meta["step"] != step:
            raise ValueError(f"it says that it is step {meta['step']}")
        return meta

    def verified(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """A step's state as nested plain arrays on the host, every leaf verified, and its meta.

        Needs no model, so it tells whether a step is whole when its code is not at hand.

        Raises:
            ValueError: a leaf differs from its digest, or leaves are missing or too many; damaged
                files raise many other exceptions of Orbax.
        """
        meta = self.meta(step)
        folder: Any = self.directory / str(step) / "state"
        leaves = ocp.PyTreeCheckpointHandler().metadata(folder).tree
        args = ocp.args.PyTreeRestore(
            restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), leaves)
        )
        state = self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
        if differing := sorted(set(leaf_paths(state)) ^ set(meta["digests"])):
            raise ValueError(f"{differing[0]} is missing, or one too many")
        if path := differing_leaf(state, meta["digests"]):
            raise ValueError(f"{path} differs from its digest")
        return state, meta

    def close(self) -> None:
        """Waits for the save under way and lets go of the folder.

        Raises:
            RunError: that save failed, and errors are to stop the run.
        """
        self.finish()
        try:
            self._manager.close()
        except Exception as error:  # a save that failed twice: when it began, and while it wrote
            self._failed(error)

    def _restore(self, step: int, like: State) -> tuple[State, dict[str, Any]]:
        meta = self.meta(step)
        if reason := self.foreign(meta):
            raise ValueError(reason)
        ours, theirs = set(leaf_shapes(like).items()), set(meta["shapes"].items())
        if differing := sorted(ours ^ theirs):
            raise RunError(
                f"checkpoint {step} in {self.directory} is of another model or optimizer; "
                f"leaves differ, such as {' '.join(differing[0])}"
            )
        args = ocp.args.PyTreeRestore(
            item=like, restore_args=ocp.checkpoint_utils.construct_restore_args(like)
        )
        state = self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
        if path := differing_leaf(state, meta["digests"]):
            raise ValueError(f"{path} differs from its digest")
        self._parent = {"step": step, "sha256": meta["sha256"]}
        return state, meta

    def _best_of(self, steps: list[int]) -> int | None:
        for step in set(steps) - set(self._scores):
            try:
                self._scores[step] = self.meta(step)["score"]
            except Exception:  # damaged: restoring will say so
                self._scores[step] = None
        scored = [(self._scores[step], -step) for step in steps if self._scores[step] is not None]
        return -max(scored)[1] if scored else None

    def _failed(self, error: Exception) -> None:
        if jax.process_index() == 0 and not self.read_only:  # it may be what fills the disk
            for partial in self.directory.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(partial, ignore_errors=True)
        failure = self._failure(error)
        if self.on_error == "stop":
            raise failure from error
        self.warn(str(failure))

    def _failure(self, error: Exception) -> RunError:
        first = (str(error).strip() or repr(error)).splitlines()[0][:300]
        if "No space left" in str(error) or "RESOURCE_EXHAUSTED" in str(error):
            first = "no space left on the disk"
        return RunError(
            f"saving a checkpoint in {self.directory} failed: {first}. What was saved before is "
            "untouched; make room or permit writing, then run the same command again"
        )

    def _set_partial_steps_aside(self) -> None:
        for folder in sorted(self.directory.iterdir()):
            whole = all((folder / item).is_dir() for item in ("state", "meta"))
            if folder.name.isdigit() and not whole:
                self._move_aside(folder, "it is not a whole checkpoint")

    def _set_aside(self, step: int, reason: str) -> None:
        if self.read_only:
            self.warn(f"checkpoint {step} is damaged ({reason}); trying the one before")
            return
        if jax.process_index() == 0:
            self._move_aside(self.directory / str(step), reason)
        wait_for_all(f"checkpoint {step} set aside")
        self._manager.reload()

    def _move_aside(self, folder: Path, reason: str) -> None:
        target = self.directory.parent / "quarantine" / folder.name
        number = 1
        while target.exists():
            target = target.with_name(f"{folder.name}.{number}")
            number += 1
        target.parent.mkdir(exist_ok=True)
        shutil.move(folder, target)
        self.warn(f"checkpoint {folder.name} cannot be used ({reason}); moved to {target}")

    def _quarantined(self) -> list[str]:
        folder = self.directory.parent / "quarantine"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def _tried(self, steps: list[int]) -> str:
        names = [str(step) for step in steps] or self._quarantined()
        return f"{', '.join(names)} cannot be used"


@dataclass
class _LastAndBest(preservation_policy.PreservationPolicy):
    """Keeps the newest steps and the best one.

    Orbax's own way, `best_fn` with `max_to_keep`, deletes the newest; its BestN policy sees no
    scores unless `best_fn` is set.
    """

    last: int
    best_of: Callable[[list[int]], int | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*sorted(steps)[-self.last :], self.best_of(steps)}
        return [step in kept for step in steps]


def _sum(meta: dict[str, Any]) -> str:
    content = {key: value for key, value in meta.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def abstract_state(shapes: Any, shardings: Any) -> Any:
    """The shapes of a state with the sharding that each leaf is to have."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )
