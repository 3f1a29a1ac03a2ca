"""One global order of the data, whatever the hosts and threads, from whatever step.

`ZOO_ORDERS` sets the number of random cases (default 100), `ZOO_SEED` which.
"""

import hashlib
import os
import random

import numpy as np
import pytest

from zoo.data import Arrays, Stream, load

COUNT = int(os.environ.get("ZOO_ORDERS", "100"))
ROWS = 10_000
THREADS = (0, 1, 2, 8)


def numbered(count):
    """Examples that say their own number."""
    ids = np.arange(count)
    return Arrays({"features": ids[:, None], "label": ids % 2}, lambda i: f"row {i}", 2)


def by_definition(count, seed, rows):
    """The first rows of the stream, by what docs and `zoo.data.stream` say of it."""
    epochs = -(-rows // count)
    keys = (np.array([seed, epoch], np.uint64) for epoch in range(epochs))
    orders = [np.random.Generator(np.random.Philox(key=key)).permutation(count) for key in keys]
    return np.concatenate(orders)[:rows]


def read(split, batch, seed, hosts, start, stop, chunk, threads):
    """What all hosts together read from step start to stop."""
    share = batch // hosts
    parts = []
    for host in range(hosts):
        stream = Stream(split, batch, seed, first_row=host * share, num_rows=share)
        items = load(stream, start, stop, chunk, threads)
        parts.append(np.concatenate([item["features"].reshape(-1, share) for item in items]))
    return np.concatenate(parts, axis=1).reshape(-1)


@pytest.mark.parametrize("hosts", [1, 2, 4])
@pytest.mark.parametrize("threads", THREADS)
def test_the_first_ten_thousand_ids_have_one_hash(hosts, threads):
    split, wanted = numbered(1437), by_definition(1437, 5, ROWS)
    got = read(split, 40, 5, hosts, 0, ROWS // 40, 1, threads)
    assert hashlib.sha256(got).hexdigest() == hashlib.sha256(wanted).hexdigest()


def test_any_resume_goes_on_in_the_same_order(seed, record_property):
    rng = random.Random(seed)
    for number in range(COUNT):
        count, hosts = rng.choice((1, 3, 64, 997, 5000)), rng.choice((1, 2, 4))
        batch, chunk = hosts * rng.randint(1, 50), rng.choice((1, 1, 7))
        order = rng.randrange(2**32)
        split, wanted = numbered(count), by_definition(count, order, ROWS)
        steps = ROWS // batch
        edge = min(count // batch, steps - 1)  # half of the resumes are near the end of an epoch
        start = rng.randrange(steps) if number % 2 else max(0, edge - rng.randint(0, 1))
        stop = min(steps, start + rng.randint(1, 40))
        got = read(split, batch, order, hosts, start, stop, chunk, rng.choice(THREADS))
        np.testing.assert_array_equal(got, wanted[start * batch : stop * batch])
    for first in range(0, ROWS - count, count):
        assert len(set(wanted[first : first + count])) == count, "once in every epoch"
    record_property("resumes", COUNT)
