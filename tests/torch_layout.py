"""PyTorch's names and layouts of recurrent networks and Transformers as ours, for the comparisons;
networks of plain layers that are kept in our names.

The goldens in ``tests/golden/*_torch.npz`` hold what PyTorch computed, under its own names;
``tests/parity`` computes it again.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from zoo.models import cnn, mlp, rnn, transformer

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compiles in half the time; what is compared runs once."""
GOLDEN = Path(__file__).parent / "golden"
RNN_CASES = {
    f"{cell}-{kind}": (cell, kind == "bidirectional")
    for cell in ("rnn", "lstm", "gru")
    for kind in ("forward", "bidirectional")
}
"""Cell and direction of every recurrent case; all have two layers, padding and initial states."""
RNN_WIDTHS = (3, 4)
"""Features and hidden width of the recurrent cases."""
TRANSFORMER = transformer.Config(
    vocab_size=11, width=8, depth=2, num_heads=2, hidden=12, dropout=0.0, max_length=9
)

PLAIN = {
    "cnn": {
        "strides": cnn.Config(
            ("conv 5 5 padding=2", "tanh", "avg_pool 2", "conv 6 3 stride=2", "gelu", "dense 9",
             "relu"), 7, 13, 2,
        ),
        "batch norm": cnn.Config(
            ("conv 6 3 padding=1", "batch_norm", "relu", "max_pool 3 stride=2 padding=1",
             "conv 8 1", "silu", "adaptive_avg_pool 2", "dense 8", "relu", "dropout 0"), 4, 11, 3,
        ),
    },
    "mlp": {
        "plain": mlp.Config(input_shape=(7,), widths=(12, 5), num_classes=3),
        "image": mlp.Config(input_shape=(3, 4, 2), widths=(9,), activation="gelu"),
        "linear": mlp.Config(input_shape=(6,), widths=(), num_classes=1),
    },
}  # fmt: skip
"""Convolutional networks and perceptrons whose outputs PyTorch computed in float64."""


def load(name: str) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of a golden file by case (the first part of their name)."""
    cases: dict[str, dict[str, np.ndarray]] = {}
    with np.load(GOLDEN / f"{name}_torch.npz") as file:
        for key in file.files:
            case, _, rest = key.partition("/")
            cases.setdefault(case, {})[rest] = file[key]
    return cases


def plain(family: str, case: str, dtype: str) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """A network of `PLAIN` with its variables, the input and PyTorch's output."""
    arrays = load(family)[case]
    variables = {
        tuple(name.split("/")): jnp.asarray(array, "float32")
        for name, array in arrays.items()
        if name not in ("x", "output")
    }
    model = PLAIN[family][case].build(dtype=dtype)
    return model, unflatten_dict(variables), arrays["x"], arrays["output"]


def rnn_config(case: str) -> rnn.Config:
    """A network that gives out what the last recurrent layer does: its head is the identity."""
    cell, both = RNN_CASES[case]
    features, hidden = RNN_WIDTHS
    return rnn.Config(
        cell,
        features=features,
        hidden=(hidden, hidden),
        bidirectional=both,
        num_biases=2,
        num_classes=hidden * (1 + both),
    )


def rnn_params(weights: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    """``nn.RNN``'s, ``nn.LSTM``'s or ``nn.GRU``'s parameters (or their gradients) as ours."""
    params = {}
    for key, value in weights.items():
        if key.startswith(f"{prefix}/weight_ih_l"):
            end = key.removeprefix(f"{prefix}/weight_ih_l")
            params[f"layer{end}"] = {
                "input": {"kernel": value.T, "bias": weights[f"{prefix}/bias_ih_l{end}"]},
                "recurrent_kernel": weights[f"{prefix}/weight_hh_l{end}"].T,
                "recurrent_bias": weights[f"{prefix}/bias_hh_l{end}"],
            }
    return params


def rnn_state(arrays: dict[str, np.ndarray], prefix: str, case: str) -> rnn.Cache:
    """PyTorch's ``[layers * directions, B, H]`` states as a cache."""
    directions = 1 + RNN_CASES[case][1]
    names = [f"{prefix}/h", f"{prefix}/c"] if RNN_CASES[case][0] == "lstm" else [f"{prefix}/h"]
    return tuple(
        tuple(
            tuple(arrays[name][layer * directions + way] for name in names)
            for way in range(directions)
        )
        for layer in range(2)
    )


def transformer_params(weights: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    """Parameters (or gradients) of ``nn.TransformerEncoder`` and ``Decoder``, named ``encoder`` and
    ``decoder``, and the embedding ``embed``, as ours."""
    params: dict[str, Any] = {"embed": {"embedding": weights[f"{prefix}/embed"]}}

    def dense(name: str) -> dict[str, np.ndarray]:
        return {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}

    def norm(name: str) -> dict[str, Any]:
        return {"norm": {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}}

    def attention(name: str) -> dict[str, Any]:
        kernels = np.split(weights[f"{name}.in_proj_weight"], 3)
        biases = np.split(weights[f"{name}.in_proj_bias"], 3)
        parts = zip(("query", "key", "value"), kernels, biases, strict=True)
        ours = {part: {"kernel": kernel.T, "bias": bias} for part, kernel, bias in parts}
        return {**ours, "out": dense(f"{name}.out_proj")}

    for i in range(TRANSFORMER.depth):
        for side, norms in (("encoder", 2), ("decoder", 3)):
            layer = f"{prefix}/{side}.layers.{i}"
            params[f"{side}{i}"] = {
                "attention": attention(f"{layer}.self_attn"),
                "mlp": {"up": dense(f"{layer}.linear1"), "down": dense(f"{layer}.linear2")},
                **{f"norm{n}": norm(f"{layer}.norm{n}") for n in range(1, norms + 1)},
            }
            if side == "decoder":
                params[f"{side}{i}"]["cross"] = attention(f"{layer}.multihead_attn")
    return params


def compare_rnn(case: str, arrays: dict[str, np.ndarray], dtype: str, tolerance: float) -> None:
    """Asserts that our outputs, final states and gradients are PyTorch's."""
    with jax.enable_x64(dtype == "float64"):
        model = rnn_config(case).build("token-classification", dtype, dtype)
        cast = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, dtype))
        batch, time = arrays["x"].shape[:2]
        mask = np.arange(time) < arrays["lengths"][:, None]
        counts = mask[..., None]
        width = arrays["output"].shape[-1]
        head = {"head": {"kernel": np.eye(width), "bias": np.zeros(width)}}

        def loss(params: Any, x: jax.Array, first: Any) -> tuple[jax.Array, Any]:
            output, last = model.apply(
                {"params": {**params, **cast(head)}}, x, mask.astype(np.int32), cache=first
            )
            output = output * counts
            states = sum(
                jnp.sum(way[0] ** 2 if len(way) == 1 else way[0] ** 2 + way[1] ** 2)
                for layer in last
                for way in layer
            )
            return jnp.sum(output * cast(arrays["target"])) + states, (output, last)

        inputs = (rnn_params(arrays, "weight"), arrays["x"], rnn_state(arrays, "first", case))
        gradient = jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
        ours, (output, last) = gradient(*cast(inputs))
        theirs = (
            rnn_params(arrays, "grad/weight"),
            arrays["grad/x"],
            rnn_state(arrays, "grad/first", case),
        )
        close(output, arrays["output"], tolerance)
        close(last, rnn_state(arrays, "last", case), tolerance)
        close(ours, theirs, tolerance)


def compare_transformer(arrays: dict[str, np.ndarray], dtype: str, tolerance: float) -> None:
    """Asserts that our outputs (where tokens count) and gradients are PyTorch's."""
    with jax.enable_x64(dtype == "float64"):
        model = TRANSFORMER.build("translation", dtype, dtype)
        cast = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, dtype))
        names = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
        batch = {name: arrays[name] for name in names}
        counts = arrays["decoder_attention_mask"][..., None]

        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            output = model.apply({"params": params}, **batch)
            return jnp.sum(output * cast(arrays["target"])), output * counts

        gradient = jit(jax.grad(loss, has_aux=True))
        ours, output = gradient(cast(transformer_params(arrays, "weight")))
        close(output, arrays["output"] * counts, tolerance)
        close(ours, transformer_params(arrays, "grad/weight"), tolerance)


def close(ours: Any, theirs: Any, tolerance: float) -> None:
    """Asserts equal trees, to ``tolerance`` of the largest value of each array (at least 1)."""
    ours = jax.tree_util.tree_leaves_with_path(ours)
    theirs = jax.tree_util.tree_leaves_with_path(theirs)
    assert [path for path, _ in ours] == [path for path, _ in theirs]
    for (path, a), (_, b) in zip(ours, theirs, strict=True):
        scale = max(1.0, float(np.abs(b).max()))
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=name)
