"""A bad batch is refused before a program sees it, naming the record and the value."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

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
    check_inputs,
)

ROWS = ["data.csv:2", "data.csv:3", "data.csv:7"]
CLASSES = SimpleNamespace(num_classes=3, vocab_size=9, inputs={"features": ((2,), "float32")})
TEXT = SimpleNamespace(num_classes=3, vocab_size=9, inputs={"input_ids": ((4,), "int32")})


def table(label, **changes):
    batch = {"features": np.zeros((3, 2), np.float32), "label": label}
    return {**batch, **changes}


def text(label=None, **changes):
    ids = np.arange(12, dtype=np.int32).reshape(3, 4) % 9
    batch = {"input_ids": ids, "label": ids if label is None else label}
    return {**batch, **changes}


def pairs(label=None, **changes):
    ids = np.ones((3, 4), np.int32)
    return text(
        label,
        **{
            "decoder_input_ids": ids,
            "attention_mask": ids,
            "decoder_attention_mask": ids,
            **changes,
        },
    )


def changed(array, at, value):
    array = array.copy()
    array[at] = value
    return array


INDEX = np.int32([0, 1, 2])
FLOATS = np.float32([0, 1, 2])
LABELS = np.int32([[0, 1, 1], [0, 0, 0], [1, 1, 1]])
SOFT = np.float32([[0.2, 0.3, 0.5], [1, 0, 0], [0, 0.5, 0.5]])
IDS = text()["input_ids"]
FEATURES = np.zeros((3, 2), np.float32)

GOOD = [
    (Binary(), table(INDEX % 2), CLASSES),
    (Classification(), table(INDEX), CLASSES),
    (Classification(), table(SOFT), CLASSES),
    (Multilabel(), table(LABELS), CLASSES),
    (Multilabel(), table(SOFT), CLASSES),
    (Regression(), table(FLOATS), CLASSES),
    (Regression(), table(FLOATS[:, None]), CLASSES),
    (TokenClassification(), text(np.where(IDS > 2, IGNORED, IDS).astype(np.int32)), TEXT),
    (LanguageModelling(), text(changed(IDS, (0, 3), IGNORED)), TEXT),
    (Translation(), pairs(weight=np.float32([1, 1, 0])), TEXT),
]


@pytest.mark.parametrize("task, batch, info", GOOD)
def test_good_batches_pass_and_no_name_is_looked_up(task, batch, info):
    task.check(batch, info, {})


BAD = [
    # labels
    (Binary(), table(np.int32([0, 1, 2])), r"data.csv:7: label is 2; .* 0 to 1"),
    (Binary(), table(np.int32([0, -1, 1])), r"data.csv:3: label is -1"),
    (Binary(), table(np.float32([0, 1, 1])), "label of data.csv:2 is float32"),
    (Binary(), table(INDEX[:, None]), "int32 with 2 axes"),
    (Classification(), table(np.int32([0, 3, 9])), r"data.csv:3: label is 3; .* 0 to 2 \(1 more"),
    (Classification(), table(np.int32([0, -1, 2])), "data.csv:3: label is -1"),
    (Classification(), table(np.int32([0, IGNORED, 2])), "data.csv:3: label is -100"),
    (Classification(), table(np.int32([0, 2**31 - 1, 2])), "label is 2147483647"),
    (Classification(), table(INDEX.astype(np.int64)), "label of data.csv:2 is int64"),
    (Classification(), table(np.uint16([0, 1, 2])), "uint16"),
    (Classification(), table(FLOATS), "label of data.csv:2 is float32"),
    (Classification(), table(LABELS), "int32 with 2 axes"),
    (Classification(), table(SOFT / 2), "data.csv:2: the sum of the soft label is 0.5"),
    (Classification(), table(changed(SOFT, (2, 1), np.nan)), r"data.csv:7: label\[1\] is nan"),
    (Classification(), table(changed(SOFT, (1, 1), -0.5)), r"data.csv:3: label\[1\] is -0.5"),
    (Classification(), table(SOFT[:, :2]), "2 columns; the data have 3 classes"),
    (Multilabel(), table(changed(LABELS, (1, 2), 2)), r"data.csv:3: label\[2\] is 2; .* 0 or 1"),
    (Multilabel(), table(changed(SOFT, (1, 2), 1.5)), r"data.csv:3: label\[2\] is 1.5"),
    (Multilabel(), table(LABELS[:, :2]), "2 columns; the data have 3 classes"),
    (Multilabel(), table(INDEX), "int32 with 1 axes"),
    (Regression(), table(changed(FLOATS, 1, np.inf)), "data.csv:3: label is inf; .* finite"),
    (Regression(), table(INDEX), "label of data.csv:2 is int32"),
    (Regression(), table(SOFT), "3 values; the data have 1"),
    (Regression(), {"features": FEATURES}, "lacks its label"),
    # inputs
    (
        Classification(),
        table(INDEX, features=changed(FEATURES, (2, 1), np.nan)),
        r"data.csv:7: features\[1\] is nan; it must be a finite number",
    ),
    (Classification(), table(INDEX, features=FEATURES.astype(np.float64)), "float64.* float32"),
    (Classification(), table(INDEX, features=np.zeros((3, 4), np.float32)), r"\(4,\); .* \(2,\)"),
    (Classification(), table(INDEX[:2]), r"label has shape \(2,\) in a batch of 3"),
    (Classification(), {"label": INDEX}, "exactly one of image, features, input_ids"),
    (Classification(), table(INDEX, image=FEATURES), "exactly one of image"),
    (Classification(), table(INDEX, x=FEATURES), r"unknown \['x'\]; known are image"),
    (Classification(), table(INDEX, weight=np.float32([1, -1, 1])), "data.csv:3: weight is -1.0"),
    (Classification(), table(INDEX, weight=np.float32([1, 1, np.nan])), "csv:7: weight is nan"),
]

BAD_TEXT = [
    (
        LanguageModelling(),
        text(input_ids=changed(IDS, (1, 2), 9)),
        r"data.csv:3: input_ids\[2\] is 9; it must be 0 to 8 \(vocabulary\)",
    ),
    (LanguageModelling(), text(IDS, input_ids=changed(IDS, (0, 0), -1)), r"input_ids\[0\] is -1"),
    (LanguageModelling(), text(IDS.astype(np.int64)), "label of data.csv:2 is int64"),
    (LanguageModelling(), text(changed(IDS, (2, 3), -1)), r"data.csv:7: label\[3\] is -1; .*-100"),
    (LanguageModelling(), text(changed(IDS, (2, 3), 9)), r"label\[3\] is 9; .* token id from 0 to"),
    (LanguageModelling(), text(IDS[:, :3]), "must agree in their first two axes"),
    (
        LanguageModelling(),
        text(attention_mask=changed(IDS * 0, (1, 1), 2)),
        r"data.csv:3: attention_mask\[1\] is 2; it must be 0 \(padding\) or 1",
    ),
    (LanguageModelling(), text(attention_mask=np.ones((3, 4), bool)), "attention_mask is bool"),
    (LanguageModelling(), text(token_type_ids=changed(IDS, (1, 1), -2)), r"token_type_ids\[1\] is"),
    (TokenClassification(), text(changed(IDS * 0, (1, 1), 3)), r"data.csv:3: label\[1\] is 3"),
    (TokenClassification(), text(INDEX), "int32 with 1 axes"),
    (
        Translation(),
        pairs(decoder_input_ids=changed(IDS, (2, 2), 9)),
        r"data.csv:7: decoder_input_ids\[2\] is 9",
    ),
    (Translation(), pairs(np.ones((3, 5), np.int32)), "must agree"),
    (Translation(), text(), "translation needs decoder_input_ids"),
]


@pytest.mark.parametrize(
    "task, batch, message, info",
    [(*case, CLASSES) for case in BAD] + [(*case, TEXT) for case in BAD_TEXT],
)
def test_bad_batches_are_refused(task, batch, message, info):
    with pytest.raises(InputError, match=message):
        task.check(batch, info, ROWS)


def test_inputs_alone_for_prediction():
    check_inputs({"features": FEATURES}, CLASSES, ROWS)
    with pytest.raises(InputError, match=r"lacks \['features'\]"):
        check_inputs({"input_ids": IDS}, CLASSES, ROWS)
    with pytest.raises(InputError, match="0 or more"):
        check_inputs({"input_ids": -IDS}, SimpleNamespace(), ROWS)


def test_an_empty_batch_passes():
    Classification().check(table(INDEX[:0], features=FEATURES[:0]), CLASSES, [])


def test_checks_are_fast():
    ids = np.zeros((1024, 2048), np.int32)
    info = SimpleNamespace(vocab_size=9, inputs={"input_ids": ((2048,), "int32")})
    times = []
    for _ in range(5):
        start = time.perf_counter()
        LanguageModelling().check({"input_ids": ids, "label": ids}, info, {})
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05  # two arrays of 2.1 million numbers
