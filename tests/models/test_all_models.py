"""What holds for every model, in one table. A new model file needs a row here.

The names and shapes of all parameters of every published size are in ``tests/golden/names``. A
change there breaks checkpoints; a wanted one is written by: python tests/models/test_all_models.py
"""

import dataclasses
import functools
import pkgutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
import zoo.models
from zoo.errors import InputError
from zoo.models import (
    albert,
    bert,
    clip,
    cnn,
    convnext,
    deit,
    densenet,
    dinov2,
    distilbert,
    efficientnet,
    electra,
    gemma,
    gmlp,
    gpt,
    gpt2,
    gpt_neox,
    inception_v3,
    llama,
    mixtral,
    mlp,
    mlp_mixer,
    mobilenet_v2,
    mobilenet_v3,
    modernbert,
    opt,
    registry,
    resmlp,
    resnet,
    rnn,
    roberta,
    swin,
    transformer,
    vgg,
    vit,
)
from zoo.weights import loading

GOLDEN = Path(__file__).parents[1] / "golden" / "names"
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Row:
    """A small model of each kind that a file can build."""

    config: Any
    output: tuple[int, ...]
    """Shape of the output for a batch of two."""
    task: str | None = None
    no_gradient: tuple[str, ...] = ()
    """Endings of parameters whose gradient is zero up to rounding, for the reason given there."""
    sharpen: float = 1.0
    """What kernels are multiplied by before gradients are taken. Kernels that start at 0.02 make
    the attention of so narrow a model the same for all keys to 1e-7, and hide its gradient."""
    slow: bool = False
    """Whether so many layers take seconds to compile: their gradients are left to full runs."""


CLIP = clip.Config(
    image_size=(4, 6), patch_size=2, vision_width=8, vision_depth=1, vision_num_heads=2,
    vision_hidden=12, vision_attention_dropout=0.1, vocab_size=5, max_length=16, text_width=6,
    text_depth=1, text_num_heads=2, text_hidden=10, projection_width=5, num_classes=3,
)  # fmt: skip
TABLE = {
    "mlp": Row(mlp.Config(input_shape=(4, 3), widths=(8, 5), num_classes=3), (2, 3)),
    "mlp dropout": Row(
        mlp.Config(input_shape=(6,), widths=(16,), activation="gelu", dropout=0.2, num_classes=1),
        (2, 1),
        task="tabular-regression",
    ),
    "cnn": Row(
        cnn.Config(
            ("conv 6 3 padding=1 bias=0", "batch_norm", "tanh", "max_pool 2", "conv 8 1", "silu",
             "avg_pool 3 stride=2 padding=1", "adaptive_avg_pool 2", "dropout 0.25", "dense 8",
             "gelu"),
            num_classes=4,
            image_size=8,
            channels=2,
        ),
        (2, 4),
    ),
    "convnext": Row(
        convnext.Config((1, 1), (6, 8), kernel_size=3, layer_scale=0.5, drop_path=0.1, dropout=0.1,
                        num_classes=3, in_chans=2, image_size=17),
        (2, 3), slow=True,
    ),
    "convnext features without scales": Row(
        convnext.Config((1,), (6,), patch_size=2, kernel_size=3, activation="silu", layer_scale=0.0,
                        response_norm=True, final_epsilon=1e-3, num_classes=0, global_pool="",
                        image_size=7),
        (2, 3, 3, 6),
    ),
    "resnet": Row(
        resnet.Config("basic", (1, 2), (6, 9), stem_width=6, num_classes=3, in_chans=2,
                      image_size=17, drop_path=0.1),
        (2, 3),
    ),
    "resnet bottlenecks": Row(
        resnet.Config(depths=(1, 1), widths=(16, 24), stem_width=5, groups=2, group_width=32,
                      activation="gelu", stride_in_1x1=True, stride_in_first_stage=True,
                      global_pool="catavgmax", dropout=0.1, num_classes=3, image_size=40),
        (2, 3),
    ),
    "resnet features": Row(
        resnet.Config(depths=(1, 1), widths=(16, 20), stem_width=5, num_classes=0, image_size=20),
        (2, 20),
    ),
    "resnet folded": Row(
        resnet.Config("basic", (1,), (6,), stem_width=6, num_classes=3, image_size=12,
                      folded=True),
        (2, 3),
    ),
    "densenet": Row(
        densenet.Config(growth=3, depths=(1, 2), bottleneck=2, activation="gelu",
                        global_pool="catavgmax", dropout=0.1, layer_dropout=0.1, num_classes=3,
                        in_chans=2, image_size=17),
        (2, 3), slow=True,
    ),
    "inception_v3": Row(
        inception_v3.Config((32,), (64,), 1, divisor=16, activation="gelu", dropout=0.1,
                            num_classes=3, image_size=107),
        (2, 3), slow=True,
    ),
    "rnn last state": Row(
        rnn.Config(cell="gru", features=3, hidden=(6, 5), bidirectional=True, dropout=0.1,
                   num_classes=2, length=4),
        (2, 2),
        task="tabular-classification",
    ),
    "rnn language model": Row(
        rnn.Config(cell="lstm", vocab_size=7, embedding=6, hidden=(6,), tied=True, length=16),
        (2, 16, 7),
        task="text-generation",
    ),
    "swin": Row(
        swin.Config((10, 12), 2, 2, 8, (2,), (2,), 4, num_classes=3, dropout=0.1,
                    attention_dropout=0.1, drop_path=0.1, head_dropout=0.1),
        (2, 3), slow=True,
        no_gradient=("key/bias",), sharpen=20.0,
    ),
    "swin features as transformers": Row(
        swin.Config(19, 2, 3, 8, (1, 2), (2, 4), (3, 3), qkv_bias=False, as_transformers=True,
                    num_classes=0, global_pool=""),
        (2, 5, 5, 16), sharpen=20.0,
    ),
    "transformer": Row(
        transformer.Config(vocab_size=5, width=8, depth=1, num_heads=2, hidden=16, max_length=16),
        (2, 16, 5),
        no_gradient=("key/bias",),  # the same for every key, which softmax takes away
    ),
    "transformer encoder": Row(
        transformer.Config(vocab_size=5, width=8, depth=1, num_heads=2, hidden=16, num_classes=3,
                           max_length=16),
        (2, 3),
        task="text-classification",
        no_gradient=("key/bias",),
    ),
    "vgg": Row(
        vgg.Config((1, 2), (5, 6), hidden=7, features=8, num_classes=3, in_chans=2, image_size=33),
        (2, 3),
    ),
    "vgg norms of small images": Row(
        vgg.Config((1, 1), (5, 6), norm=True, hidden=7, features=8, activation="gelu",
                   global_pool="max", dropout=0.1, num_classes=3, image_size=12),
        (2, 3),
        no_gradient=("conv/bias",),  # which the norm takes away again
    ),
    "mobilenet_v2": Row(
        mobilenet_v2.Config((1, 2), (6, 8), (1, 2), expansion=1.5, divisor=4, stem_width=5,
                            features=9, dropout=0.1, drop_path=0.1, num_classes=3, in_chans=2,
                            image_size=17),
        (2, 3), slow=True,
        no_gradient=("project/norm/bias",),  # which the norm behind the next 1x1 takes away
    ),
    "mobilenet_v3": Row(
        mobilenet_v3.Config((1, 2), (3, 5, 3), (6, 9, 10), (6, 8, 8), (True, False, True),
                            (False, True, True), (1, 2, 1), stem_width=6, last_width=9,
                            features=10, dropout=0.1, num_classes=3, in_chans=2, image_size=17),
        (2, 3), slow=True,
        no_gradient=("project/norm/bias",),  # which the norm behind the next 1x1 takes away
    ),
    "efficientnet": Row(
        efficientnet.Config((1, 2), (6, 8), (3, 5), (1, 2), (1, 2), stem_width=5, features=9,
                            padding="ahead", symmetric_blocks=(1,), block_dropout=0.1,
                            num_classes=3, in_chans=2, image_size=18),
        (2, 3), slow=True,
        no_gradient=("block0/project/norm/bias",),  # but of blocks left out at times
    ),
    **{
        f"bert {task}": Row(
            bert.Config(vocab_size=5, width=8, depth=1, num_heads=2, hidden=16, max_length=16,
                        token_types=4, num_classes=3),
            shape, task=task, no_gradient=("key/bias",), sharpen=20.0,
        )
        for task, shape in {
            "fill-mask": (2, 16, 5), "text-classification": (2, 3), "multiple-choice": (2,),
            "token-classification": (2, 16, 3), "question-answering": (2, 16, 2),
            "next-sentence-prediction": (2, 2),
        }.items()
    },
    **{
        f"modernbert {task}": Row(
            modernbert.Config(vocab_size=5, width=8, depth=2, num_heads=2, hidden=12, window=2,
                              max_length=16, num_classes=3, head_bias=True, pooling="mean"),
            shape, task=task, sharpen=20.0,
        )
        for task, shape in {
            "feature-extraction": (2, 16, 8), "fill-mask": (2, 16, 5),
            "text-classification": (2, 3), "token-classification": (2, 16, 3),
            "question-answering": (2, 16, 2), "multiple-choice": (2,),
        }.items()
    },
    "modernbert biases untied": Row(
        modernbert.Config(vocab_size=5, width=8, depth=2, num_heads=2, hidden=12, window=3,
                          max_length=16, norm_bias=True, attention_bias=True, mlp_bias=True,
                          tied=False, activation="silu", head_activation="tanh",
                          global_layers=(1,), embed_dropout=0.1, attention_dropout=0.1,
                          mlp_dropout=0.1),
        (2, 16, 5),
        task="fill-mask", sharpen=20.0,
    ),
    **{
        f"roberta {task}": Row(
            roberta.Config(vocab_size=5, width=8, depth=1, num_heads=2, hidden=16, max_length=16,
                           token_types=2, num_classes=3),
            shape, task=task, no_gradient=("key/bias",), sharpen=20.0,
        )
        for task, shape in {"fill-mask": (2, 16, 5), "text-classification": (2, 3)}.items()
    },
    **{
        f"distilbert {task}": Row(
            distilbert.Config(vocab_size=5, width=8, depth=1, num_heads=2, hidden=16,
                              max_length=16, num_classes=3),
            shape, task=task, no_gradient=("key/bias",), sharpen=20.0,
        )
        for task, shape in {
            "text-classification": (2, 3), "question-answering": (2, 16, 2),
        }.items()
    },
    **{
        f"electra {task}": Row(
            electra.Config(vocab_size=5, embedding=6, width=8, depth=1, num_heads=2, hidden=16,
                           max_length=16, token_types=4, num_classes=3),
            shape, task=task, no_gradient=("key/bias",), sharpen=20.0,
        )
        for task, shape in {
            "fill-mask": (2, 16, 5), "replaced-token-detection": (2, 16), "multiple-choice": (2,),
        }.items()
    },
    "albert": Row(
        albert.Config(vocab_size=5, embedding=6, width=8, depth=2, num_heads=2, hidden=16,
                      max_length=16, token_types=4, dropout=0.1, num_classes=3),
        (2, 3),
        task="text-classification",
        no_gradient=("key/bias",),
        sharpen=20.0,
    ),
    "gemma": Row(
        gemma.Config(vocab_size=5, width=10, depth=1, num_heads=4, num_kv_heads=2, head_dim=6,
                     hidden=12, max_length=16, attention_bias=True),
        (2, 16, 5),
    ),
    "gemma 2": Row(
        gemma.Config(vocab_size=5, width=10, depth=2, num_heads=2, num_kv_heads=1, head_dim=4,
                     hidden=12, max_length=16, window=3, global_layers=(1,), post_norm=True,
                     score_cap=5.0, logit_cap=3.0, dropout=0.1),
        (2, 16, 5),
    ),
    "gemma 3 hidden states": Row(
        gemma.Config(vocab_size=5, width=10, depth=1, num_heads=2, num_kv_heads=2, head_dim=4,
                     hidden=12, max_length=16, post_norm=True, qk_norm=True, window=3),
        (2, 16, 10),
        task="feature-extraction",
    ),
    "gemma classes": Row(
        gemma.Config(vocab_size=5, width=10, depth=1, num_heads=2, num_kv_heads=2, head_dim=4,
                     hidden=12, max_length=16, num_classes=3),
        (2, 3),
        task="text-classification",
    ),
    "llama": Row(
        llama.Config(vocab_size=5, width=10, depth=2, num_heads=4, num_kv_heads=2, head_dim=6,
                     hidden=12, max_length=16),
        (2, 16, 5),
    ),
    "llama window biases tied": Row(
        llama.Config(vocab_size=5, width=10, depth=2, num_heads=2, num_kv_heads=1, head_dim=4,
                     hidden=12, max_length=16, window=3, full_layers=(0,), qkv_bias=True,
                     out_bias=True, mlp_bias=True, tied=True, dropout=0.1),
        (2, 16, 5),
    ),
    "llama norms hidden states": Row(
        llama.Config(vocab_size=5, width=10, depth=1, num_heads=2, num_kv_heads=2, head_dim=4,
                     hidden=12, max_length=16, qk_norm=True),
        (2, 16, 10),
        task="feature-extraction",
    ),
    "llama classes": Row(
        llama.Config(vocab_size=5, width=10, depth=1, num_heads=2, num_kv_heads=2, head_dim=4,
                     hidden=12, max_length=16, num_classes=3),
        (2, 3),
        task="text-classification",
    ),
    "gpt": Row(
        gpt.Config(vocab_size=5, width=8, depth=2, num_heads=2, max_length=16),
        (2, 16, 5),
        no_gradient=("key/bias",), sharpen=20.0,
    ),
    "gpt untied": Row(
        gpt.Config(vocab_size=5, width=8, depth=1, num_heads=4, activation="silu", max_length=16,
                   tied=False),
        (2, 16, 5),
        no_gradient=("key/bias",), sharpen=20.0,
    ),
    "gpt features": Row(
        gpt.Config(vocab_size=5, width=8, depth=1, num_heads=2, max_length=16),
        (2, 16, 8), task="feature-extraction", no_gradient=("key/bias",), sharpen=20.0,
    ),
    "gpt classes": Row(
        gpt.Config(vocab_size=5, width=8, depth=1, num_heads=2, max_length=16, num_classes=3),
        (2, 3), task="text-classification", no_gradient=("key/bias",), sharpen=20.0,
    ),
    "gpt2": Row(
        gpt2.Config(vocab_size=5, width=8, depth=2, num_heads=2, max_length=16),
        (2, 16, 5),
        no_gradient=("key/bias",),
    ),
    "gpt2 untied": Row(
        gpt2.Config(vocab_size=5, width=8, depth=2, num_heads=2, hidden=12, activation="silu",
                    max_length=16, tied=False, scale_by_width=False, scale_by_depth=True),
        (2, 16, 5),
        no_gradient=("key/bias",),
    ),
    "gpt2 features": Row(
        gpt2.Config(vocab_size=5, width=8, depth=1, num_heads=2, max_length=16),
        (2, 16, 8),
        task="feature-extraction",
        no_gradient=("key/bias",),
    ),
    "gpt2 classes": Row(
        gpt2.Config(vocab_size=5, width=8, depth=1, num_heads=2, max_length=16, num_classes=3),
        (2, 3),
        task="text-classification",
        no_gradient=("key/bias",),
    ),
    "gpt_neox": Row(
        gpt_neox.Config(vocab_size=5, width=8, depth=2, num_heads=2, hidden=12, max_length=16),
        (2, 16, 5),
    ),
    "gpt_neox one after the other": Row(
        gpt_neox.Config(vocab_size=5, width=12, depth=1, num_heads=2, hidden=8, max_length=16,
                        parallel=False, attention_bias=False, tied=True, rotary_part=1.0,
                        rope_scaling="linear factor=2", dropout=0.1, attention_dropout=0.1),
        (2, 16, 5),
    ),
    "gpt_neox classes": Row(
        gpt_neox.Config(vocab_size=5, width=8, depth=1, num_heads=2, hidden=12, max_length=16,
                        rotary_part=0.0, num_classes=3),
        (2, 3),
        task="text-classification",
        no_gradient=("key/bias",),
    ),
    "opt": Row(
        opt.Config(vocab_size=5, width=8, embed_width=8, depth=2, num_heads=2, hidden=12,
                   max_length=16),
        (2, 16, 5),
        no_gradient=("key/bias",),
    ),
    "opt hidden states, bare": Row(
        opt.Config(vocab_size=5, width=8, embed_width=8, depth=1, num_heads=2, hidden=12,
                   max_length=16, use_bias=False, norm_affine=False),
        (2, 16, 8),
        task="feature-extraction",
    ),
    "opt classes": Row(
        opt.Config(vocab_size=5, width=8, embed_width=10, depth=1, num_heads=2, hidden=12,
                   max_length=16, final_norm=False, num_classes=3),
        (2, 3),
        task="text-classification",
        no_gradient=("key/bias",),
    ),
    "mixtral": Row(
        mixtral.Config(vocab_size=5, width=10, depth=1, num_heads=4, num_kv_heads=2, head_dim=6,
                       hidden=12, num_experts=3, max_length=16),
        (2, 16, 5),
    ),
    "mixtral window tied": Row(
        mixtral.Config(vocab_size=5, width=10, depth=1, num_heads=2, num_kv_heads=1, head_dim=4,
                       hidden=12, num_experts=2, max_length=16, window=3, tied=True,
                       attention_dropout=0.1, router_jitter=0.1),
        (2, 16, 5),
    ),
    "vit": Row(
        vit.Config(image_size=(4, 6), patch_size=2, width=8, depth=2, num_heads=2, hidden=12,
                   num_classes=3, embed_dropout=0.1, dropout=0.1, attention_dropout=0.1,
                   mlp_dropout=0.1, drop_path=0.1, head_dropout=0.1),
        (2, 3),
        no_gradient=("key/bias",), sharpen=20.0,
    ),
    "vit every token": Row(
        vit.Config(image_size=4, patch_size=(1, 2), width=8, depth=1, num_heads=2, hidden=12,
                   qkv_bias=False, num_classes=3, global_pool=""),
        (2, 9, 3), sharpen=20.0,
    ),
    "vit features of the mean": Row(
        vit.Config(image_size=4, patch_size=2, width=8, depth=1, num_heads=2, hidden=12,
                   num_classes=0, global_pool="avg"),
        (2, 8),
        no_gradient=("key/bias",), sharpen=20.0,
    ),
    "vit tokens": Row(
        vit.Config(image_size=4, patch_size=2, width=8, depth=1, num_heads=2, global_pool=""),
        (2, 5, 8), task="feature-extraction",
        no_gradient=("key/bias",), sharpen=20.0,
    ),
    "deit": Row(
        deit.Config(image_size=(4, 6), patch_size=2, width=8, depth=1, num_heads=2, hidden=12,
                    num_classes=3, drop_path=0.1, head_dropout=0.1),
        (2, 3),
        no_gradient=("key/bias",), sharpen=20.0,
    ),
    "deit features": Row(
        deit.Config(image_size=4, patch_size=2, width=8, depth=1, num_heads=2, hidden=12,
                    qkv_bias=False),
        (2, 8), task="feature-extraction", sharpen=20.0,
    ),
    "clip": Row(CLIP, (2, 5), "image-feature-extraction", ("key/bias",), sharpen=20.0),
    "clip texts": Row(CLIP, (2, 5), "text-feature-extraction", ("key/bias",), sharpen=20.0),
    "clip classes": Row(CLIP, (2, 3), "image-classification", ("key/bias",), sharpen=20.0),
    "dinov2": Row(
        dinov2.Config(image_size=(4, 6), patch_size=2, width=8, depth=1, num_heads=2, hidden=12,
                      num_classes=3, drop_path=0.1),
        (2, 3), task="image-classification",
        no_gradient=("key/bias", "mask_token"),  # no patch is hidden
        sharpen=20.0,
    ),
    "dinov2 gated": Row(
        dinov2.Config(image_size=4, patch_size=2, width=8, depth=1, num_heads=2, hidden=12,
                      gated=True, mask_token=False, layer_scale=0.5, num_classes=3),
        (2, 3), task="image-classification",
        no_gradient=("key/bias",), sharpen=20.0,
    ),
    "mlp_mixer": Row(
        mlp_mixer.Config(image_size=(4, 6), patch_size=2, width=8, depth=1, hidden=(5, 12),
                         num_classes=3, dropout=0.1, drop_path=0.1, head_dropout=0.1),
        (2, 3),
    ),
    "gmlp": Row(
        gmlp.Config(image_size=(4, 6), patch_size=2, width=8, depth=1, hidden=12, num_classes=3,
                    dropout=0.1, drop_path=0.1, head_dropout=0.1),
        (2, 3), sharpen=20.0,
    ),
    "resmlp": Row(
        resmlp.Config(image_size=(4, 6), patch_size=2, width=8, depth=1, hidden=12,
                      layer_scale=0.5, num_classes=3, dropout=0.1, drop_path=0.1,
                      head_dropout=0.1),
        (2, 3), sharpen=20.0,
    ),
    "mixtral classes": Row(
        mixtral.Config(vocab_size=5, width=10, depth=1, num_heads=2, num_kv_heads=2, head_dim=4,
                       hidden=12, num_experts=3, max_length=16, num_classes=3),
        (2, 3),
        task="text-classification",
    ),
}  # fmt: skip
FIRST = {type(row.config): name for name, row in reversed(TABLE.items())}
ONE_EACH = [
    name
    for name, row in TABLE.items()
    if name == FIRST[type(row.config)] or registry.family(row.config) not in loading.families()
]
"""Of a file whose heads are compared with a reference too, the first row alone: for these, several
programs are compiled."""
ALONE = [name for name in ONE_EACH if registry.family(TABLE[name].config) not in loading.families()]
"""Of files that transformers has none for: gradients of the others are compared with its own, and
cards state their error in bfloat16."""
SIZES = [
    pytest.param(name, marks=[pytest.mark.slow] * (number > 0), id=name)
    for module in registry.families().values()
    for number, name in enumerate(module.SIZES)
]
"""Every size; the first of each file for quick runs."""


def golden(name: str) -> Path:
    return GOLDEN / f"{name.replace('/', '_')}.txt"


@functools.cache
def parameters(name: str) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of a size by its path, sorted; nothing is computed."""
    model = registry.create_model(name)
    inputs = model.cfg.inputs()
    variables = jax.eval_shape(lambda key, inputs: model.init(key, **inputs), KEY, inputs)
    return {
        "/".join(entry.key for entry in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
    }


def describe(name: str) -> str:
    """The text of a golden file."""
    shapes = parameters(name)
    return "".join(f"{path} {'x'.join(map(str, shape))}\n" for path, shape in shapes.items())


def batch_of(config: Any) -> dict[str, Any]:
    """A batch of two: NumPy arrays, as data come."""
    rng, inputs = np.random.default_rng(0), {}
    for key, spec in config.inputs(batch=2).items():
        if key.endswith("mask"):
            inputs[key] = np.ones(spec.shape, spec.dtype)
        elif np.issubdtype(spec.dtype, np.integer):
            inputs[key] = rng.integers(0, 4, spec.shape, dtype=spec.dtype)
        else:
            inputs[key] = rng.normal(size=spec.shape).astype(spec.dtype)
    return inputs


@functools.cache
def made(row: str) -> tuple[Any, Any, dict[str, Any]]:
    """Model, variables and a batch of two, of a row."""
    model = TABLE[row].config.build(task=TABLE[row].task)
    return model, registry.init(model, KEY), batch_of(TABLE[row].config)


def test_every_model_file_has_a_row():
    files = {module.name for module in pkgutil.iter_modules(zoo.models.__path__)}
    assert files - {"registry"} == set(registry.families())
    assert {registry.family(row.config) for row in TABLE.values()} == set(registry.families())


@pytest.mark.parametrize("name", registry.families())
def test_every_family_keeps_the_contract(name):
    module = registry.families()[name]
    assert module.SIZES and module.TASKS and isinstance(module.TENSOR_PARALLEL, tuple)
    assert registry.config_class(name) is module.Config
    config = next(iter(module.SIZES.values())).config
    assert registry.family(config) == name and hash(config) is not None
    model = config.build()
    assert (model.cfg, model.task) == (config, module.TASKS[0])
    assert (model.dtype, model.param_dtype) == (jnp.float32, jnp.float32)
    with pytest.raises(InputError, match=module.TASKS[0]):
        config.build(task="no-such-task")


@pytest.mark.parametrize("name", SIZES)
def test_published_count(name):
    size = registry.find(name)
    total = sum(np.prod(shape, dtype=int) for shape in parameters(name).values())
    assert size.params is None or total == size.params
    assert size.source


@pytest.mark.parametrize("name", SIZES)
def test_names_and_shapes_are_those_of_earlier_checkpoints(name):
    assert describe(name) == golden(name).read_text(encoding="utf-8")


def test_no_golden_list_is_left_over():
    names = registry.list_models()
    assert {path.name for path in GOLDEN.iterdir()} == {golden(name).name for name in names}


@pytest.mark.parametrize("row", TABLE)
def test_shape(row):
    config = TABLE[row].config
    model, inputs = config.build(task=TABLE[row].task), config.inputs(batch=2)
    variables = jax.eval_shape(model.init, KEY, **inputs)
    for dtype in (jnp.float32, jnp.bfloat16):
        output = jax.eval_shape(model.clone(dtype=dtype).apply, variables, **inputs)
        assert output.shape == TABLE[row].output and output.dtype == dtype


@pytest.mark.full
@pytest.mark.parametrize("row", ONE_EACH)
def test_same_result_with_and_without_jit(row):
    model, variables, inputs = made(row)
    compiled = jax.jit(model.apply)(variables, **inputs)
    plain = model.apply(variables, **inputs)
    np.testing.assert_allclose(compiled, plain, rtol=2e-5, atol=2e-5)


def assert_modules_are_found(model, inputs):
    """Every module that has parameters is among the features, and so is what the model ends in."""
    variables = jax.eval_shape(lambda key, inputs: model.init(key, **inputs), KEY, inputs)
    found = jax.eval_shape(lambda v, inputs: zoo.features(model, v, inputs), variables, inputs)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])]
    with_parameters = {"/".join(entry.key for entry in path[:-1]) for path in paths} - {""}
    assert with_parameters <= set(found)


@pytest.mark.parametrize("row", TABLE)
def test_features_reach_every_module(row):
    assert_modules_are_found(TABLE[row].config.build(TABLE[row].task), batch_of(TABLE[row].config))


@pytest.mark.full
@pytest.mark.parametrize("family", registry.families())
def test_features_reach_every_module_for_every_task(family):
    built = 0
    for row in TABLE.values():
        if registry.family(row.config) != family:
            continue
        for task in registry.families()[family].TASKS:
            try:
                model = row.config.build(task)
            except InputError:  # the fields of some configs decide which tasks they serve
                continue
            assert_modules_are_found(model, row.config.inputs(batch=2))
            built += 1
    assert built >= len(registry.families()[family].TASKS)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=[pytest.mark.full] * (row not in ALONE or TABLE[row].slow))
        for row in TABLE
    ],
)
def test_every_parameter_has_a_finite_gradient_that_is_not_zero(row):
    model, variables, inputs = made(row)
    inputs = jax.tree.map(jnp.asarray, inputs)
    rest = {name: value for name, value in variables.items() if name != "params"}
    weights = np.random.default_rng(1).normal(size=TABLE[row].output).astype(np.float32)

    def loss(params):
        outputs, _ = model.apply(
            {"params": params, **rest},
            **inputs,
            train=True,
            mutable=list(rest),
            rngs={"dropout": KEY},
        )
        return (outputs * weights).sum()

    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * TABLE[row].sharpen if path[-1].key == "kernel" else leaf,
        variables["params"],
    )
    gradients = jax.jit(jax.grad(loss))(params)
    rounding = 1e-6 * max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradients))
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        name = "/".join(entry.key for entry in path)
        assert np.isfinite(gradient).all(), name
        zero = name.endswith(TABLE[row].no_gradient or "none of them")
        assert (np.abs(gradient).max() < rounding) == zero, name


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=pytest.mark.slow if row in ALONE else pytest.mark.full)
        for row in ONE_EACH
    ],
)
def test_bfloat16_is_near_float32_and_keeps_float32_parameters(row):
    model, variables, inputs = made(row)
    inputs = jax.tree.map(jnp.asarray, inputs)
    half = model.clone(dtype=jnp.bfloat16)
    shapes = jax.eval_shape(lambda: half.init(KEY, **inputs))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}

    exact = jax.jit(lambda v: model.apply(v, **inputs))(variables)
    outputs = jax.jit(lambda v: half.apply(v, **inputs))(variables)
    assert outputs.dtype == jnp.bfloat16
    scale = np.abs(exact).max()
    np.testing.assert_allclose(outputs.astype(jnp.float32) / scale, exact / scale, atol=0.1)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.iterdir():
        old.unlink()
    for name in registry.list_models():
        golden(name).write_text(describe(name), encoding="utf-8")
