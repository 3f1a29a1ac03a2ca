"""A tiny pretrained BERT with a tokenizer of its 13 ids, and labelled texts, for tests."""

import json
from pathlib import Path
from typing import Any

import golden_models
from tiny_runs import features_run

from zoo import tasks
from zoo.config import Optimizer, Pretrained, Run
from zoo.data import LabelledText

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the dog cat and runs good bad ##s".split()
WORDS = "the dog cats and runs good bad dogs".split()
ROWS = [
    {
        "text": " ".join(WORDS[(i * step + i // 8) % 8] for step in (1, 3, 5)) + f" {i}",
        "label": ("no", "yes", "perhaps")[i % 3],
        "many": ["fast", "loud", "old"][: i % 4],
        "score": 10 + i % 3,
    }
    for i in range(96)
]  # fmt: skip


def write_bert(folder: Path) -> Path:
    """The folder, as transformers writes it."""
    config, _, tensors, _ = golden_models.read("BertForSequenceClassification")
    golden_models.write_folder(folder, config, tensors)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 8}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def write_rows(path: Path) -> Path:
    """The labelled texts as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def text_run(place: Path, **changes: Any) -> Run:
    """A fine-tuning of six steps; `bert` and `rows.jsonl` are made where they are missing."""
    if not (place / "bert").exists():
        write_bert(place / "bert")
        write_rows(place / "rows.jsonl")
    given = {
        "model": Pretrained(), "init_from": str(place / "bert"), "steps": 6, "eval_every": 3,
        "task": tasks.Classification(label_smoothing=0.1),
        "data": LabelledText(str(place / "rows.jsonl"), max_length=8),
        "optimizer": Optimizer(name="adamw", learning_rate=1e-2, weight_decay=0.01),
    }  # fmt: skip
    return features_run(place, **(given | changes))


KINDS: dict[str, dict[str, Any]] = {
    "classification": {},
    "multilabel": {"task": tasks.Multilabel(), "label": "many"},
    "regression": {"task": tasks.Regression(), "label": "score"},
}
"""What a run changes for each kind of label."""


def kind_run(place: Path, kind: str, **changes: Any) -> Run:
    """`text_run` on another kind of label."""
    options = dict(KINDS[kind])
    label = options.pop("label", "label")
    data = LabelledText(str(place / "rows.jsonl"), label=label, kind=kind, max_length=8)  # type: ignore[arg-type]
    return text_run(place, data=data, workdir=str(place / kind), **options, **changes)
