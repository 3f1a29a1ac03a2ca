"""Small questions and sentences with tags, and a BERT small enough to learn them in a second."""

import json
from pathlib import Path

import jax
import numpy as np

import zoo
from zoo.models import bert

PEOPLE, CITIES = "anna bob carl dora".split(), "paris london rome berlin oslo".split()
VERBS = "lives works".split()
PIECES = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "where", "in", "new", "?", ".", ",", "an",
    "##na", *PEOPLE[1:], *CITIES, *VERBS,
]  # fmt: skip
"""Anna is two pieces."""


def write_bert(folder: Path, seed: int = 0) -> Path:
    """A folder as transformers writes it, with a tokenizer; larger weights than a fresh model's, so
    that a few steps teach it something."""
    cfg = bert.Config(
        vocab_size=len(PIECES), width=32, depth=1, num_heads=2, hidden=64, max_length=24,
        dropout=0.1, attention_dropout=0.0, head_dropout=0.0,
    )  # fmt: skip
    model = cfg.build("feature-extraction")
    variables = zoo.init(model, jax.random.key(seed))
    variables = jax.tree.map(lambda leaf: leaf * 4 if leaf.ndim == 2 else leaf, variables)
    zoo.save_pretrained(folder, model, variables)
    return write_tokenizer(folder)


def write_tokenizer(folder: Path) -> Path:
    """The files of the tokenizer."""
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": 24}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def questions(count: int, seed: int = 0, impossible: bool = False) -> list[dict]:
    """Paragraphs of who lives or works where, with two questions each; the answer to a third, to be
    answered by nothing, is not there."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        who, where = str(rng.choice(PEOPLE)), str(rng.choice(CITIES))
        filler = "New, new, new. " * int(rng.integers(0, 4))
        context = f"{filler}{who.title()} {rng.choice(VERBS)} in {where.title()}."
        asked = [("Who?", who.title()), ("Where?", where.title())]
        qas = [
            {"id": f"{number}-{i}", "question": question,
             "answers": [{"text": answer, "answer_start": context.index(answer)}]}
            for i, (question, answer) in enumerate(asked)
        ]  # fmt: skip
        if impossible:
            qas.append({"id": f"{number}-2", "question": "New?", "answers": [],
                        "is_impossible": True})  # fmt: skip
        found.append({"context": context, "qas": qas})
    return found


def write_squad(path: Path, paragraphs: list[dict]) -> str:
    """The JSON of SQuAD."""
    path.parent.mkdir(exist_ok=True)
    article = {"title": "t", "paragraphs": paragraphs}
    path.write_text(json.dumps({"version": "2.0", "data": [article]}, ensure_ascii=False))
    return str(path)


def sentences(count: int, seed: int = 0, scheme: str = "IOB2") -> list[tuple[list, list]]:
    """Words and tags; cities of one or two words."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        who, where = str(rng.choice(PEOPLE)), str(rng.choice(CITIES))
        two = rng.random() < 0.5
        words = [who.title(), str(rng.choice(VERBS)), "in", *(["New"] if two else []),
                 where.title(), "."]  # fmt: skip
        words = ["new"] * int(rng.integers(0, 3)) + words
        first, rest = {"IOB2": "BI", "IOB1": "II"}[scheme]
        place = [f"{first}-LOC"] + [f"{rest}-LOC"] * two
        tags = [f"{first}-PER", "O", "O", *place, "O"]
        found.append((words, ["O"] * (len(words) - len(tags)) + tags))
    return found


def write_jsonl(path: Path, rows: list[tuple[list, list]], words="tokens", tags="tags") -> str:
    """One object per line."""
    lines = [json.dumps({words: a, tags: b}, ensure_ascii=False) for a, b in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def write_columns(path: Path, rows: list[tuple[list, list]], between: str = " ") -> str:
    """As of CoNLL 2003: word, part of speech, chunk, tag."""
    parts = [
        "\n".join(between.join([word, "NN", "x", tag]) for word, tag in zip(*row, strict=True))
        for row in rows
    ]
    path.write_text("-DOCSTART- -X- -X- O\n\n" + "\n\n".join(parts) + "\n")
    return str(path)
