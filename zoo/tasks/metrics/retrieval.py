"""Metrics of retrieval: how often what belongs together is found among all others."""

import numpy as np

from zoo.tasks.metrics.metric import Scores

RANKS = (1, 5, 10)
CHUNK = 512  # rows that are compared with all others at once


def recalls(
    images: np.ndarray, texts: np.ndarray, image_of: np.ndarray, text_of: np.ndarray
) -> Scores:
    """`image_to_text_recall_at_k`, `text_to_image_recall_at_k` for k of 1, 5 and 10, and
    `mean_recall`, the mean of the six.

    Of a picture the share in which one of its texts is among the k nearest to it; of a text the
    same of its pictures. A picture with several texts, and a text of several pictures, counts once.
    A stranger that is as near as the best that belongs comes before it, so that a model for which
    all is alike finds nothing.

    Args:
        images: vectors `[N, E]` of the pictures of N pairs.
        texts: of their texts, `[N, E]`.
        image_of: number of the picture of each pair, `[N]`.
        text_of: number of the text of each pair, `[N]`.

    Returns:
        All None where there is no pair.
    """
    names = [f"{way}_recall_at_{k}" for way in ("image_to_text", "text_to_image") for k in RANKS]
    if not len(images):
        return dict.fromkeys([*names, "mean_recall"])
    _, first_image, image = np.unique(image_of, return_index=True, return_inverse=True)
    _, first_text, text = np.unique(text_of, return_index=True, return_inverse=True)
    pictures, captions = images[first_image], texts[first_text]
    ways = ((pictures, captions, image, text), (captions, pictures, text, image))
    ahead = [_ahead(*way) for way in ways]
    shares = [float(np.mean(strangers < k)) for strangers in ahead for k in RANKS]
    found = dict(zip(names, shares, strict=True))
    return found | {"mean_recall": float(np.mean(shares))}


def likeliest(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Number of the key that is nearest to each query, int `[N]`."""
    parts = (queries[i : i + CHUNK] @ keys.T for i in range(0, len(queries), CHUNK))
    return np.concatenate([np.argmax(part, axis=1) for part in parts])


def _ahead(
    queries: np.ndarray, keys: np.ndarray, asks: np.ndarray, holds: np.ndarray
) -> np.ndarray:
    """How many keys that do not belong to a query are as near to it as the best that does, or
    nearer, int `[queries]`.

    Args:
        queries: vectors.
        keys: vectors.
        asks, holds: number of the query and of the key of each pair that belongs together.
    """
    found = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), CHUNK):
        scores = queries[start : start + CHUNK] @ keys.T
        belongs = np.zeros(scores.shape, bool)
        here = (asks >= start) & (asks < start + CHUNK)
        belongs[asks[here] - start, holds[here]] = True
        lost = np.isnan(scores)
        best = np.max(np.where(belongs & ~lost, scores, -np.inf), axis=1, keepdims=True)
        found[start : start + CHUNK] = np.sum(~belongs & (lost | (scores >= best)), axis=1)
        found[start : start + CHUNK][best[:, 0] == -np.inf] = len(keys)
    return found
