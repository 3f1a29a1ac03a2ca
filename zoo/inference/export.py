"""A trained run as a folder that the reference library opens, with its tokenizer or its image
processor."""

import dataclasses
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from zoo.data.processor_changes import translated
from zoo.errors import InputError
from zoo.pretrained import save_pretrained
from zoo.runs import TOKENIZER, OpenedRun
from zoo.surgery.lora import Adapted, merge
from zoo.tasks import Classification, Multilabel, Regression
from zoo.training.receipt import write_json

PROBLEMS = {
    Classification: "single_label_classification",
    Multilabel: "multi_label_classification",
    Regression: "regression",
}
"""Their names of our tasks, for models of text classification."""


def convert(opened: OpenedRun, directory: Path, format: str = "transformers") -> None:
    """Writes config.json, model.safetensors, and the tokenizer's files or how pictures are
    prepared; adapters are merged. A warning tells where the library has no such processor.

    The folder names the classes as the data do. A regression's outputs are in the units of the
    data, so their mean and deviation become part of the last layer.

    Args:
        opened: a run folder, opened.
        directory: made where it does not exist.
        format: the library that is to open it, `transformers` or `timm`.

    Raises:
        InputError: a model or head that the library does not have, or the folder of a run.
    """
    if (directory / "checkpoints").exists():
        raise InputError(f"{directory} is a run folder; choose another one for the conversion")
    if isinstance(opened.module, Adapted):
        module, variables = merge(opened.module, opened.variables)
        opened = dataclasses.replace(opened, module=module, variables=variables)
    cfg, task, names = opened.module.cfg, opened.task, opened.info.class_names
    if names and hasattr(cfg, "labels") and len(names) == cfg.num_classes:
        cfg = dataclasses.replace(cfg, labels=names)
    params = opened.variables["params"]
    if isinstance(task, Regression):
        params = _in_units(params, task)
    module = cfg.build(opened.module.task, opened.module.dtype, opened.module.param_dtype)
    save_pretrained(directory, module, opened.variables | {"params": params}, format)
    kind = next((name for of, name in PROBLEMS.items() if isinstance(task, of)), None)
    if kind and module.task == "text-classification":
        path = directory / "config.json"
        write_json(path, json.loads(path.read_text()) | {"problem_type": kind})
    if (opened.folder / TOKENIZER).is_dir():
        for path in (opened.folder / TOKENIZER).iterdir():
            if path.name != "config.json":
                shutil.copyfile(path, directory / path.name)
    if hasattr(opened.run.data, "image_processor"):
        made = opened.run.data.image_processor(opened.info)
        if processor := translated(made, format):
            processor.save(directory)
        else:
            warnings.warn(
                f"{format} has no processor that prepares pictures as {made.name} of this run "
                "does; none is written",
                stacklevel=2,
            )


def _in_units(params: Any, task: Regression) -> Any:
    """The parameters with the last layer's outputs in the units of the data."""
    flat: dict[str, Any] = flatten_dict(params, sep="/")
    width = (len(task.label_std),)
    last = [
        path.removesuffix("/kernel")
        for path, leaf in flat.items()
        if path.startswith("head/") and path.endswith("/kernel") and leaf.shape[-1:] == width
    ]
    if len(last) != 1 or f"{last[0]}/bias" not in flat:
        raise InputError("a head without bias cannot hold the mean of the data's numbers")
    mean, std = (np.asarray(x, np.float64) for x in (task.label_mean, task.label_std))
    kernel, bias = (np.asarray(flat[f"{last[0]}/{name}"]) for name in ("kernel", "bias"))
    flat[f"{last[0]}/kernel"] = (kernel * std).astype(kernel.dtype)
    flat[f"{last[0]}/bias"] = (bias * std + mean).astype(bias.dtype)
    return unflatten_dict(flat, sep="/")
