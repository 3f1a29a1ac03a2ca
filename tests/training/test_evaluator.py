"""Every example exactly once, whatever the batch size and number of devices; names of bad rows."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as sk
from tiny_runs import bench, images_run

from zoo.data import Arrays
from zoo.errors import InputError
from zoo.training.evaluator import Evaluator
from zoo.training.feed import Feed, Rows, microbatches
from zoo.training.loop import evaluate

SIZES = [1, 2, 3, 7, 20, 21, 22, 64]


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """A model with batch norm, its variables, and its logits on the 21 test images."""
    run = images_run(tmp_path_factory.mktemp("evaluator"))
    parts = bench(run)
    variables = parts.fresh().variables
    data = run.data.open()
    rows = data.splits["test"].rows(np.arange(21))
    logits = np.asarray(parts.module.apply(variables, rows["image"]))
    return run, variables, data, logits, rows["label"]


def measure(subject, **changes):
    run, variables, data, *_ = subject
    parts = bench(dataclasses.replace(run, **changes))
    evaluator = Evaluator(parts.module, parts.task, parts.parallel)
    placed = parts.parallel.place_state(variables)
    return evaluate(evaluator, placed, data.splits["test"], parts.run, data.info)


@pytest.mark.parametrize(
    "parallel, devices, sizes",
    [("jit", 1, SIZES), ("jit", 4, [3, 21]), ("pmap", 2, [7, 64]), ("pmap", 4, [21])],
)
def test_metrics_do_not_depend_on_how_they_are_computed(subject, parallel, devices, sizes):
    *_, logits, label = subject
    guess = logits.argmax(-1)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    for size in sizes:
        found = measure(subject, eval_batch_size=size, parallel=parallel, devices=devices)
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(label, guess), abs=1e-12)
        assert found["f1_macro"] == pytest.approx(sk.f1_score(label, guess, average="macro"))
        assert found["confusion_matrix"] == sk.confusion_matrix(label, guess).tolist()
        assert found["roc_auc"] == pytest.approx(
            sk.roc_auc_score(label, shares, multi_class="ovr"), abs=1e-6
        )
        assert found["loss"] == pytest.approx(sk.log_loss(label, shares), rel=1e-5)


def test_a_split_of_one(subject):
    run, variables, data, logits, label = subject
    parts = bench(dataclasses.replace(run, eval_batch_size=8))
    split = Arrays(
        {k: v[:1] for k, v in data.splits["test"].rows(np.arange(1)).items()}, ["one"], 3
    )
    evaluator = Evaluator(parts.module, parts.task, parts.parallel)
    found = evaluate(evaluator, parts.parallel.place_state(variables), split, parts.run, data.info)
    assert found["accuracy"] == float(logits[0].argmax() == label[0])
    assert found["roc_auc"] is None, "undefined numbers are null"


def damaged(data, row, split="test", **values):
    """The split with one example changed."""
    arrays = dict(data.splits[split].rows(np.arange(len(data.splits[split]))))
    for key, value in values.items():
        arrays[key] = arrays[key].copy()
        arrays[key][row] = value
    return Arrays(arrays, [f"file.csv:{n}" for n in range(len(arrays["label"]))], 3)


@pytest.mark.parametrize("row", [0, 6, 7, 20])
@pytest.mark.parametrize("values", [{"label": 3}, {"label": -1}, {"image": np.nan}])
def test_a_bad_example_is_named_in_evaluation(subject, row, values):
    run, variables, data, *_ = subject
    parts = bench(dataclasses.replace(run, eval_batch_size=7))
    evaluator = Evaluator(parts.module, parts.task, parts.parallel)
    split = damaged(data, row, **values)
    with pytest.raises(InputError, match=rf"file.csv:{row}\b"):
        evaluate(evaluator, parts.parallel.place_state(variables), split, parts.run, data.info)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_bad_example_is_named_in_training(subject, chunk, accumulate):
    run, _, data, *_ = subject
    parts = bench(run)
    stream = parts.stream
    bad = int(stream.indices(2)[5])  # the sixth row of the third step
    stream.split = damaged(data, bad, "train", label=17)
    items = [stream.chunk(n, chunk) if chunk > 1 else stream[n] for n in range(0, 6, chunk)]
    feed = Feed(stream, parts.task, data.info, parts.parallel, accumulate, chunk)
    with pytest.raises(InputError, match=rf"file.csv:{bad}\b.*17|17.*file.csv:{bad}\b"):
        list(feed.placed(0, iter(items)))


def test_the_feed_keeps_the_order_and_looks_ahead(subject):
    run, *_ = subject
    parts = bench(run)
    feed = Feed(parts.stream, parts.task, run.data.open().info, parts.parallel, 2, 1)
    drawn = []

    def items():
        for n in range(5):
            drawn.append(n)
            yield parts.stream[n]

    for n, batch in enumerate(feed.placed(0, items(), ahead=2)):
        assert drawn[-1] == min(n + 2, 4)
        np.testing.assert_array_equal(batch["label"], parts.stream[n]["label"].reshape(2, 4))
    assert n == 4


def test_microbatches_keep_every_row():
    batch = {"x": np.arange(24).reshape(12, 2)}
    assert microbatches(batch, 1) is batch
    np.testing.assert_array_equal(np.concatenate(microbatches(batch, 3)["x"]), batch["x"])
    cut = microbatches({"x": np.arange(24).reshape(2, 12)}, 4, 1)["x"]
    assert cut.shape == (2, 4, 3)
    np.testing.assert_array_equal(cut.reshape(2, 12), np.arange(24).reshape(2, 12))


def test_names_are_looked_up_only_when_asked():
    asked = []
    rows = Rows(Arrays({"label": np.zeros(3)}, str), 3, lambda row: asked.append(row) or row + 10)
    assert len(rows) == 3 and not asked
    assert rows[np.int64(2)] == "12" and asked == [2]
