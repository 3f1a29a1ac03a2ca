"""Tiny models of images of timm and transformers with their outputs, frozen: the suite needs no
torch.

`python tests/golden_images.py [NAME...]` (extra `parity`) writes them anew, each to its own file;
look at what changed. Names of timm's begin with `timm/`, then follow its architecture and what
tells several of them apart.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "golden" / "images"
RESNET = dict(depths=[1, 2], hidden_sizes=[8, 12], embedding_size=6, num_channels=2)
STAGES = dict(layers=(1, 1, 1, 1), channels=(4, 3, 5, 6), in_chans=1)
VIT = dict(img_size=(19, 26), patch_size=(9, 13), embed_dim=6, depth=1, num_heads=2, in_chans=1)
MODELS: dict[str, dict[str, Any]] = {
    "ResNetModel": RESNET | {"layer_type": "basic"},
    "ResNetForImageClassification": RESNET | {"num_labels": 3, "downsample_in_bottleneck": True},
    "timm/resnet18": STAGES | {"num_classes": 3},
    "timm/resnet50 features": STAGES | {"num_classes": 0, "global_pool": "catavgmax"},
    "timm/resnext50_32x4d": STAGES | {"num_classes": 2, "cardinality": 2, "base_width": 32},
    "timm/vit_tiny_patch16_224": VIT | {"num_classes": 3, "mlp_ratio": 1.5},
    "timm/vit_base_patch32_224 mean": VIT | {"num_classes": 0, "global_pool": "avg"},
    "timm/deit_tiny_distilled_patch16_224": VIT | {"num_classes": 3, "qkv_bias": False},
    "timm/densenet121": dict(growth_rate=2, block_config=(2, 1), bn_size=2, in_chans=1,
                             num_classes=3),
    "timm/vgg11_bn": dict(mlp_ratio=0.0005, in_chans=1, num_classes=3),
    "timm/inception_v3": dict(in_chans=1, num_classes=3),
}  # fmt: skip
SIZE = (2, 19, 26)
"""Images, their height and width."""
LARGE = {"timm/vgg11_bn": (2, 33, 47), "timm/inception_v3": (2, 75, 90)}
"""Images of models that cannot be made small: their tensors are drawn and not kept."""


def file_of(name):
    return FOLDER / f"{name.replace('/', '_').replace(' ', '_')}.npz"


def draw(shapes):
    """Tensors from names and shapes alone."""
    rng, tensors = np.random.default_rng(0), {}
    for name, shape in sorted(shapes.items()):
        noise = rng.standard_normal(shape, np.float32)
        if len(shape) > 1:
            noise *= np.float32(math.sqrt(2 / math.prod(shape[1:])))
        elif name.endswith("running_var"):
            noise = 0.5 + noise**2
        elif name.endswith(".weight"):
            noise = 1 + 0.1 * noise
        tensors[name] = np.asarray(noise, np.float32) if shape else np.zeros((), np.int64)
    return tensors


def write(names):
    """Builds models, runs each once and keeps config, tensors, images and outputs."""
    import tempfile

    import torch
    from safetensors.numpy import load_file

    sys.path.insert(0, str(Path(__file__).parent / "parity"))
    import pictures
    import transformers

    for name in names:
        fields, rng = MODELS[name], np.random.default_rng(0)
        torch.manual_seed(0)
        library, _, rest = name.rpartition("/")
        if library:
            theirs = pictures.timm.create_model(rest.split()[0], **fields)
            channels = fields.get("in_chans", 3)
        else:
            made = getattr(transformers, rest)
            theirs = made(made.config_class(**fields))
            channels = fields.get("num_channels", 3)
        image = rng.normal(size=(*LARGE.get(name, SIZE), channels)).astype(np.float32)
        pictures.shake(theirs)
        shapes = {key: list(tensor.shape) for key, tensor in theirs.state_dict().items()}
        if name in LARGE:
            drawn = {key: torch.tensor(value) for key, value in draw(shapes).items()}
            theirs.load_state_dict(drawn)
        (output,) = pictures.run(theirs, image)
        with tempfile.TemporaryDirectory() as place:
            folder = pictures.save(theirs, Path(place))
            config = json.loads((folder / "config.json").read_text())
            tensors = load_file(folder / "model.safetensors")
        kept = {"config": json.dumps(config, sort_keys=True), "image": image, "output": output}
        if name in LARGE:
            kept["shapes"] = json.dumps(shapes)
        else:
            kept |= {f"tensor/{key}": value for key, value in tensors.items()}
        FOLDER.mkdir(exist_ok=True)
        np.savez_compressed(file_of(name), **{key: np.asarray(v) for key, v in kept.items()})


def read(name):
    """Config, image, tensors and output of a frozen model."""
    with np.load(file_of(name)) as kept:
        mine = dict(kept)
    tensors = {
        key.removeprefix("tensor/"): value
        for key, value in mine.items()
        if key.startswith("tensor/")
    }
    if "shapes" in mine:
        tensors = draw(json.loads(str(mine["shapes"])))
    return json.loads(str(mine["config"])), mine["image"], tensors, mine["output"]


if __name__ == "__main__":
    write(sys.argv[1:] or MODELS)
