"""The Transformer beside PyTorch's layers, live. ``python tests/parity/test_transformer_parity.py``
from the repository's root freezes what PyTorch computes for the normal suite
(tests/models/test_transformer.py)."""

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch_layout as layout

SOURCE, TARGET = (5, 2, 4), (6, 6, 3)


class Reference(torch.nn.Module):
    """``nn.Transformer``'s encoder and decoder without final norms, with a tied embedding."""

    def __init__(self) -> None:
        super().__init__()
        cfg = layout.TRANSFORMER
        sizes = (cfg.width, cfg.num_heads, cfg.hidden, 0.0)
        self.embed = torch.nn.Parameter(torch.zeros(cfg.vocab_size, cfg.width))
        encoder = torch.nn.TransformerEncoderLayer(*sizes, batch_first=True)
        decoder = torch.nn.TransformerDecoderLayer(*sizes, batch_first=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            transformer = torch.nn.Transformer(
                cfg.width,
                cfg.num_heads,
                custom_encoder=torch.nn.TransformerEncoder(
                    encoder, cfg.depth, norm=None, enable_nested_tensor=False
                ),
                custom_decoder=torch.nn.TransformerDecoder(decoder, cfg.depth, norm=None),
                batch_first=True,
            )
        self.encoder, self.decoder = transformer.encoder, transformer.decoder

    def positions(self, ids: torch.Tensor) -> torch.Tensor:
        cfg, places = layout.TRANSFORMER, torch.arange(ids.shape[1], dtype=torch.float64)[:, None]
        rates = torch.exp(torch.arange(0, cfg.width, 2).double() * -(math.log(1e4) / cfg.width))
        table = torch.zeros(ids.shape[1], cfg.width, dtype=torch.float64)
        table[:, 0::2], table[:, 1::2] = torch.sin(places * rates), torch.cos(places * rates)
        return self.embed[ids] * math.sqrt(cfg.width) + table

    def forward(self, source, target, source_hidden, target_hidden):  # noqa: ANN001, ANN201
        memory = self.encoder(self.positions(source), src_key_padding_mask=source_hidden)
        later = torch.triu(torch.ones(target.shape[1], target.shape[1], dtype=torch.bool), 1)
        y = self.decoder(
            self.positions(target),
            memory,
            tgt_mask=later,
            tgt_key_padding_mask=target_hidden,
            memory_key_padding_mask=source_hidden,
        )
        return y @ self.embed.T


def compute(seed: int) -> dict[str, np.ndarray]:
    """Weights, inputs, outputs and gradients in float64."""
    rng, module = np.random.default_rng(seed), Reference().double()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.tensor(rng.normal(size=weight.shape) * 0.4))
    vocab = layout.TRANSFORMER.vocab_size
    ids = [rng.integers(0, vocab, (len(n), max(n))).astype(np.int32) for n in (SOURCE, TARGET)]
    masks = [(np.arange(max(n)) < np.array(n)[:, None]).astype(np.int32) for n in (SOURCE, TARGET)]
    hidden = [torch.tensor(mask == 0) for mask in masks]
    output = module(*(torch.tensor(x).long() for x in ids), *hidden)
    # Padding has no loss, and here no gradient.
    target = rng.normal(size=tuple(output.shape)) * masks[1][..., None]
    (output * torch.tensor(target)).sum().backward()
    return {
        "input_ids": ids[0],
        "attention_mask": masks[0],
        "decoder_input_ids": ids[1],
        "decoder_attention_mask": masks[1],
        "target": target,
        "output": output.detach().numpy(),
        **{f"weight/{n}": w.detach().numpy() for n, w in module.named_parameters()},
        **{f"grad/weight/{n}": w.grad.numpy() for n, w in module.named_parameters()},
    }


def test_frozen_values_are_what_pytorch_computes() -> None:
    frozen, live = layout.load("transformer")["base"], compute(0)
    assert frozen.keys() == live.keys()
    for key, value in live.items():
        np.testing.assert_allclose(frozen[key], value, rtol=0, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("seed", (101, 102))
def test_other_weights_agree_too(seed: int) -> None:
    layout.compare_transformer(compute(seed), "float32", 1e-5)
    layout.compare_transformer(compute(seed), "float64", 1e-10)


if __name__ == "__main__":
    arrays = {f"base/{key}": value for key, value in compute(0).items()}
    np.savez_compressed(layout.GOLDEN / "transformer_torch.npz", **arrays)
