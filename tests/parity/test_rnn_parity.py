"""Recurrent layers beside PyTorch, live. ``python tests/parity/test_rnn_parity.py`` from the
repository's root freezes what PyTorch computes for the normal suite (tests/models/test_rnn.py)."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch_layout as layout

CELLS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
LENGTHS = (6, 4, 1)


def compute(case: str, seed: int) -> dict[str, np.ndarray]:
    """Weights, inputs, outputs and gradients in float64, of packed sequences of ``LENGTHS``."""
    cell, both = layout.RNN_CASES[case]
    features, hidden = layout.RNN_WIDTHS
    rng = np.random.default_rng(seed)
    module = CELLS[cell](features, hidden, 2, batch_first=True, bidirectional=both).double()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.tensor(rng.normal(size=weight.shape) * 0.6))
    batch, time = len(LENGTHS), max(LENGTHS)
    x = torch.tensor(rng.normal(size=(batch, time, features)), requires_grad=True)
    shape = (2 * (1 + both), batch, hidden)
    names = ("h", "c") if cell == "lstm" else ("h",)
    first = [torch.tensor(rng.normal(size=shape), requires_grad=True) for _ in names]
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True)
    output, last = module(packed, tuple(first) if cell == "lstm" else first[0])
    output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
    last = last if cell == "lstm" else (last,)
    # A loss in which every output and final state has a gradient of its own.
    target = torch.tensor(rng.normal(size=output.shape))
    loss = (output * target).sum() + sum((state**2).sum() for state in last)
    loss.backward()
    return {
        "x": x.detach().numpy(),
        "lengths": np.array(LENGTHS),
        "target": target.numpy(),
        "output": output.detach().numpy(),
        "grad/x": x.grad.numpy(),
        **{f"first/{n}": s.detach().numpy() for n, s in zip(names, first, strict=True)},
        **{f"last/{n}": s.detach().numpy() for n, s in zip(names, last, strict=True)},
        **{f"grad/first/{n}": s.grad.numpy() for n, s in zip(names, first, strict=True)},
        **{f"weight/{n}": w.detach().numpy() for n, w in module.named_parameters()},
        **{f"grad/weight/{n}": w.grad.numpy() for n, w in module.named_parameters()},
    }


@pytest.mark.parametrize("case", layout.RNN_CASES)
def test_frozen_values_are_what_pytorch_computes(case: str) -> None:
    frozen = layout.load("rnn")[case]
    live = compute(case, list(layout.RNN_CASES).index(case))
    assert frozen.keys() == live.keys()
    for key, value in live.items():
        np.testing.assert_allclose(frozen[key], value, rtol=0, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("case", layout.RNN_CASES)
@pytest.mark.parametrize("seed", (101, 102))
def test_other_weights_agree_too(case: str, seed: int) -> None:
    layout.compare_rnn(case, compute(case, seed), "float32", 1e-5)
    layout.compare_rnn(case, compute(case, seed), "float64", 1e-10)


if __name__ == "__main__":
    arrays = {
        f"{case}/{key}": value
        for seed, case in enumerate(layout.RNN_CASES)
        for key, value in compute(case, seed).items()
    }
    np.savez_compressed(layout.GOLDEN / "rnn_torch.npz", **arrays)
