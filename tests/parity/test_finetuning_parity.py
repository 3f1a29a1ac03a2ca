"""A fine-tuned run, converted, as transformers opens it: model, labels and tokenizer."""

import numpy as np
import pytest
import tiny_texts
import torch
import transformers
from tiny_runs import again

from zoo import runs
from zoo.inference.export import convert
from zoo.inference.prediction import predict

SENTENCES = ["the good dog runs", "bad cats", "dogs and the cat"]


@pytest.mark.parametrize(
    "kind",
    [
        "classification",
        *(pytest.param(k, marks=pytest.mark.full) for k in ("regression", "multilabel")),
    ],
)
def test_transformers_opens_a_converted_run_with_its_outputs(kind, tmp_path):
    run = tiny_texts.kind_run(tmp_path, kind)
    again(run)
    opened = runs.open_run(run.workdir)
    convert(opened, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    tokens = tokenizer(SENTENCES, padding="max_length", max_length=8, return_tensors="pt")
    with torch.no_grad():
        theirs = model.eval()(**tokens).logits.numpy()
    names, batch = opened.run.data.encode(SENTENCES, opened.info)
    for key in batch:
        np.testing.assert_array_equal(batch[key], tokens[key].numpy())
    rows = predict(opened, SENTENCES, 4)
    if kind == "regression":
        np.testing.assert_allclose(theirs[:, 0], [row["value"] for row in rows], rtol=1e-5)
        assert model.config.problem_type == "regression"
        return
    ours = np.asarray(opened.module.apply(opened.variables, **batch))
    assert np.abs(ours - theirs).max() <= 2e-5 * theirs.std()
    assert tuple(model.config.id2label[i] for i in range(3)) == opened.info.class_names
    if kind == "classification":
        pipe = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
        for row, found in zip(rows, pipe(SENTENCES), strict=True):
            assert found["label"] == row["label"]
            assert found["score"] == pytest.approx(row["probabilities"][row["label"]], abs=1e-5)
