"""From the stream of host batches to batches on the devices, checked on the way."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from zoo.parallel.compile import Parallel

Batch = dict[str, np.ndarray]


class Feed:
    """Checks, cuts and places the training batches of a run.

    Args:
        stream: gives `indices(step)`, `num_rows` and its `split`, for the names in messages.
        task: checks every batch on the host.
        info: what is known of the data.
        parallel: places batches on the devices.
        accumulate: microbatches a batch is cut into.
        chunk: steps in one item.
    """

    def __init__(
        self, stream: Any, task: Any, info: Any, parallel: Parallel, accumulate: int, chunk: int
    ):
        self.stream, self.task, self.info, self.parallel = stream, task, info, parallel
        self.accumulate, self.chunk = accumulate, chunk

    def placed(self, first: int, items: Iterator[Batch], ahead: int = 2) -> Iterator[Any]:
        """Device batches for the steps from `first` on, placed `ahead` of their use."""
        waiting: list[Any] = []
        for at, batch in enumerate(items):
            waiting.append(self._place(first + at * self.chunk, batch))
            if len(waiting) > ahead:
                yield waiting.pop(0)
        yield from waiting

    def _place(self, step: int, batch: Batch) -> Any:
        chunked = self.chunk > 1
        flat = {k: v.reshape(-1, *v.shape[2:]) for k, v in batch.items()} if chunked else batch
        rows = Rows(self.stream.split, len(flat["label"]), partial(self._index, step))
        self.task.check(flat, self.info, rows)
        batch = microbatches(batch, self.accumulate, int(chunked))
        return self.parallel.place_batch(batch, chunked + (self.accumulate > 1))

    def _index(self, step: int, row: int) -> int:
        later, within = divmod(row, self.stream.num_rows)
        return int(self.stream.indices(step + later)[within])


def microbatches(batch: Batch, parts: int, axis: int = 0) -> Batch:
    """Cuts the rows, which lie on `axis`, into `parts` on a new axis before them."""
    if parts == 1:
        return batch
    return {
        key: array.reshape(
            *array.shape[:axis], parts, array.shape[axis] // parts, *array.shape[axis + 1 :]
        )
        for key, array in batch.items()
    }


class Rows:
    """Names of the examples of a batch, looked up only for an error's message."""

    def __init__(self, split: Any, length: int, index: Callable[[int], int]):
        self._split, self._length, self._index = split, length, index

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> str:
        return self._split.names([self._index(int(row))])[0]
