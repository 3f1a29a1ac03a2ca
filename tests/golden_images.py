"""Tiny models of images of timm and transformers with their outputs, frozen: the suite needs no
torch.

`python tests/golden_images.py [NAME...]` (extra `parity`) writes them anew, each to its own file;
look at what changed. Names of timm's begin with `timm/`, then follow its architecture and what
tells several of them apart. Some families have many tensors, or no small models in timm: of those
in `DRAWN` only names and shapes are kept, and the numbers are drawn anew from the names.
"""

import contextlib
import json
import sys
import unittest.mock
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from zoo.models import gmlp, mlp_mixer, registry, resmlp
from zoo.weights import timm

FOLDER = Path(__file__).parent / "golden" / "images"
RESNET = dict(depths=[1, 2], hidden_sizes=[8, 12], embedding_size=6, num_channels=2)
STAGES = dict(layers=(1, 1, 1, 1), channels=(4, 3, 5, 6), in_chans=1)
CONVNEXT = dict(depths=[1, 1, 1, 1], act_layer="gelu_tanh", in_chans=1)
SWIN = dict(embed_dim=4, depths=[2, 1], num_heads=[1, 2], mlp_ratio=1.5)
VIT = dict(img_size=(19, 26), patch_size=(9, 13), embed_dim=6, depth=1, num_heads=2, in_chans=1)
MIXER = dict(img_size=(19, 26), in_chans=1)
MODELS: dict[str, dict[str, Any]] = {
    "ResNetModel": RESNET | {"layer_type": "basic"},
    "ResNetForImageClassification": RESNET | {"num_labels": 3, "downsample_in_bottleneck": True},
    "timm/resnet18": STAGES | {"num_classes": 3},
    "timm/resnet50 features": STAGES | {"num_classes": 0, "global_pool": "catavgmax"},
    "timm/resnext50_32x4d": STAGES | {"num_classes": 2, "cardinality": 2, "base_width": 32},
    "ConvNextForImageClassification": dict(
        depths=[1, 2],
        num_stages=2,
        hidden_sizes=[4, 5],
        num_channels=2,
        num_labels=3,
    ),
    "timm/convnext_tiny": CONVNEXT | {"dims": (3, 4, 5, 6), "patch_size": 1, "num_classes": 3},
    "SwinForImageClassification": SWIN
    | dict(
        image_size=24,
        patch_size=3,
        window_size=3,
        num_channels=2,
        num_labels=3,
    ),
    "timm/swin_tiny_patch4_window7_224": SWIN
    | dict(
        img_size=(19, 26),
        patch_size=2,
        window_size=4,
        in_chans=1,
        num_classes=3,
    ),
    "timm/vit_tiny_patch16_224": VIT | {"num_classes": 3, "mlp_ratio": 1.5},
    "timm/vit_base_patch32_224 mean": VIT | {"num_classes": 0, "global_pool": "avg"},
    "timm/deit_tiny_distilled_patch16_224": VIT | {"num_classes": 3, "qkv_bias": False},
    "timm/vit_giant_patch14_dinov2": VIT
    | {"num_classes": 3, "embed_dim": 12, "num_heads": 3, "init_values": 0.1},
    "timm/mixer_s16_224": MIXER | {"num_classes": 3, "mlp_ratio": (1.5, 2.4)},
    "timm/gmlp_s16_224 every patch": MIXER | {"num_classes": 2, "global_pool": ""},
    "timm/resmlp_12_224 features": MIXER | {"num_classes": 0},
    "timm/densenet121": dict(growth_rate=2, block_config=(2, 1), bn_size=2, in_chans=1,
                             num_classes=3),
}  # fmt: skip
DRAWN: dict[str, dict[str, Any]] = {
    "MobileNetV2ForImageClassification": dict(
        depth_multiplier=0.05, depth_divisible_by=1, min_depth=1, expand_ratio=1.5, num_labels=3,
        finegrained_output=False, num_channels=2),
    "EfficientNetForImageClassification": dict(
        width_coefficient=0.05, depth_coefficient=0.5, depth_divisor=1, hidden_dim=64,
        num_channels=2, kernel_sizes=[3, 5], in_channels=[32, 60], out_channels=[60, 110],
        strides=[1, 2], num_block_repeats=[1, 4], expand_ratios=[1, 2], num_labels=3),
    "timm/mobilenetv2_035": dict(num_classes=3, in_chans=2),
    "timm/mobilenetv3_small_050": dict(num_classes=3, in_chans=2),
    "timm/tf_efficientnet_b0": dict(num_classes=3, in_chans=2),
    "timm/vgg11_bn": dict(mlp_ratio=0.0005, in_chans=1, num_classes=3),
    "timm/inception_v3": dict(in_chans=1, num_classes=3),
}  # fmt: skip
MODELS |= DRAWN
SLOW = ("timm/mobilenetv3_small_050", "timm/tf_efficientnet_b0", "timm/inception_v3")
"""To compile."""
SMALLER = {
    "mixer_s16_224": mlp_mixer.Config(patch_size=(9, 13), width=6, depth=2),
    "gmlp_s16_224": gmlp.Config(patch_size=(9, 13), width=6, depth=2),
    "resmlp_12_224": resmlp.Config(patch_size=(9, 13), width=6, depth=2),
}
"""What architectures stand for here whose sizes are no arguments of timm's."""
SIZE = (2, 19, 26)
"""Images, their height and width."""
SIZES = {"timm/vgg11_bn": (2, 33, 47), "timm/inception_v3": (2, 75, 90)}
"""Of those that take no smaller ones."""


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


def draw(name, shape):
    """The numbers of a tensor of a model in `DRAWN`."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    values = np.random.default_rng(zlib.crc32(name.encode())).random(shape)
    if len(shape) > 1:
        values = (values - 0.5) * np.sqrt(18.0 / np.prod(shape[1:]))
    else:
        values = values - 0.5 if name.endswith(("bias", "mean")) else values + 0.5
    return values.astype(np.float32)


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
        pictures.shake(theirs)
        if name in DRAWN:
            shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
            theirs.load_state_dict({key: torch.tensor(draw(key, shapes[key])) for key in shapes})
        image = rng.normal(size=(*SIZES.get(name, SIZE), channels)).astype(np.float32)
        (output,) = pictures.run(theirs, image)
        with tempfile.TemporaryDirectory() as place:
            folder = pictures.save(theirs, Path(place))
            config = json.loads((folder / "config.json").read_text())
            tensors = load_file(folder / "model.safetensors")
        kept = {"config": json.dumps(config, sort_keys=True), "image": image, "output": output}
        if name in DRAWN:
            shapes = {key: value.shape for key, value in tensors.items()}
            kept["drawn"] = json.dumps(shapes, sort_keys=True)
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
    if "drawn" in mine:
        shapes = json.loads(str(mine["drawn"]))
        tensors = {key: draw(key, tuple(shape)) for key, shape in shapes.items()}
    return json.loads(str(mine["config"])), mine["image"], tensors, mine["output"]


if __name__ == "__main__":
    write(sys.argv[1:] or MODELS)
