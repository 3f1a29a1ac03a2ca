"""Metrics merged over any batches, padding included, equal scikit-learn's on the whole."""

import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import sacrebleu
import sklearn.metrics as sk

from zoo.errors import InputError
from zoo.tasks import (
    IGNORED,
    Binary,
    Classification,
    LanguageModelling,
    Multilabel,
    Regression,
    TokenClassification,
    Translation,
)
from zoo.tasks.metrics.ranking import area

N, C, T = 45, 7, 6
AVERAGES = ("macro", "micro", "weighted")
CLASSES = SimpleNamespace(num_classes=C)
TEXT = SimpleNamespace(vocab_size=C, inputs={"input_ids": ((T,), "int32")})
PAIRS = SimpleNamespace(vocab_size=C, inputs={"input_ids": None, "decoder_input_ids": None})


def batches(rng, outputs, batch, size):
    """Shuffled examples in parts of 0 to `size`, each padded to `size` by NaN of weight 0."""
    order = rng.permutation(len(outputs))
    weight = batch.get("weight", np.ones(len(outputs), np.float32))
    start = 0
    while start < len(order):
        rows = order[start : start + int(rng.integers(0, size + 1))]
        start += len(rows)
        pad = np.concatenate([rows, np.repeat(order[:1], size - len(rows))])
        real = np.arange(size) < len(rows)
        out = np.where(real.reshape(-1, *[1] * (outputs.ndim - 1)), outputs[pad], np.nan)
        part = {key: value[pad] for key, value in batch.items()}
        part["weight"] = np.where(real, weight[pad], 0).astype(np.float32)
        yield out.astype(outputs.dtype), part


def evaluate(task, outputs, batch, size=13, seed=0):
    """The metrics of a task over one random partition; two others must give the same."""
    rng = np.random.default_rng(seed)
    metrics = task.metrics()
    step = jax.jit(
        lambda outputs, batch: {
            name: metric.update(metric.zero(), outputs, batch) for name, metric in metrics.items()
        }
    )
    found = []
    for _ in range(3):
        states = [jax.device_get(step(*part)) for part in batches(rng, outputs, batch, size)]
        scores = {}
        for name, metric in metrics.items():
            total = metric.zero()
            for state in states:
                total = metric.merge(total, state[name])
            new = metric.compute(total)
            assert not set(new) & set(scores)
            scores |= new
        found.append(scores)
    for name, value in found[0].items():
        for other in found[1:]:
            assert (value is None) == (other[name] is None)
            if value is not None:
                np.testing.assert_allclose(value, other[name], rtol=1e-6, atol=1e-9, err_msg=name)
    json.dumps(found[0], allow_nan=False)
    return found[0]


def expect(scores, wanted, rtol=1e-6):
    for name, value in wanted.items():
        np.testing.assert_allclose(scores[name], value, rtol=rtol, atol=1e-9, err_msg=name)


def averaged(truth, predicted, **options):
    """The averages that scikit-learn gives."""
    return {
        f"{name}_{average}": getattr(sk, f"{name}_score")(
            truth, predicted, average=average, zero_division=0, **options
        )
        for name in ("precision", "recall", "f1")
        for average in AVERAGES
    }


def per_class(truth, predicted, **options):
    """The scores of every class that scikit-learn gives."""
    return {
        f"{name}_per_class": getattr(sk, f"{name}_score")(
            truth, predicted, average=None, zero_division=0, **options
        )
        for name in ("precision", "recall", "f1")
    }


@pytest.mark.parametrize("weighted", [False, True])
def test_classification(weighted):
    rng = np.random.default_rng(1)
    logits = rng.integers(-3, 4, (N, C)).astype(np.float32)  # many ties
    label = rng.integers(0, C, N).astype(np.int32)
    batch = {"label": label}
    if weighted:
        batch["weight"] = rng.choice([0, 0.25, 1, 2.5], N).astype(np.float32)
    options = {"sample_weight": batch.get("weight")}
    scores = evaluate(Classification(top_k=3).bind(CLASSES), logits, batch)
    predicted = logits.argmax(-1)
    labels = {"labels": np.arange(C)}
    expect(scores, {"accuracy": sk.accuracy_score(label, predicted, **options)}, rtol=1e-12)
    matrix = sk.confusion_matrix(label, predicted, **labels, **options)
    expect(scores, {"confusion_matrix": matrix}, rtol=1e-12)
    expect(scores, averaged(label, predicted, **options))
    expect(scores, per_class(label, predicted, **labels, **options))
    top = sk.top_k_accuracy_score(label, logits, k=3, **labels, **options)
    expect(scores, {"top_3_accuracy": top})
    if not weighted:
        assert all(isinstance(n, int) for row in scores["confusion_matrix"] for n in row)


def test_classification_roc_auc_is_one_against_the_rest():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(N, C)).astype(np.float32)
    label = np.concatenate([np.arange(C), rng.integers(0, C, N - C)]).astype(np.int32)
    task = Classification().bind(CLASSES)
    scores = evaluate(task, logits, {"label": label})
    probabilities = np.asarray(task.predict(logits)["probabilities"], np.float64)
    probabilities /= probabilities.sum(-1, keepdims=True)
    wanted = sk.roc_auc_score(label, probabilities, multi_class="ovr", average="macro")
    expect(scores, {"roc_auc": wanted}, rtol=1e-9)


def test_a_class_absent_from_labels_and_predictions():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(N, C)).astype(np.float32)
    logits[:, 4] = -50
    label = rng.choice([0, 1, 2, 3, 5], N).astype(np.int32)
    scores = evaluate(Classification().bind(CLASSES), logits, {"label": label})
    predicted = logits.argmax(-1)
    expect(scores, averaged(label, predicted))
    assert scores["f1_per_class"][4] == 0
    assert scores["roc_auc"] is None


def test_soft_labels_count_as_their_largest_share():
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(N, C)).astype(np.float32)
    soft = rng.dirichlet(np.ones(C), N).astype(np.float32)
    task = Classification().bind(CLASSES)
    ours = evaluate(task, logits, {"label": soft})
    hard = evaluate(task, logits, {"label": soft.argmax(-1).astype(np.int32)})
    del ours["loss"], hard["loss"]
    assert ours == hard


def test_many_classes_keep_no_matrix():
    task = Classification().bind(SimpleNamespace(num_classes=101))
    assert set(task.metrics()) == {"loss", "scores", "top_k"}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("width", [(), (1,)])
def test_binary(weighted, width):
    rng = np.random.default_rng(5)
    logits = (rng.integers(-4, 5, N) / 2).astype(np.float32)
    label = rng.integers(0, 2, N).astype(np.int32)
    batch = {"label": label}
    if weighted:
        batch["weight"] = rng.choice([0, 0.25, 1, 2.5], N).astype(np.float32)
    options = {"sample_weight": batch.get("weight")}
    task = Binary().bind(SimpleNamespace(num_classes=2))
    scores = evaluate(task, logits.reshape(N, *width), batch)
    predicted = (logits > 0).astype(int)
    wanted = {
        "accuracy": sk.accuracy_score(label, predicted, **options),
        "precision": sk.precision_score(label, predicted, **options),
        "recall": sk.recall_score(label, predicted, **options),
        "f1": sk.f1_score(label, predicted, **options),
        "confusion_matrix": sk.confusion_matrix(label, predicted, **options),
        "roc_auc": sk.roc_auc_score(label, logits, **options),
        "loss": sk.log_loss(label, 1 / (1 + np.exp(-logits.astype(np.float64))), **options),
    }
    expect(scores, {name: wanted[name] for name in ("accuracy", "confusion_matrix")}, rtol=1e-12)
    expect(scores, wanted)


def test_binary_threshold():
    task = Binary(threshold=0.8).bind(SimpleNamespace(num_classes=2))
    logits = np.float32([math.log(4) - 0.01, math.log(4) + 0.01])
    assert task.predict(logits)["label"].tolist() == [0, 1]


def test_a_single_class_has_no_roc_auc():
    task = Binary().bind(SimpleNamespace(num_classes=2))
    scores = evaluate(task, np.ones(N, np.float32), {"label": np.ones(N, np.int32)})
    assert scores["roc_auc"] is None
    assert scores["f1"] == 1


def test_area_of_random_ties_equals_scikit_learn():
    rng = np.random.default_rng(6)
    for _ in range(50):
        n = int(rng.integers(3, 40))
        score = rng.integers(0, rng.integers(1, 12), n).astype(np.float32)
        label = np.append([0, 1], rng.integers(0, 2, n - 2))
        weight = rng.uniform(0.1, 2, n)
        want = sk.roc_auc_score(label, score, sample_weight=weight)
        assert area(score, label, weight) == pytest.approx(want, abs=1e-12)
    assert area(np.float32([0, np.nan]), np.array([0, 1]), np.ones(2)) is None


@pytest.mark.parametrize("weighted", [False, True])
def test_multilabel(weighted):
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(N, C)).astype(np.float32)
    label = (rng.uniform(size=(N, C)) < 0.4).astype(np.int32)
    logits = logits + label - (rng.uniform(size=(N, C)) < 0.1)
    label[:, 2] = 0  # never present, but for one
    label[0, 2] = 1
    logits[:, 3] = -9  # never predicted
    logits = logits.astype(np.float32)
    batch = {"label": label}
    if weighted:
        batch["weight"] = rng.choice([0.5, 1, 2.5], N).astype(np.float32)
    options = {"sample_weight": batch.get("weight")}
    scores = evaluate(Multilabel().bind(CLASSES), logits, batch)
    predicted = (logits > 0).astype(int)
    expect(scores, {"accuracy": sk.accuracy_score(label, predicted, **options)})
    expect(scores, averaged(label, predicted, **options) | per_class(label, predicted, **options))
    expect(scores, {"roc_auc": sk.roc_auc_score(label, logits, average="macro", **options)})


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_regression_is_in_the_labels_own_units(columns, weighted):
    rng = np.random.default_rng(8)
    mean, std = np.array([1e6, -3.0, 0.5])[:columns], np.array([2.0, 1e-3, 40.0])[:columns]
    label = rng.normal(0.3, 1.1, (N, columns)).astype(np.float32)
    outputs = (label + rng.normal(0, 0.4, label.shape)).astype(np.float32)
    batch = {"label": label if columns > 1 else label[:, 0]}
    if weighted:
        batch["weight"] = rng.choice([0, 0.25, 1, 2.5], N).astype(np.float32)
    task = Regression().bind(SimpleNamespace(label_mean=tuple(mean), label_std=tuple(std)))
    scores = evaluate(task, outputs, batch)
    truth, predicted = (np.asarray(x, np.float64) * std + mean for x in (label, outputs))
    options = {"sample_weight": batch.get("weight")}
    wanted = {
        "mse": sk.mean_squared_error(truth, predicted, **options),
        "mae": sk.mean_absolute_error(truth, predicted, **options),
        "r2": sk.r2_score(truth, predicted, **options),
        "loss": sk.mean_squared_error(label, outputs, **options),
    }
    expect(scores, wanted)
    value = np.asarray(task.predict(outputs)["value"])
    np.testing.assert_allclose(value.reshape(N, columns), predicted, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("error", [0.0, 1.0])
def test_r2_of_equal_labels_is_scikit_learns(error):
    label = np.full(N, 0.5, np.float32)
    outputs = label[:, None] + np.float32(error)
    scores = evaluate(Regression(), outputs, {"label": label})
    assert scores["r2"] == sk.r2_score(label, outputs) == (0 if error else 1)


def test_r2_needs_two_examples():
    scores = evaluate(Regression(), np.ones((1, 1), np.float32), {"label": np.zeros(1, np.float32)})
    assert scores == {"loss": 1, "mse": 1, "mae": 1, "r2": None}


def sequences(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N, T, C)).astype(np.float32)
    label = rng.integers(0, C, (N, T)).astype(np.int32)
    logits += 3 * np.eye(C, dtype=np.float32)[label]
    label[np.arange(T) >= rng.integers(1, T + 1, N)[:, None]] = IGNORED
    label[5] = IGNORED
    kept = label != IGNORED
    logits[~kept] = np.nan
    return logits, label, kept


def nll(logits, label, kept):
    x = np.asarray(logits[kept], np.float64)
    x -= x.max(-1, keepdims=True)
    x -= np.log(np.exp(x).sum(-1, keepdims=True))
    return -x[np.arange(len(x)), label[kept]]


def whole_sequences(logits, label, kept):
    some = kept.any(-1)
    right = np.where(kept, logits.argmax(-1) == label, True).all(-1)
    return right[some].mean()


def test_token_classification():
    logits, label, kept = sequences(9)
    scores = evaluate(TokenClassification().bind(CLASSES), logits, {"label": label})
    truth, predicted = label[kept], logits[kept].argmax(-1)
    expect(scores, {"accuracy": sk.accuracy_score(truth, predicted)}, rtol=1e-12)
    matrix = sk.confusion_matrix(truth, predicted, labels=np.arange(C))
    expect(scores, {"confusion_matrix": matrix}, rtol=1e-12)
    expect(scores, averaged(truth, predicted))
    whole = whole_sequences(np.nan_to_num(logits), label, kept)
    assert 0 < whole < 1
    expect(scores, {"sequence_accuracy": whole, "loss": nll(logits, label, kept).mean()})


def test_language_modelling():
    logits, label, kept = sequences(10)
    task = LanguageModelling(label_smoothing=0.1, z_loss=1e-3, bytes_per_token=2.5).bind(TEXT)
    scores = evaluate(task, logits, {"label": label})
    nats = nll(logits, label, kept).mean()
    expect(
        scores,
        {
            "perplexity": np.exp(nats),
            "bits_per_byte": nats / np.log(2) / 2.5,
            "accuracy": (logits[kept].argmax(-1) == label[kept]).mean(),
        },
    )
    assert scores["loss"] > nats * 1.01  # the smoothed objective


def test_translation_given_the_true_target():
    logits, label, kept = sequences(11)
    scores = evaluate(Translation(bleu=False).bind(PAIRS), logits, {"label": label})
    expect(
        scores,
        {
            "perplexity": np.exp(nll(logits, label, kept).mean()),
            "accuracy": (logits[kept].argmax(-1) == label[kept]).mean(),
            "sequence_accuracy": whole_sequences(np.nan_to_num(logits), label, kept),
        },
    )


def test_perplexity_beyond_float64_is_infinite():
    metric = LanguageModelling().bind(TEXT).metrics()["likelihood"]
    assert metric.compute({"sum": 800.0, "weight": 1.0})["perplexity"] == math.inf


WORDS = "the a cat dog sat ran on under mat house , .".split()


@pytest.mark.parametrize("good", [0.0, 0.6, 1.0])
def test_bleu_of_any_parts_equals_sacrebleu_on_the_whole(good):
    rng = np.random.default_rng(12)
    references = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(40)]
    hypotheses = [
        " ".join(w if rng.uniform() < good else "x" for w in text.split()) for text in references
    ]
    task = Translation().bind(PAIRS)
    for cuts in ([0, 40], [0, 1, 1, 17, 40], list(range(41))):
        state = task.text_metrics([], [])
        for a, b in zip(cuts, cuts[1:], strict=False):
            new = task.text_metrics(hypotheses[a:b], references[a:b])
            state = task.merge_text(state, new)
        scores = task.compute_text(state)
        whole = sacrebleu.corpus_bleu(hypotheses, [references], force=True).score
        assert scores["bleu"] == pytest.approx(whole, abs=1e-12)
        same = [h == r for h, r in zip(hypotheses, references, strict=True)]
        assert scores["exact_match"] == np.mean(same)
    assert state["count"].dtype == np.int64


def test_no_texts_have_no_scores():
    task = Translation().bind(PAIRS)
    assert task.compute_text(task.text_metrics([], [])) == {"exact_match": None, "bleu": None}
    without = Translation(bleu=False).bind(PAIRS)
    assert without.compute_text(without.text_metrics(["a", "b"], ["a", "c"])) == {
        "exact_match": 0.5
    }
    with pytest.raises(InputError, match="1 texts against 2"):
        task.text_metrics(["a"], ["a", "b"])


@pytest.mark.parametrize(
    "task, outputs, label",
    [
        (Binary().bind(SimpleNamespace(num_classes=2)), (4,), np.int32),
        (Classification().bind(CLASSES), (4, C), np.int32),
        (Multilabel().bind(CLASSES), (4, C), (C,)),
        (Regression(), (4, 1), np.float32),
        (TokenClassification().bind(CLASSES), (4, T, C), (T,)),
        (LanguageModelling().bind(TEXT), (4, T, C), (T,)),
    ],
)
def test_when_nothing_counts_every_number_is_undefined(task, outputs, label):
    shape = label if isinstance(label, tuple) else ()
    dtype = np.int32 if isinstance(label, tuple) else label
    batch = {"label": np.zeros((4, *shape), dtype), "weight": np.zeros(4, np.float32)}
    metrics = task.metrics()
    empty = {name: metric.zero() for name, metric in metrics.items()}
    update = jax.jit(lambda *args: {n: m.update(empty[n], *args) for n, m in metrics.items()})
    nothing = jax.device_get(update(np.full(outputs, np.nan, np.float32), batch))
    for name, metric in metrics.items():
        for state in (empty[name], nothing[name]):
            scores = metric.compute(state)
            assert scores and set(scores.values()) == {None}


def test_states_merge_in_wide_types():
    metric = Regression().metrics()["scores"]
    state = {key: np.ones_like(value) for key, value in metric.zero().items()}
    merged = metric.merge(state, state)
    assert merged["squared_error"].dtype == np.float64 and merged["count"].dtype == np.int64
    assert int(merged["count"]) == 2
