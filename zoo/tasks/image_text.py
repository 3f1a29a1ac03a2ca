"""Contrastive learning of pictures and texts: which text of a batch belongs to which picture?

Batch: `image` `[B, H, W, I]` and, row by row, a text of each, `input_ids` `[B, T]` with
`attention_mask`; `label` int32 `[B]`, the number of the picture, so that several texts of one are
known. Outputs: `image_embeds` and `text_embeds` `[B, E]` of length 1, and `logit_scale`.

Source: Radford et al., 2021, https://arxiv.org/abs/2103.00020, section 2.3.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from zoo.errors import InputError
from zoo.nn import axis
from zoo.tasks.batch import Apply, Batch, example_weights, run, where_counts
from zoo.tasks.bind import expect_label
from zoo.tasks.check import Rows, check_inputs, check_label, check_range
from zoo.tasks.losses import softmax_cross_entropy, wide
from zoo.tasks.metrics import Metric, mean, recalls
from zoo.tasks.metrics.retrieval import likeliest


class Pair(Protocol):
    """A picture and a text as the task shows them."""

    name: str
    """Where it came from."""
    text: str


class Pairs(Protocol):
    """A split whose rows are pictures with a text each."""

    examples: list[Any]
    """A `Pair` for each row."""
    image_of: np.ndarray
    """Number of the picture of every row, int `[N]`."""
    text_of: np.ndarray
    """Number of the text of every row, the same for equal texts, int `[N]`."""


@dataclass(frozen=True)
class ImageTextContrastive:
    """Trains pictures and their texts to be near each other, and far from all others of the batch:
    the mean of the cross-entropies of finding the text of a picture and the picture of a text.

    The loss is of the whole batch, over all devices; it depends on the batch size. Retrieval is
    scored among all pictures and texts of a split.
    """

    names: ClassVar[tuple[str, ...]] = ("zero-shot-image-classification",)
    best: ClassVar[tuple[str, str]] = ("mean_recall", "max")
    joins: ClassVar[bool] = True
    global_batch: ClassVar[bool] = True

    max_scale: float = 100.0
    """What the cosines are multiplied by at most."""

    def __post_init__(self) -> None:
        if not self.max_scale > 0:
            raise InputError(f"max_scale is {self.max_scale}; it must be above 0")

    def bind(self, info: Any) -> "ImageTextContrastive":
        """This task; InputError when the data are no pictures with texts."""
        given = getattr(info, "inputs", None) or {}
        if missing := [name for name in ("image", "input_ids") if name not in given]:
            raise InputError(
                "ImageTextContrastive needs pictures with a text each, such as those of "
                f"ImageTextPairs; these data have no {' and no '.join(missing)}"
            )
        expect_label(self, info, "int32", (0,), "it needs the number of the picture")
        return self

    def check(self, batch: Batch, info: Any, rows: Rows) -> None:
        """Host check of one batch; InputError names the record."""
        check_inputs(batch, info, rows)
        label = check_label(batch, rows, np.int32, (1,), "int32 [B]: the number of the picture")
        check_range("label", label, None, rows, "0 or more")

    def objective(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """(sum of the mean cross-entropies of a row's text and picture, sum of the weights).

        The rows are this device's; they are compared with those of all devices.
        """
        for name in ("image_embeds", "text_embeds", "logit_scale"):
            if not hasattr(outputs, name):
                raise InputError(
                    f"the model returns no {name}; ImageTextContrastive needs a model of pictures "
                    "and texts, such as clip"
                )
        weights = example_weights(batch, len(outputs.image_embeds))
        images = where_counts(weights, wide(outputs.image_embeds))
        texts = where_counts(weights, wide(outputs.text_embeds))
        scale = jnp.minimum(outputs.logit_scale, self.max_scale)
        counts = _everywhere(weights) != 0
        label = jnp.arange(len(images)) + axis.index() * len(images)
        losses = []
        for own, others in ((images, texts), (texts, images)):
            logits = jnp.where(counts, scale * own @ _everywhere(others).T, _NEVER)
            losses.append(softmax_cross_entropy(logits, label, weights))
        (of_images, weight), (of_texts, _) = losses
        return (of_images + of_texts) / 2, weight

    def loss(
        self, apply: Apply, variables: Any, batch: Batch, rngs: Any = None, train: bool = False
    ) -> tuple[Any, Any, dict[str, Any]]:
        """(loss sum, weight sum, {"outputs", "updates"}); see `zoo.tasks.batch.run`."""
        return run(self.objective, apply, variables, batch, rngs, train)

    def metrics(self) -> dict[str, Metric]:
        """`loss` of the batches; `score` gives the recalls."""
        return {"loss": mean("loss", self.objective)}

    def predict(self, outputs: Any, batch: Batch | None = None) -> dict[str, Any]:
        """`similarity` `[B]`: the cosine of each picture and its text."""
        both = wide(outputs.image_embeds) * wide(outputs.text_embeds)
        return {"similarity": jnp.sum(both, axis=-1)}

    def keep(self, outputs: Any, batch: Batch) -> dict[str, Any]:
        """`image` and `text` `[B, E]`: the vectors, in at least float32."""
        return {"image": wide(outputs.image_embeds), "text": wide(outputs.text_embeds)}

    def score(self, kept: dict[str, np.ndarray], split: Pairs) -> dict[str, Any]:
        """`image_to_text_recall_at_1`, 5 and 10, the same of `text_to_image`, and their mean; see
        `recalls`."""
        return recalls(kept["image"], kept["text"], split.image_of, split.text_of)

    def show(self, kept: dict[str, np.ndarray], split: Pairs) -> list[dict[str, Any]]:
        """Of every row: the cosine of its picture and its text, and the text of all rows that its
        picture is nearest to."""
        best = likeliest(kept["image"], kept["text"])
        own = np.sum(kept["image"] * kept["text"], axis=-1)
        return [
            {
                "text": pair.text,
                "similarity": float(own[row]),
                "nearest_text": split.examples[best[row]].text,
            }
            for row, pair in enumerate(split.examples)
        ]


_NEVER = -1e30
"""The logit of a row that only pads a batch."""


def _everywhere(x: Any) -> Any:
    """The rows of all devices, in the order of the batch."""
    return jax.lax.all_gather(x, axis.DATA_AXIS, tiled=True) if axis.bound() else x
