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


def reference(rng: np.random.Generator) -> Reference:
    """With random weights, in float64."""
    module = Reference().double()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.tensor(rng.normal(size=weight.shape) * 0.4))
    return module


def intermediates(seed: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of the layers by our names, for the inputs of `compute`."""
    module, found = reference(np.random.default_rng(seed)), {}
    for side in ("encoder", "decoder"):
        for i, layer in enumerate(getattr(module, side).layers):
            layer.register_forward_hook(
                lambda _, __, output, name=f"{side}{i}": found.update({name: output})
            )
    ids = [torch.tensor(arrays[name]).long() for name in ("input_ids", "decoder_input_ids")]
    masks = [arrays[name] for name in ("attention_mask", "decoder_attention_mask")]
    output = module(*ids, *(torch.tensor(mask == 0) for mask in masks))
    # A decoder layer of ours gives its keys and values too.
    names = {name: f"{name}/0" if name.startswith("decoder") else name for name in found}
    return {names[k]: v.detach().numpy() for k, v in found.items()} | {"": output.detach().numpy()}


def compute(seed: int) -> dict[str, np.ndarray]:
    """Weights, inputs, outputs and gradients in float64."""
    rng = np.random.default_rng(seed)
    module = reference(rng)
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


@pytest.mark.parametrize("seed", (101, pytest.param(102, marks=pytest.mark.full)))
def test_other_weights_agree_too(seed: int, names_divergence) -> None:
    arrays = compute(seed)
    names = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
    batch = {name: arrays[name] for name in names}
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-10)):
        model = layout.TRANSFORMER.build("translation", dtype, dtype)
        params = layout.transformer_params(arrays, "weight")
        with names_divergence(
            (model, {"params": params}), intermediates(seed, arrays), batch, tolerance=tolerance
        ):
            layout.compare_transformer(arrays, dtype, tolerance)


if __name__ == "__main__":
    arrays = {f"base/{key}": value for key, value in compute(0).items()}
    np.savez_compressed(layout.GOLDEN / "transformer_torch.npz", **arrays)
