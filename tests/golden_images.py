"""Tiny models of images of timm and transformers with their outputs, frozen: the suite needs no
torch.

`python tests/golden_images.py [NAME...]` (extra `parity`) writes them anew, each to its own file;
look at what changed. Names of timm's begin with `timm/`, then follow its architecture and what
tells several of them apart.
"""

import contextlib
import json
import sys
import unittest.mock
from pathlib import Path

import numpy as np

from zoo.models import gmlp, mlp_mixer, registry, resmlp
from zoo.weights import timm

FOLDER = Path(__file__).parent / "golden" / "images"
RESNET = dict(depths=[1, 2], hidden_sizes=[8, 12], embedding_size=6, num_channels=2)
STAGES = dict(layers=(1, 1, 1, 1), channels=(4, 3, 5, 6), in_chans=1)
VIT = dict(img_size=(19, 26), patch_size=(9, 13), embed_dim=6, depth=1, num_heads=2, in_chans=1)
MIXER = dict(img_size=(19, 26), in_chans=1)
MODELS = {
    "ResNetModel": RESNET | {"layer_type": "basic"},
    "ResNetForImageClassification": RESNET | {"num_labels": 3, "downsample_in_bottleneck": True},
    "timm/resnet18": STAGES | {"num_classes": 3},
    "timm/resnet50 features": STAGES | {"num_classes": 0, "global_pool": "catavgmax"},
    "timm/resnext50_32x4d": STAGES | {"num_classes": 2, "cardinality": 2, "base_width": 32},
    "timm/vit_tiny_patch16_224": VIT | {"num_classes": 3, "mlp_ratio": 1.5},
    "timm/vit_base_patch32_224 mean": VIT | {"num_classes": 0, "global_pool": "avg"},
    "timm/deit_tiny_distilled_patch16_224": VIT | {"num_classes": 3, "qkv_bias": False},
    "timm/mixer_s16_224": MIXER | {"num_classes": 3, "mlp_ratio": (1.5, 2.4)},
    "timm/gmlp_s16_224 every patch": MIXER | {"num_classes": 2, "global_pool": ""},
    "timm/resmlp_12_224 features": MIXER | {"num_classes": 0},
}
SMALLER = {
    "mixer_s16_224": mlp_mixer.Config(patch_size=(9, 13), width=6, depth=2),
    "gmlp_s16_224": gmlp.Config(patch_size=(9, 13), width=6, depth=2),
    "resmlp_12_224": resmlp.Config(patch_size=(9, 13), width=6, depth=2),
}
"""What architectures stand for here whose sizes are no arguments of timm's."""
SIZE = (2, 19, 26)
"""Images, their height and width."""


@contextlib.contextmanager
def smaller(configs=SMALLER):
    """Our tables while architectures stand for those Configs."""
    with contextlib.ExitStack() as stack:
        for name, cfg in configs.items():
            table = timm.families()[registry.family(cfg)].ARCHITECTURES
            stack.enter_context(unittest.mock.patch.dict(table, {name: cfg}))
        yield


def file_of(name):
    return FOLDER / f"{name.replace('/', '_').replace(' ', '_')}.npz"


def write(names):
    """Builds models, runs each once and keeps config, tensors, images and outputs."""
    import tempfile

    import torch
    from safetensors.numpy import load_file

    sys.path.insert(0, str(Path(__file__).parent / "parity"))
    import mixers
    import pictures
    import transformers

    for name in names:
        fields, rng = MODELS[name], np.random.default_rng(0)
        torch.manual_seed(0)
        library, _, rest = name.rpartition("/")
        if library:
            architecture = rest.split()[0]
            with mixers.smaller(architecture, SMALLER.get(architecture)):
                theirs = pictures.timm.create_model(architecture, **fields)
            channels = fields.get("in_chans", 3)
        else:
            made = getattr(transformers, rest)
            theirs = made(made.config_class(**fields))
            channels = fields.get("num_channels", 3)
        image = rng.normal(size=(*SIZE, channels)).astype(np.float32)
        (output,) = pictures.run(pictures.shake(theirs), image)
        with tempfile.TemporaryDirectory() as place:
            folder = pictures.save(theirs, Path(place))
            config = json.loads((folder / "config.json").read_text())
            tensors = load_file(folder / "model.safetensors")
        kept = {"config": json.dumps(config, sort_keys=True), "image": image, "output": output}
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
    return json.loads(str(mine["config"])), mine["image"], tensors, mine["output"]


if __name__ == "__main__":
    write(sys.argv[1:] or MODELS)
