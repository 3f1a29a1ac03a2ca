"""The stream's order, reading ahead, evaluation batches."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import Arrays, Augment, Digits, Stream, evaluation_batches, load
from zoo.data.stream import generator
from zoo.errors import InputError

small = settings(max_examples=40, deadline=None)
sizes = st.integers(1, 40)


def numbered(n, classes=3):
    x = np.arange(n, dtype=np.float32)[:, None]
    label = (np.arange(n) ** 2 % classes).astype(np.int32)
    return Arrays({"features": x, "label": label}, [f"row {i}" for i in range(n)], classes)


@small
@given(sizes, st.integers(1, 90), st.integers(0, 2**64 - 1))
def test_each_example_once_per_epoch_in_the_order_of_philox(n, batch, seed):
    stream = Stream(numbered(n), batch, seed)
    rows = np.concatenate([stream.indices(s) for s in range(-(-3 * n // batch))])
    for epoch in range(3):
        key = np.array([seed, epoch], np.uint64)
        expected = np.random.Generator(np.random.Philox(key=key)).permutation(n)
        np.testing.assert_array_equal(rows[epoch * n : (epoch + 1) * n], expected)


@small
@given(sizes, st.integers(1, 30), st.integers(0, 99), st.booleans(), st.integers(0, 200))
def test_any_step_by_itself_or_in_chunks_is_the_same(n, batch, seed, balance, start):
    split = numbered(n)
    stream = Stream(split, batch, seed, balance=balance)
    chunk = Stream(split, batch, seed, balance=balance).chunk(start, 3)
    assert chunk["features"].shape == (3, batch, 1)
    for i in range(3):
        np.testing.assert_array_equal(chunk["features"][i, :, 0], stream.indices(start + i))
        alone = Stream(split, batch, seed, balance=balance)[start + i]
        np.testing.assert_array_equal(chunk["label"][i], alone["label"])


AUGMENTS = [None, Augment(crop=2, flip=True, cutout=3), Augment(crop=1, flip=True, mixup=0.4)]


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("balance", [False, True])
def test_processes_together_read_the_global_batch(augment, processes, balance):
    split = Digits().open().splits["train"]
    whole = Stream(split, 16, 7, augment, balance)
    share = 16 // processes
    parts = [Stream(split, 16, 7, augment, balance, p * share, share) for p in range(processes)]
    for step in (0, 68, 69, 1000):
        expected = whole[step]
        for key in expected:
            joined = np.concatenate([part[step][key] for part in parts])
            np.testing.assert_array_equal(joined, expected[key])
    np.testing.assert_array_equal(
        np.concatenate([part.indices(5) for part in parts]), whole.indices(5)
    )


@small
@given(st.integers(4, 40), st.integers(0, 99))
def test_balance_takes_every_class_equally_often(n, seed):
    split = numbered(n, 4)
    labels = split.labels()
    kinds = np.unique(labels)
    stream = Stream(split, len(kinds), seed, balance=True)
    rows = np.stack([stream.indices(s) for s in range(3 * n)])
    assert (np.sort(labels[rows], axis=1) == kinds).all()
    for kind in kinds:
        members = np.flatnonzero(labels == kind)
        taken = rows[labels[rows] == kind]
        for epoch in range(3):
            part = taken[epoch * len(members) : (epoch + 1) * len(members)]
            assert sorted(part.tolist()) == members.tolist()


def test_balance_crosses_its_tables_and_does_not_repeat_them():
    stream = Stream(numbered(30, 3), 2, 0, balance=True)  # squares modulo 3: two classes
    labels = numbered(30).labels()
    order = np.stack([labels[stream.indices(s)] for s in range(1020, 2060)])
    assert (np.sort(order, axis=1) == [0, 1]).all()
    assert not np.array_equal(order[4:1028], np.tile(order[4:16], (86, 1))[:1024])
    first = np.stack([labels[stream.indices(s)] for s in range(16)])
    assert not np.array_equal(first, order[4:20])


def test_seeds_epochs_and_purposes_differ():
    draws = [
        generator(*key).integers(0, 2**62)
        for key in ((0, 0), (1, 0), (0, 1), (0, 0, 1), (0, 0, 2), (0, 0, 2, 1), (-1, 0))
    ]
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("steps, start, stop", [(1, 0, 9), (1, 5, 9), (4, 0, 8), (4, 3, 9)])
def test_load_reads_the_steps_asked_for(threads, steps, start, stop):
    stream = Stream(numbered(11), 4, 3)
    items = list(load(stream, start, stop, steps, threads))
    assert len(items) == -(-(stop - start) // steps)
    rows = np.concatenate([item["features"].reshape(-1, 4) for item in items])
    expected = np.stack([stream.indices(s) for s in range(start, stop)])
    np.testing.assert_array_equal(rows, expected)
    if steps > 1:
        assert items[0]["features"].shape == (steps, 4, 1)


def test_load_of_nothing_and_of_nonsense():
    stream = Stream(numbered(11), 4, 3)
    assert list(load(stream, 5, 5)) == []
    with pytest.raises(InputError, match="steps"):
        load(stream, 0, 5, steps=0)


def test_load_ends_its_threads_and_passes_errors_on():
    class Broken(Arrays):
        def rows(self, indices):
            raise InputError("picture.png: unreadable")

    label = {"label": np.zeros(5, np.int32)}
    with pytest.raises(InputError, match=r"picture\.png"):
        next(load(Stream(Broken(label, "abcde"), 2, 0), 0, 9))
    batches = load(Stream(numbered(11), 4, 3), 0, 10**6, threads=2)
    next(batches)
    batches.close()
    until = time.monotonic() + 5
    while any("grain" in t.name for t in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not [t for t in threading.enumerate() if "grain" in t.name]


@pytest.mark.slow
def test_a_program_that_stops_in_the_middle_ends_quietly():
    code = (
        "from zoo.data import *\n"
        "batches = load(Stream(Wine().open().splits['train'], 8, 0), 0, 10**9, 16, 2)\n"
        "next(batches)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 0), "batch size"),
        ((4, 0, None, False, 2, 3), "outside a batch"),
        ((4, 0, None, False, -1, 2), "outside a batch"),
        ((4, 0, Augment(flip=True)), "need images"),
    ],
)
def test_impossible_streams(arguments, message):
    with pytest.raises(InputError, match=message):
        Stream(numbered(5), *arguments)


def test_balance_needs_classes():
    split = Arrays({"features": np.zeros((4, 1)), "label": np.zeros(4, np.float32)}, "abcd")
    with pytest.raises(InputError, match="balance"):
        Stream(split, 2, 0, balance=True)
    with pytest.raises(InputError, match="empty"):
        Stream(Arrays({"label": np.zeros(0)}, ""), 2, 0)


@small
@given(sizes, st.integers(1, 50))
def test_evaluation_covers_every_example_exactly_once(n, batch):
    batches = list(evaluation_batches(numbered(n), batch))
    assert all(len(b["label"]) == batch and b["weight"].dtype == np.float32 for b in batches)
    rows = np.concatenate([b["features"][:, 0] for b in batches])
    weight = np.concatenate([b["weight"] for b in batches])
    assert rows[weight == 1].tolist() == list(range(n))
    assert not rows[weight == 0].any() and len(rows) - weight.sum() < batch


def test_evaluation_by_two_processes():
    split = numbered(11)
    whole = list(evaluation_batches(split, 4))
    parts = [list(evaluation_batches(split, 4, first, 2)) for first in (0, 2)]
    for step, batch in enumerate(whole):
        for key in batch:
            joined = np.concatenate([part[step][key] for part in parts])
            np.testing.assert_array_equal(joined, batch[key])


def test_reading_small_data_costs_little():
    stream = Stream(numbered(500), 32, 0)
    stream.chunk(0, 64)
    best = min(_seconds(lambda i=i: stream.chunk(64 * i, 64)) for i in range(20))
    assert best / 64 < 100e-6  # a tenth of it on an idle machine


def _seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_the_order_of_a_seed_never_changes():
    """A run resumed under another NumPy must read the same rows; change this only knowingly."""
    stream = Stream(numbered(12), 12, 3)
    assert stream.indices(0).tolist() == [6, 9, 4, 1, 3, 5, 10, 8, 7, 0, 2, 11]
    assert stream.indices(5).tolist() == [10, 7, 5, 1, 0, 8, 2, 6, 4, 3, 9, 11]
    balanced = Stream(numbered(12), 12, 3, balance=True)
    assert balanced.indices(0).tolist() == [3, 5, 0, 11, 1, 9, 6, 8, 2, 3, 6, 7]
