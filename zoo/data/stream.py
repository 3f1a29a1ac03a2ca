"""The endless stream of training rows, addressed by step, and the batches of an evaluation.

Row r of the stream is in epoch r // N at position r % N of that epoch's permutation, which is
`Generator(Philox(key=[seed, epoch])).permutation(N)`. The global batch of step n is the rows
n*B ... n*B+B-1; a process reads its contiguous part of them. Nothing depends on what was read
before, so a run resumes at any step, on any number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np

from zoo.data.augment import Augment
from zoo.data.info import Batch, Pictures, Split
from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

BLOCKS = 1024
_ORDER, _CLASSES, _WITHIN, _AUGMENT, _PICTURE = range(5)


def generator(seed: int, number: int, purpose: int = _ORDER, part: int = 0) -> np.random.Generator:
    """numpy's Philox keyed by (seed, number); purpose and part open streams of their own."""
    key = np.array([seed % 2**64, number], dtype=np.uint64)
    counter = np.array([0, 0, part, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class Stream:
    """Training batches by step: `stream[n]` is this process' part of the batch of step n.

    Args:
        split: the training examples.
        batch_size: rows of the global batch B; it may exceed the split.
        seed: any integer.
        augment: changes keyed by (seed, step), drawn per row of the global batch.
        balance: every class equally often: each block of C rows holds every class once, in a
            random order, and each class runs through its own shuffled epochs.
        first_row: this process' first row within the global batch.
        num_rows: this process' rows; None for all that follow.

    Raises:
        InputError: an empty split, rows outside the batch, data that cannot be balanced or
            augmented so.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        augment: Augment | None = None,
        balance: bool = False,
        first_row: int = 0,
        num_rows: int | None = None,
    ):
        num_rows = batch_size - first_row if num_rows is None else num_rows
        if len(split) == 0:
            raise InputError("the training split is empty")
        if batch_size < 1:
            raise InputError(f"batch size must be at least 1, not {batch_size}")
        if first_row < 0 or num_rows < 1 or first_row + num_rows > batch_size:
            raise InputError(
                f"rows {first_row}..{first_row + num_rows - 1} are outside a batch of {batch_size}"
            )
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.augment = augment if augment is not None and augment.active else None
        self.first_row, self.num_rows = first_row, num_rows
        if self.augment:
            example = split.rows(np.array([0]))
            self.augment.check(example, split.num_classes)
            if self.augment.pictorial and not getattr(split, "pictures", False):
                raise InputError(
                    "augmentation: resized_crop, jitter and randaugment need pictures of 8 bits "
                    "(image-folder, cifar10, mnist-idx)"
                )
            self._shape = example["image" if "image" in example else "features"].shape[1:]
        self._members: list[np.ndarray] = []
        if balance:
            labels = split.labels()
            if labels is None:
                raise InputError("balance: the examples have no single class to balance by")
            order = np.argsort(labels, kind="stable")
            self._members = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        # Per instance, so that the cached permutations go when the stream goes.
        self._order = lru_cache(4)(self._draw_order)
        self._classes = lru_cache(4)(self._draw_classes)
        self._within = lru_cache(4 * max(1, len(self._members)))(self._draw_within)

    def _draw_order(self, epoch: int) -> np.ndarray:
        return generator(self.seed, epoch).permutation(len(self.split))

    def _draw_classes(self, block: int) -> np.ndarray:
        table = np.tile(np.arange(len(self._members)), (BLOCKS, 1))
        return generator(self.seed, block, _CLASSES).permuted(table, axis=1).reshape(-1)

    def _draw_within(self, kind: int, epoch: int) -> np.ndarray:
        return generator(self.seed, epoch, _WITHIN, kind).permutation(self._members[kind])

    def _find(self, rows: np.ndarray) -> np.ndarray:
        """Examples at ascending rows of the stream, int64 of the same shape."""
        if self._members:
            return self._find_balanced(rows)
        epoch, position = np.divmod(rows, len(self.split))
        first, last = int(epoch.flat[0]), int(epoch.flat[-1])
        if first == last:
            return self._order(first)[position]
        found = np.empty(rows.shape, np.int64)
        for e in range(first, last + 1):
            here = epoch == e
            if here.any():
                found[here] = self._order(e)[position[here]]
        return found

    def _find_balanced(self, rows: np.ndarray) -> np.ndarray:
        kinds = len(self._members)
        table, place = np.divmod(rows, kinds * BLOCKS)
        kind = np.empty(rows.shape, np.int64)
        for t in np.unique(table):
            kind[table == t] = self._classes(int(t))[place[table == t]]
        turn = rows // kinds
        found = np.empty(rows.shape, np.int64)
        for k in np.unique(kind):
            epoch, position = np.divmod(turn, len(self._members[k]))
            for e in np.unique(epoch[kind == k]):
                here = (kind == k) & (epoch == e)
                found[here] = self._within(int(k), int(e))[position[here]]
        return found

    def indices(self, step: int) -> np.ndarray:
        """The examples of this process' rows of step `step`, int64 `[num_rows]`."""
        return self._indices(step, 1, self.first_row, self.num_rows)[0]

    def order_digest(self, steps: int = 64) -> str:
        """SHA-256 of the examples of the first global batches: which are read, in which order."""
        found = self._indices(0, steps, 0, self.batch_size)
        return hashlib.sha256(found.astype("<i8").tobytes()).hexdigest()

    def _indices(self, step: int, steps: int, first: int, count: int) -> np.ndarray:
        if step < 0:
            raise IndexError(f"step {step} is negative")
        starts = np.arange(step, step + steps, dtype=np.int64) * self.batch_size + first
        return self._find(starts[:, None] + np.arange(count))

    def __getitem__(self, step: int) -> Batch:
        return {key: array[0] for key, array in self.chunk(step, 1).items()}

    def chunk(self, step: int, steps: int) -> Batch:
        """Batches of `steps` steps from `step` on, stacked: arrays `[steps, num_rows, ...]`."""
        if self.augment:
            parts = [self._augmented(n, self.augment) for n in range(step, step + steps)]
            return {key: np.stack([part[key] for part in parts]) for key in parts[0]}
        found = self._indices(step, steps, self.first_row, self.num_rows)
        batch = self.split.rows(found.reshape(-1))
        return {key: array.reshape(*found.shape, *array.shape[1:]) for key, array in batch.items()}

    def _augmented(self, step: int, augment: Augment) -> Batch:
        rng = generator(self.seed, step, _AUGMENT)
        values = augment.draw(rng, self.batch_size, self._shape)
        rows = np.arange(self.first_row, self.first_row + self.num_rows)
        if augment.mixing:
            rows = np.concatenate([rows, values["partner"][rows]])
        found = self._indices(step, 1, 0, self.batch_size)[0][rows]
        batch = self._changed(step, found, rows) if augment.pictorial else self.split.rows(found)
        if augment.geometric:
            batch["image"] = augment.move(batch["image"], values, rows)
        if not augment.mixing:
            return batch
        own = {key: array[: self.num_rows] for key, array in batch.items()}
        other = {key: array[self.num_rows :] for key, array in batch.items()}
        return augment.mix(own, other, values, rows[: self.num_rows], self.split.num_classes)

    def _changed(self, step: int, found: np.ndarray, rows: np.ndarray) -> Batch:
        """Examples with pictures changed, each by the generator of (seed, step, row)."""
        augment, size = self.augment, self._shape[:2]
        assert augment is not None

        def change(position: int, picture: Image) -> np.ndarray:
            key = generator(self.seed, step, _PICTURE, int(rows[position]))
            return augment.change(picture, key, size)

        return cast(Pictures, self.split).changed(found, change, augment.resized_crop.active)


class _Chunks:
    """What Grain reads: item c is steps start + c*K and the K-1 after it."""

    def __init__(self, stream: Stream, start: int, stop: int, steps: int):
        self._stream, self._start, self._stop, self._steps = stream, start, stop, steps

    def __len__(self) -> int:
        return max(0, -(-(self._stop - self._start) // self._steps))

    def __getitem__(self, index: int) -> Batch:
        step = self._start + index * self._steps
        if self._steps == 1:
            return self._stream[step]
        return self._stream.chunk(step, min(self._steps, self._stop - step))


def load(
    stream: Stream, start: int, stop: int, steps: int = 1, threads: int = 1, ahead: int = 8
) -> Iterator[Batch]:
    """The batches of steps start ... stop-1, read ahead by Grain.

    Args:
        steps: steps per item; above 1 each array has a leading axis of that length, and the last
            item holds what is left.
        threads: reading threads; 0 reads in the calling thread.
        ahead: items read in advance at most.

    Returns:
        A generator; closing or dropping it ends the threads.
    """
    if steps < 1 or threads < 0 or not 0 <= start:
        raise InputError(f"cannot read steps {start} to {stop} by {steps} with {threads} threads")
    return _load(stream, start, stop, steps, threads, max(ahead, threads, 1))


def _load(
    stream: Stream, start: int, stop: int, steps: int, threads: int, ahead: int
) -> Iterator[Batch]:
    chunks = _Chunks(stream, start, stop, steps)
    if not len(chunks):
        return
    import grain

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead if threads else 0)
    items = iter(grain.MapDataset.source(chunks).to_iter_dataset(options))
    try:
        yield from items
    finally:
        items.close()


def evaluation_batches(
    split: Split, batch_size: int, first_row: int = 0, num_rows: int | None = None
) -> Iterator[Batch]:
    """Every example exactly once, in order, in batches of one size.

    Rows missing in the last batch repeat example 0 with `weight` 0; every batch carries `weight`
    float32 (1 for real examples).

    Args:
        batch_size: rows of the global batch.
        first_row, num_rows: this process' part of every batch; all of it by default.
    """
    num_rows = batch_size - first_row if num_rows is None else num_rows
    for start in range(0, len(split), batch_size):
        rows = np.arange(start + first_row, start + first_row + num_rows)
        real = rows < len(split)
        batch = dict(split.rows(np.where(real, rows, 0)))
        batch["weight"] = real.astype(np.float32)
        yield batch
