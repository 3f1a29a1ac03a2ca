"""Recurrent networks: Elman (1990), LSTM (Hochreiter and Schmidhuber, 1997), GRU (Cho et al.,
2014, https://arxiv.org/abs/1406.1078); as language models Zaremba et al. (2014,
https://arxiv.org/abs/1409.2329) and Merity et al. (2017, https://arxiv.org/abs/1708.02182).

B batch, T time, F input features, D layer width, C classes, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.errors import InputError
from zoo.models.registry import Size, check_task
from zoo.nn.activation import activation
from zoo.nn.cells import CELLS, State
from zoo.nn.dense import Dense, Embed
from zoo.nn.dropout import Dropout
from zoo.nn.recurrent import Recurrent, initial_state

TASKS = (
    "text-classification",
    "text-generation",
    "token-classification",
    "image-classification",
    "tabular-classification",
    "regression",
)

Cache = tuple[tuple[State, ...], ...]
"""State of every layer and, within, of every direction: arrays ``[B, D]``."""


@dataclass(frozen=True)
class Config:
    """Embedding (or features), recurrent layers, dense layers, head."""

    cell: str = "lstm"
    """Recurrent cell: rnn (Elman, tanh), lstm or gru."""
    vocab_size: int | None = None
    """Number of token ids; none: the input is float features."""
    embedding: int = 128
    """Width of the token embedding."""
    features: int = 8
    """Features of a step where there is no vocabulary."""
    hidden: tuple[int, ...] = (128,)
    """Width of every recurrent layer, per direction."""
    bidirectional: bool = False
    """Whether every layer also runs from the end to the start."""
    num_biases: int = 1
    """Bias vectors of a cell: 1, or 2 as PyTorch has them."""
    dropout: float = 0.0
    """Rate on the embedding, between the recurrent layers and on the last one's output."""
    dense: tuple[int, ...] = ()
    """Widths of dense layers between the recurrent part and the head."""
    activation: str = "relu"
    """Activation of those dense layers."""
    num_classes: int = 2
    """Outputs of the head (a language model has one per token id)."""
    tied: bool = False
    """Whether a language model's output layer is its embedding."""
    length: int = 100
    """Steps of an example; other lengths work as well."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "RNN":
        """The module.

        Raises:
            InputError: unknown task or cell, or fields that contradict each other.
        """
        task = check_task(task, TASKS)
        if self.cell not in CELLS:
            raise InputError(f"unknown cell {self.cell!r}; there are: {', '.join(CELLS)}")
        if self.num_biases not in (1, 2):
            raise InputError(f"num_biases is 1 or 2, not {self.num_biases}")
        if not self.hidden:
            raise InputError("hidden names no recurrent layer; give at least one width")
        activation(self.activation)
        if task == "text-generation":
            if self.vocab_size is None:
                raise InputError("text-generation needs a vocab_size")
            if self.bidirectional:
                raise InputError(
                    "a bidirectional network sees the tokens it is to predict; for "
                    "text-generation set bidirectional to false"
                )
            if self.tied and (*self.hidden, *self.dense)[-1] != self.embedding:
                raise InputError(
                    f"tied needs a last layer as wide as the embedding, {self.embedding}, not "
                    f"{(*self.hidden, *self.dense)[-1]}"
                )
        elif self.tied:
            raise InputError(f"only a language model's output can be tied, not {task}'s")
        return RNN(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch."""
        if self.vocab_size is not None:
            return {"inputs": jax.ShapeDtypeStruct((batch, self.length), jnp.int32)}
        shape = (batch, self.length, self.features)
        return {"inputs": jax.ShapeDtypeStruct(shape, jnp.float32)}


class RNN(nn.Module):
    """Tokens or features in, logits (regression: values) out."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Int[ArrayLike, "B T *F"] | Float[ArrayLike, "B T *F"],
        attention_mask: Int[ArrayLike, "B T"] | None = None,
        cache: Cache | None = None,
        train: bool = False,
    ) -> Array | tuple[Array, Cache]:
        """Classes ``[B, C]`` from the state after the last step (of both directions), or one
        output per step: ``[B, T, C]``, for language models ``[B, T, V]``.

        Args:
            inputs: token ids where the config has a vocabulary, else features; the rows of an
                image are steps.
            attention_mask: 0 at padding, wherever it is: such a step leaves state and output as
                they were.
            cache: state before the first step (``init_cache``); given one, the result is
                ``(output, cache)`` with the state after the last.
            train: whether dropout is active; needs ``rngs={"dropout": key}``.

        Raises:
            InputError: the inputs' rank or number of features is not the config's.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        inputs = jnp.asarray(inputs)
        self._check(inputs.shape)
        if cfg.vocab_size is not None:
            embed = Embed(cfg.vocab_size, cfg.embedding, **types, name="embed")
            x_TBD = embed(inputs.T)
            x_TBD = self._dropout(x_TBD, train, "embed_dropout")
        else:
            x = inputs.reshape(*inputs.shape[:2], -1).astype(self.dtype)
            x_TBD = x.swapaxes(0, 1)
        mask_TB = None if attention_mask is None else jnp.asarray(attention_mask).T != 0

        states = []
        for i, width in enumerate(cfg.hidden):
            before = None if cache is None else cache[i]
            x_TBD, after = self._layer(x_TBD, mask_TB, before, f"layer{i}", width)
            x_TBD = x_TBD if self._last_only(i) else self._dropout(x_TBD, train, f"dropout{i}")
            states.append(after)

        if self._last_only(len(cfg.hidden) - 1):
            x = jnp.concatenate([state[0] for state in states[-1]], -1).astype(self.dtype)
            x = Dropout(cfg.dropout, name="dropout")(x, train)
        else:
            x = x_TBD.swapaxes(0, 1)
        for i, width in enumerate(cfg.dense):
            x = activation(cfg.activation)(Dense(width, **types, name=f"dense{i}")(x))
        if self.task == "text-generation" and cfg.tied:
            shape = (cfg.vocab_size,)
            bias = self.param("head_bias", nn.initializers.zeros, shape, self.param_dtype)
            y = embed.attend(x) + bias.astype(self.dtype)
        else:
            outputs = cfg.num_classes
            if self.task == "text-generation":
                assert cfg.vocab_size is not None, "Config.build asks for it"
                outputs = cfg.vocab_size
            y = Dense(outputs, **types, name="head")(x)
        return y if cache is None else (y, tuple(states))

    def init_cache(self, batch: int, length: int | None = None) -> Cache:
        """The state before the first step: zeros. It does not grow with ``length``."""
        cfg, directions = self.cfg, 1 + self.cfg.bidirectional
        return tuple(
            tuple(initial_state(cfg.cell, batch, width, self.dtype) for _ in range(directions))
            for width in cfg.hidden
        )

    def _layer(
        self,
        x: Float[Array, "T B D"],
        mask: Bool[Array, "T B"] | None,
        states: tuple[State, ...] | None,
        name: str,
        width: int,
    ) -> tuple[Float[Array, "T B E"], tuple[State, ...]]:
        """One layer in its one or two directions; two are put side by side."""
        cfg, outputs, after = self.cfg, [], []
        for i in range(1 + cfg.bidirectional):
            layer = Recurrent(
                cfg.cell,
                width,
                cfg.num_biases,
                reverse=i == 1,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=name + ("_reverse" if i else ""),
            )
            y, state = layer(x, mask, None if states is None else states[i])
            outputs.append(y)
            after.append(state)
        return jnp.concatenate(outputs, -1) if len(outputs) > 1 else outputs[0], tuple(after)

    def _last_only(self, layer: int) -> bool:
        """Whether of this layer only the state after the last step is wanted."""
        per_step = self.task in ("text-generation", "token-classification")
        return layer == len(self.cfg.hidden) - 1 and not per_step

    def _dropout(self, x: Float[Array, "T B D"], train: bool, name: str) -> Float[Array, "T B D"]:
        return Dropout(self.cfg.dropout, name=name)(x.swapaxes(0, 1), train).swapaxes(0, 1)

    def _check(self, shape: tuple[int, ...]) -> None:
        cfg = self.cfg
        if cfg.vocab_size is not None:
            if len(shape) != 2:
                raise InputError(f"rnn takes token ids [B, T], not an array of shape {list(shape)}")
            return
        features = 1
        for n in shape[2:]:
            features *= n
        if len(shape) not in (3, 4) or features != cfg.features:
            raise InputError(
                f"rnn takes [B, T, {cfg.features}], or images whose rows have {cfg.features} "
                f"values, not an array of shape {list(shape)}; set the config's features"
            )


def _language_model(
    cell: str, vocab: int, embedding: int, hidden: tuple[int, ...], tied: bool = False
) -> Config:
    return Config(
        cell, vocab, embedding, hidden=hidden, num_biases=2, dropout=0.5, tied=tied, length=35
    )


_EXAMPLES = "https://github.com/pytorch/examples/tree/main/word_language_model"
_ZAREMBA = "https://arxiv.org/abs/1409.2329, two biases a layer"
_LM = "text-generation"

SIZES = {
    "lstm-embed10-128-128": Size(
        Config("lstm", 10_000, 10, hidden=(128, 128), num_classes=10), 304_042, "closed form"
    ),
    "lstm-100-dense50": Size(
        Config("lstm", features=10, hidden=(100,), dense=(50,), num_classes=1, length=10),
        49_501,
        "closed form",
        task="tabular-classification",
    ),
    "lstm-wikitext2-200": Size(
        _language_model("lstm", 33_278, 200, (200, 200)), 13_987_678, _EXAMPLES, task=_LM
    ),
    "gru-wikitext2-200": Size(
        _language_model("gru", 33_278, 200, (200, 200)), 13_826_878, _EXAMPLES, task=_LM
    ),
    "zaremba-medium": Size(
        _language_model("lstm", 10_000, 650, (650, 650)), 19_780_400, _ZAREMBA, task=_LM
    ),
    "zaremba-large": Size(
        _language_model("lstm", 10_000, 1500, (1500, 1500)), 66_034_000, _ZAREMBA, task=_LM
    ),
    "awd-lstm-ptb": Size(
        _language_model("lstm", 10_000, 400, (1150, 1150, 400), tied=True),
        24_221_600,
        "https://arxiv.org/abs/1708.02182, two biases a layer",
        task=_LM,
    ),
}

TENSOR_PARALLEL = ((r"(embed/embedding|head/kernel)", P(None, "tensor")),)
"""Path endings and partitions. The recurrent layers stay whole, since a split state would have to
be gathered at every step."""
