"""How far our outputs are from those of the reference libraries, on the tiny models of theirs in
tests/golden.

`python tests/parity_errors.py [ARCHITECTURE...]` from the repository's root measures it anew for
the cards (zoo/inspect/parity.json), of all architectures or of some; look at what changed.
"""

import functools
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import golden_images
import golden_models
import jax
import jax.numpy as jnp
import numpy as np
import torch_layout

import zoo
from zoo.inspect.card import PARITY
from zoo.models import registry
from zoo.pretrained import read_saved

DTYPES = ("float32", "bfloat16")


def models() -> list[str]:
    """Names of all models that can be compared: of timm's and transformers' files, and PyTorch's
    layers."""
    layers = [f"torch/rnn {case}" for case in torch_layout.RNN_CASES]
    layers += [f"torch/{family} {case}" for family, of in torch_layout.PLAIN.items() for case in of]
    return [*golden_models.MODELS, *golden_images.MODELS, *layers, "torch/transformer"]


def errors(name: str) -> tuple[str, str, dict[str, float]]:
    """Architecture, reference, and the largest error by our dtype as a share of the standard
    deviation of the output where it is made."""
    if name.startswith("torch/"):
        family, found = _layers(name.removeprefix("torch/"))
        return family, "PyTorch", found
    with tempfile.TemporaryDirectory() as place:
        images = name in golden_images.MODELS
        if images:
            config, image, tensors, output = golden_images.read(name)
            given, wanted = {"image": image}, {"logits": output}
        else:
            config, given, tensors, wanted = golden_models.read(name)
        folder = golden_models.write_folder(Path(place), config, tensors)
        found = {}
        for dtype in DTYPES:
            with golden_images.smaller():
                model, variables = zoo.from_pretrained(folder, dtype=dtype)
            output = jax.jit(model.apply)(variables, **given)
            ours = {"logits": output} if images else golden_models.as_theirs(name, output)
            found[dtype] = max(
                _error(value, ours[key], given.get("attention_mask"))
                for key, value in wanted.items()
                if key in ours
            )
    library = "timm" if name.startswith("timm/") else "transformers"
    return registry.family(model.cfg), library, found


def _error(wanted: np.ndarray, ours: Any, mask: np.ndarray | None) -> float:
    """What stands at padding is of no use to anybody."""
    error = np.abs(np.asarray(ours, np.float32) - wanted)
    if mask is not None and error.shape[: mask.ndim] == mask.shape:
        error = error[mask > 0]
    return float(error.max() / wanted.std())


def _layers(name: str) -> tuple[str, dict[str, float]]:
    """Of PyTorch's layers, which were run in float64."""
    family, _, case = name.partition(" ")
    found = {}
    for dtype in DTYPES:
        if family in torch_layout.PLAIN:
            model, variables, x, wanted = torch_layout.plain(family, case, dtype)
            found[dtype] = _error(wanted, jax.jit(model.apply)(variables, np.float32(x)), None)
            continue
        if family == "rnn":
            arrays = torch_layout.load("rnn")[case]
            model = torch_layout.rnn_config(case).build("token-classification", dtype)
            width = arrays["output"].shape[-1]
            head = {"kernel": np.eye(width), "bias": np.zeros(width)}
            params = torch_layout.rnn_params(arrays, "weight") | {"head": head}
            mask = (np.arange(arrays["x"].shape[1]) < arrays["lengths"][:, None]).astype(np.int32)
            first = torch_layout.rnn_state(arrays, "first", case)
            apply = functools.partial(model.apply, cache=_float32(first))
            given = (np.float32(arrays["x"]), mask)
        else:
            arrays = torch_layout.load("transformer")["base"]
            model = torch_layout.TRANSFORMER.build("translation", dtype)
            params = torch_layout.transformer_params(arrays, "weight")
            names = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
            given, apply = tuple(arrays[name] for name in names), model.apply
            mask = arrays["decoder_attention_mask"]
        output = jax.jit(apply)({"params": _float32(params)}, *given)
        output = output[0] if isinstance(output, tuple) else output
        found[dtype] = _error(arrays["output"], output, mask)
    return family, found


def _float32(tree: Any) -> Any:
    return jax.tree.map(jnp.float32, tree)


def family_of(name: str) -> str:
    """The architecture of a model, from its config alone."""
    if name.startswith("torch/"):
        return name.removeprefix("torch/").split()[0]
    read = golden_images.read if name in golden_images.MODELS else golden_models.read
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "config.json").write_text(json.dumps(read(name)[0]))
        with golden_images.smaller():
            return registry.family(read_saved(Path(place)).cfg)


def record(families: Collection[str] = ()) -> None:
    """Keeps the largest errors by architecture and reference, of these architectures or of all."""
    found: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for name in models():
        if not families or family_of(name) in families:
            family, reference, values = errors(name)
            print(name, family, values, flush=True)
            found[family][reference].append(values)
    kept = json.loads(PARITY.read_text(encoding="utf-8")) if families else {}
    for family, references in found.items():
        kept[family] = [
            {"reference": reference, "models": len(rows)}
            | {dtype: float(f"{max(row[dtype] for row in rows):.1e}") for dtype in DTYPES}
            for reference, rows in sorted(references.items())
        ]
    kept = dict(sorted(kept.items()))
    PARITY.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax.config.update("jax_disable_most_optimizations", True)  # as the tests do, in half the time
    record(sys.argv[1:])
