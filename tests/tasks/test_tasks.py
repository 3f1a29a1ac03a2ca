"""What every task promises the trainer: sums, options, binding to data, predictions."""

import dataclasses
import functools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.tasks import (
    IGNORED,
    REGISTRY,
    Binary,
    Classification,
    LanguageModelling,
    Multilabel,
    QuestionAnswering,
    Regression,
    TokenClassification,
    Translation,
    example_weights,
    split_inputs,
)

N, C, T = 10, 4, 5
CLASSES = SimpleNamespace(num_classes=C, class_counts=(1, 2, 3, 4), class_names=tuple("abcd"))
TWO = SimpleNamespace(num_classes=2, class_counts=(30, 10))
TEXT = SimpleNamespace(vocab_size=C, inputs={"input_ids": ((T,), "int32")})
SPANS = SimpleNamespace(inputs={"input_ids": ((T,), "int32")}, label=((2,), "int32"))
PAIRS = SimpleNamespace(vocab_size=C, inputs={"input_ids": None, "decoder_input_ids": None})

TASKS = {
    "binary": Binary(label_smoothing=0.1, class_weights="balanced").bind(TWO),
    "classification": Classification(0.1, "balanced", 1e-3).bind(CLASSES),
    "multilabel": Multilabel(0.1, (1.0, 2.0, 0.5, 0.0)).bind(CLASSES),
    "regression": Regression().bind(SimpleNamespace(label_mean=(5.0,), label_std=(2.0,))),
    "token-classification": TokenClassification(0.1, "balanced", 1e-3).bind(CLASSES),
    "question-answering": QuestionAnswering(0.1).bind(SPANS),
    "language-modelling": LanguageModelling(0.1, 1e-3).bind(TEXT),
    "translation": Translation(0.1, 1e-3, bleu=False).bind(PAIRS),
}
LABELS = {
    "binary": lambda rng, n: rng.integers(0, 2, n),
    "classification": lambda rng, n: rng.integers(0, C, n),
    "multilabel": lambda rng, n: rng.integers(0, 2, (n, C)),
    "regression": lambda rng, n: rng.normal(size=n),
    "question-answering": lambda rng, n: rng.integers(0, T, (n, 2)),
}
WIDTH = {
    "binary": (1,), "regression": (1,), "classification": (C,), "multilabel": (C,),
    "question-answering": (T, 2),
}  # fmt: skip


def make(kind, seed=0, n=N):
    """(a linear model's weights, a batch) of a task; the model is `features @ weights`."""
    rng = np.random.default_rng(seed)
    shape = WIDTH.get(kind, (T, C))
    weights = rng.normal(size=(3, int(np.prod(shape)))).astype(np.float32)
    tokens = lambda rng, n: np.where(  # noqa: E731
        rng.uniform(size=(n, T)) < 0.3, IGNORED, rng.integers(0, C, (n, T))
    )
    label = LABELS.get(kind, tokens)(rng, n)
    batch = {
        "features": rng.normal(size=(n, 3)).astype(np.float32),
        "label": label.astype(np.float32 if kind == "regression" else np.int32),
        "weight": rng.uniform(0.5, 2, n).astype(np.float32),
    }
    return weights, batch


def apply_of(kind):
    shape = WIDTH.get(kind, (T, C))

    def apply(variables, features, train, rngs):
        return (features @ variables).reshape(len(features), *shape), {"seen": len(features)}

    return apply


def cut(batch, rows):
    return {key: value[rows] for key, value in batch.items()}


@functools.cache
def sums_of(kind):
    task = TASKS[kind]

    def sums(weights, batch):
        def loss(weights):
            loss_sum, weight_sum, aux = task.loss(apply_of(kind), weights, batch, None, True)
            return loss_sum, (weight_sum, aux)

        (loss_sum, (weight_sum, aux)), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
        return loss_sum, weight_sum, gradient, aux

    return jax.jit(sums)


@pytest.mark.parametrize("kind", TASKS)
def test_sums_are_the_same_however_the_examples_are_cut_and_padded(kind):
    weights, batch = make(kind)
    sums = sums_of(kind)
    loss, weight, gradient, aux = sums(weights, batch)
    assert set(aux) == {"outputs", "updates"} and aux["updates"]["seen"] == N
    assert loss.dtype == weight.dtype == jnp.float32 and loss.shape == weight.shape == ()
    assert np.isfinite(loss) and weight > 0 and np.any(gradient != 0)

    total = [0.0, 0.0, 0.0]
    for rows in ([9, 2, 4, 0], [1, 3, 5, 6], [8, 7, 0, 0]):
        part = cut(batch, rows)
        if rows[2:] == [0, 0]:
            part["weight"] = part["weight"] * np.float32([1, 1, 0, 0])
            part["features"] = np.where([[1], [1], [0], [0]], part["features"], np.float32(1e30))
        new = sums(weights, part)[:3]
        total = [a + np.asarray(b, np.float64) for a, b in zip(total, new, strict=True)]
    np.testing.assert_allclose(total[0], loss, rtol=1e-6)
    np.testing.assert_allclose(total[1], weight, rtol=1e-6)
    np.testing.assert_allclose(total[2], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", TASKS)
def test_padded_rows_get_a_gradient_of_exactly_zero(kind):
    _, batch = make(kind)
    batch["weight"][[3, 7]] = 0
    outputs = np.random.default_rng(1).normal(size=(N, *WIDTH.get(kind, (T, C))))
    outputs = outputs.astype(np.float32)
    outputs[3] = np.nan
    gradient = jax.jit(jax.grad(lambda x: TASKS[kind].objective(x, batch)[0]))(outputs)
    assert np.all(np.asarray(gradient)[[3, 7]] == 0)
    assert np.all(np.isfinite(gradient))
    assert np.all(np.asarray(gradient)[[0, 1]].any(axis=tuple(range(1, outputs.ndim))))


@pytest.mark.parametrize("kind", TASKS)
def test_the_metric_loss_is_the_objective(kind):
    weights, batch = make(kind)
    loss, weight, _, aux = sums_of(kind)(weights, batch)
    metric = TASKS[kind].metrics()["loss"]
    state = jax.jit(metric.update)(metric.zero(), aux["outputs"], batch)
    assert metric.compute(state)["loss"] == pytest.approx(float(loss / weight), rel=1e-6)


@pytest.mark.parametrize("kind", TASKS)
def test_best_is_a_number_that_the_task_gives(kind):
    task = TASKS[kind]
    name, mode = task.best
    assert mode in ("max", "min") and task.names
    names = {n for metric in task.metrics().values() for n in metric.compute(metric.zero())}
    if kind == "translation":
        assert task.generates
        names |= set(task.compute_text(task.text_metrics([], [])))
    if getattr(task, "joins", False):
        rows = SimpleNamespace(examples=(), example_of=np.zeros(0, int))
        names |= set(task.score({"scores": np.zeros((0, T, 2))}, rows))
    assert name in names and "loss" in names


def test_registry_names_every_task():
    assert set(REGISTRY) == {*TASKS, "image-text-contrastive"}  # its loss is no sum over examples
    for kind, task in TASKS.items():
        assert isinstance(task, REGISTRY[kind])
        options = {f.name: getattr(task, f.name) for f in dataclasses.fields(task) if f.init}
        assert REGISTRY[kind](**options) == dataclasses.replace(task)
        json.dumps(options)
        hash(task)


def test_the_arguments_of_a_model():
    seen = {}

    def apply(variables, *args, train, rngs, **kwargs):
        seen.update(args=args, train=train, rngs=rngs, kwargs=kwargs)
        return jnp.zeros((2, T, C)), {}

    ids = np.zeros((2, T), np.int32)
    batch = {
        "input_ids": ids,
        "attention_mask": ids,
        "decoder_input_ids": ids,
        "label": ids,
        "weight": np.ones(2, np.float32),
    }
    TASKS["translation"].loss(apply, {}, batch, {"dropout": 1}, True)
    assert len(seen["args"]) == 1 and seen["args"][0] is ids
    assert set(seen["kwargs"]) == {"attention_mask", "decoder_input_ids"}
    assert seen["train"] is True and seen["rngs"] == {"dropout": 1}
    with pytest.raises(InputError, match="exactly one of image"):
        split_inputs({"image": ids, "features": ids})
    with pytest.raises(InputError, match="exactly one of image"):
        split_inputs({"label": ids})


def test_weights_default_to_ones_and_must_fit():
    assert example_weights({}, 3).tolist() == [1, 1, 1]
    with pytest.raises(InputError, match="weight has shape"):
        example_weights({"weight": np.ones((3, 1))}, 3)


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat(np.arange(4), CLASSES.class_counts)
    want = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(TASKS["classification"].weights, want)
    assert Classification().bind(CLASSES).weights is None


@pytest.mark.parametrize(
    "weights, info, message",
    [
        ("balanced", SimpleNamespace(num_classes=2, class_counts=(3, 0)), "no training example"),
        ("balanced", SimpleNamespace(num_classes=2, class_counts=()), "needs class counts"),
        ((1.0, 2.0, 3.0), SimpleNamespace(num_classes=2), "3 numbers; the data have 2"),
    ],
)
def test_class_weights_that_do_not_fit(weights, info, message):
    for task in (Binary, Classification, Multilabel, TokenClassification):
        with pytest.raises(InputError, match=message):
            task(class_weights=weights).bind(info)


@pytest.mark.parametrize(
    "make_task, message",
    [
        (lambda: Classification(label_smoothing=1.0), "label_smoothing is 1.0"),
        (lambda: LanguageModelling(z_loss=-1.0), "z_loss is -1.0"),
        (lambda: Binary(class_weights="equal"), '"balanced" or numbers'),
        (lambda: Classification(class_weights=(1.0, -1.0)), "each must be 0 or more"),
        (lambda: Multilabel(class_weights=(0.0, 0.0)), "not all 0"),
        (lambda: Binary(threshold=1.0), "threshold is 1.0"),
        (lambda: Multilabel(threshold=0.0), "threshold is 0.0"),
        (lambda: Classification(top_k=0), "top_k is 0"),
        (lambda: LanguageModelling(bytes_per_token=0.0), "bytes_per_token is 0.0"),
    ],
)
def test_options_out_of_range(make_task, message):
    with pytest.raises(InputError, match=message):
        make_task()


NUMBERS = SimpleNamespace(num_classes=None, label_mean=(1.0,), label_std=(1.0,))


@pytest.mark.parametrize(
    "task, info, message",
    [
        (Binary(), SimpleNamespace(num_classes=3), "use Classification"),
        (Binary(), NUMBERS, "use Regression"),
        (Classification(), NUMBERS, "use Regression"),
        (Classification(), SimpleNamespace(num_classes=1), "two classes or more"),
        (Classification(), TEXT, "use LanguageModelling"),
        (Classification(), SimpleNamespace(num_classes=3, label=((3,), "int32")), "Multilabel"),
        (Multilabel(), SimpleNamespace(num_classes=3, label=((), "int32")), "Classification"),
        (TokenClassification(), SimpleNamespace(num_classes=3, label=((), "int32")), "Classifica"),
        (Regression(), CLASSES, "use Classification"),
        (Regression(), SimpleNamespace(label=((), "int32")), "float32 numbers"),
        (Regression(), SimpleNamespace(label_mean=(1.0,), label_std=(0.0,)), "do not fit"),
        (Regression(), SimpleNamespace(label_mean=(1.0,), label_std=None), "only one of"),
        (LanguageModelling(), NUMBERS, "no vocabulary"),
        (LanguageModelling(), SimpleNamespace(vocab_size=9, num_classes=3), "use Classification"),
        (LanguageModelling(), PAIRS, "use Translation"),
        (QuestionAnswering(), CLASSES, "questions and contexts"),
        (Translation(), TEXT, "lack decoder_input_ids"),
        (Translation(), CLASSES, "lack input_ids"),
    ],
)
def test_tasks_refuse_data_they_do_not_fit(task, info, message):
    with pytest.raises(InputError, match=message):
        task.bind(info)


@pytest.mark.parametrize(
    "kind, outputs, message",
    [
        ("binary", (N, 2), "num_classes=1"),
        ("classification", (N, 3), "num_classes=4"),
        ("classification", (N, T, C), r"\[B, C\]"),
        ("multilabel", (N, 1), "num_classes=4"),
        ("regression", (N, 2), "num_classes=1"),
        ("token-classification", (N, C), r"\[B, T, C\]"),
        ("question-answering", (N, T, 3), "question-answering head"),
        ("language-modelling", (N, T, 3), "vocab_size=4"),
        ("translation", (N, T, 3), "vocab_size=4"),
    ],
)
def test_a_model_of_another_width_is_told_what_to_change(kind, outputs, message):
    _, batch = make(kind)
    with pytest.raises(InputError, match=message):
        TASKS[kind].objective(jnp.zeros(outputs), batch)


def test_a_padded_vocabulary_is_accepted():
    _, batch = make("language-modelling")
    total, _ = TASKS["language-modelling"].objective(jnp.zeros((N, T, C + 3)), batch)
    assert np.isfinite(total)


@pytest.mark.parametrize("task", [Classification(), LanguageModelling(), Binary(0.0, "balanced")])
def test_a_task_that_was_not_bound_says_so(task):
    with pytest.raises(InputError, match="bind the task"):
        task.objective(jnp.zeros((N, 1)), {"label": jnp.zeros(N, jnp.int32)})


def test_mixed_labels_of_two_classes():
    logits = jnp.asarray([0.3, -2.0, 1.0])
    share = jnp.asarray([0.2, 1.0, 0.5])
    weights = jnp.ones(3)
    task = Binary().bind(TWO)
    got = task.objective(logits, {"label": jnp.stack([1 - share, share], -1), "weight": weights})
    p = 1 / (1 + np.exp(-np.asarray(logits)))
    want = -(share * np.log(p) + (1 - share) * np.log(1 - p)).sum()
    np.testing.assert_allclose(got, (want, 3), rtol=1e-6)


def test_multilabel_class_weights_weigh_columns():
    logits = np.float32([[1.0, -2.0, 0.5, 0.1]])
    label = np.int32([[1, 0, 0, 1]])
    weights = np.array([1.0, 2.0, 0.5, 0.0])
    task = Multilabel(class_weights=tuple(weights)).bind(CLASSES)
    cost = np.log1p(np.exp(np.where(label == 1, -logits, logits).astype(np.float64)))[0]
    got = task.objective(jnp.asarray(logits), {"label": label})
    np.testing.assert_allclose(got, ((weights * cost).sum() / weights.sum(), 1), rtol=1e-6)


def test_predictions_of_classes():
    logits = np.float32([[0, 2, 1, -1], [3, 0, 0, 0]])
    found = TASKS["classification"].predict(logits)
    assert found["label"].tolist() == [1, 0] and found["label"].dtype == jnp.int32
    want = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found["probabilities"], want, rtol=1e-6)

    found = TASKS["binary"].predict(np.float32([[2.0], [-1.0]]))
    assert found["label"].tolist() == [1, 0]
    p = 1 / (1 + np.exp(-np.array([2.0, -1.0])))
    np.testing.assert_allclose(found["probabilities"], np.stack([1 - p, p], -1), rtol=1e-6)

    found = TASKS["multilabel"].predict(logits)
    assert found["label"].tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
    np.testing.assert_allclose(found["probabilities"], 1 / (1 + np.exp(-logits)), rtol=1e-6)


def test_predictions_of_numbers_are_in_their_own_units():
    found = TASKS["regression"].predict(np.float32([[0.0], [1.5]]))
    assert found["value"].tolist() == [5, 8]


def test_predictions_of_sequences():
    logits = np.random.default_rng(2).normal(size=(2, T, C)).astype(np.float32)
    mask = np.int32([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    best = logits.argmax(-1)
    found = TASKS["token-classification"].predict(logits, {"attention_mask": mask})
    assert found["label"].tolist() == np.where(mask == 1, best, IGNORED).tolist()
    assert TASKS["translation"].predict(logits)["label"].tolist() == best.tolist()

    task = TASKS["language-modelling"]
    label = np.int32([[0, 1, 2, IGNORED, IGNORED], [IGNORED] * T])
    found = task.predict(logits, {"attention_mask": mask, "label": label})
    assert found["label"].tolist() == [best[0, 2], best[1, 4]]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found["probabilities"], [p[0, 2], p[1, 4]], rtol=1e-5)
    bits = -np.log2(p[0, [0, 1, 2], [0, 1, 2]]).mean()
    np.testing.assert_allclose(found["bits_per_byte"], [bits, 0], rtol=1e-5)
    assert set(task.predict(logits)) == {"label", "probabilities"}
