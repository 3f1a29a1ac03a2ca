"""Precision, recall and F1 of entities: runs of words that tags such as B-PER, I-PER mark.

What an entity is, is defined as in the evaluation of the CoNLL-2000 task (Tjong Kim Sang and
Buchholz, 2000, https://aclanthology.org/W00-0726), and as seqeval does by default: one definition
for IOB1, IOB2 and BIOES, which also reads sequences that break the rules of their scheme.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from zoo.tasks.metrics.metric import Scores

PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}
"""Letters before the type of an entity; L and U are what BILOU calls E and S."""
OUTSIDE = "O"

Entity = tuple[str, int, int]
"""Type, first position, and the one after the last."""


def marks_entities(names: Iterable[str]) -> bool:
    """Whether these are tags of entities: a prefix and a type, or O; at least one of the first."""
    tags = [name for name in names if name != OUTSIDE]
    return bool(tags) and all(_parts(tag) is not None for tag in tags)


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sequence, in order.

    One begins at B and S; after O, E and S; and where the type changes. It goes on to the next
    beginning, or to O.
    """
    found: list[Entity] = []
    start, before = 0, ("O", "")
    for at, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = _parts(tag) or ("O", "")
        begins = prefix in "BS" or before[0] in "OES" or kind != before[1]
        if before[0] != "O" and (prefix == "O" or begins):
            found.append((before[1], start, at))
        if prefix != "O" and begins:
            start = at
        before = (prefix, kind)
    return found


def entity_scores(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> Scores:
    """Scores of whole entities: right is one of the same type from the same first to the same last
    position.

    `entity_precision`, `entity_recall`, `entity_f1` over all (micro), `entity_f1_macro` over the
    types that occur, and `entity_f1_per_type`; 0 where nothing is there to divide by, None where
    there is no sequence at all.
    """
    right, ours, theirs = Counter[str](), Counter[str](), Counter[str]()
    for guess, truth in zip(predicted, true, strict=True):
        found, wanted = set(entities(guess)), set(entities(truth))
        right.update(kind for kind, _, _ in found & wanted)
        ours.update(kind for kind, _, _ in found)
        theirs.update(kind for kind, _, _ in wanted)
    kinds = sorted(ours.keys() | theirs.keys())
    per_type = {kind: _ratio(2 * right[kind], ours[kind] + theirs[kind]) for kind in kinds}
    scores: Scores = {
        "entity_precision": _ratio(right.total(), ours.total()),
        "entity_recall": _ratio(right.total(), theirs.total()),
        "entity_f1": _ratio(2 * right.total(), ours.total() + theirs.total()),
        "entity_f1_macro": sum(per_type.values()) / len(kinds) if kinds else 0.0,
    }
    scores = scores if len(true) else dict.fromkeys(scores)
    return scores | {"entity_f1_per_type": per_type}


def _parts(tag: str) -> tuple[str, str] | None:
    """Prefix and type of a tag; None for another one. A prefix alone marks one unnamed type."""
    prefix, dash, kind = tag.partition("-")
    if prefix not in PREFIXES or (dash and not kind):
        return None
    return PREFIXES[prefix], kind


def _ratio(above: int, below: int) -> float:
    return above / below if below else 0.0
