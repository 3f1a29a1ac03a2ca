"""CLIP beside transformers: outputs of every class, bytes, gradients of the contrastive loss."""

import encoders
import jax
import numpy as np
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

import zoo
from zoo.tasks import ImageTextContrastive
from zoo.training.step import apply_function
from zoo.weights import clip, mapping

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

TEXT = dict(
    vocab_size=50, hidden_size=16, intermediate_size=20, num_hidden_layers=2,
    num_attention_heads=2, max_position_embeddings=12, projection_dim=10, bos_token_id=48,
    eos_token_id=49, pad_token_id=1,
)  # fmt: skip
VISION = dict(
    hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=3,
    image_size=12, patch_size=4, projection_dim=10,
)  # fmt: skip
CONFIGS = {
    "plain": ({}, {}),
    "largest id": (
        dict(eos_token_id=2, hidden_act="gelu", layer_norm_eps=1e-3, num_hidden_layers=1),
        dict(num_channels=1, hidden_size=18, num_attention_heads=1, intermediate_size=7,
             hidden_act="relu", layer_norm_eps=0.5, num_hidden_layers=1, image_size=15),
    ),
    "an end within": (
        dict(eos_token_id=7, num_attention_heads=4, hidden_act="gelu_new"),
        dict(num_channels=4, image_size=8, patch_size=2, hidden_act="gelu"),
    ),
    "deep": (
        dict(num_hidden_layers=5, hidden_size=12, projection_dim=7),
        dict(num_hidden_layers=5, image_size=13, patch_size=6, projection_dim=7),
    ),
}  # fmt: skip
HEADS = {
    "CLIPModel": ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds"),
    "CLIPTextModel": ("last_hidden_state", "pooler_output"),
    "CLIPVisionModel": ("last_hidden_state", "pooler_output"),
    "CLIPTextModelWithProjection": ("text_embeds",),
    "CLIPVisionModelWithProjection": ("image_embeds",),
    "CLIPForImageClassification": ("logits",),
}
SIZES = {"plain": ((20, 8), (13, 15)), "largest id": ((8, 24),)}
"""Of pictures whose positions are resized."""
ALL = [(head, config) for config in CONFIGS for head in HEADS]
QUICK = [
    pytest.param(*each, marks=[pytest.mark.full] * (at >= len(HEADS)))
    for at, each in enumerate(ALL)
]
"""Every class once by quick runs."""


def reference(head, config):
    """Transformers' model with random weights."""
    text, vision = (a | b for a, b in zip((TEXT, VISION), CONFIGS[config], strict=True))
    made = getattr(transformers, head)
    if "Text" in head:
        cfg = made.config_class(**text)
    elif "Vision" in head:
        cfg = made.config_class(**vision)
    else:
        more = {"num_labels": 5} if "Classification" in head else {}
        more["projection_dim"] = text["projection_dim"]
        cfg = made.config_class(text_config=text, vision_config=vision, **more)
    torch.manual_seed(0)
    model = made(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms start at 0 and 1
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batch(head, cfg, size=None):
    """Three pictures; four texts, the first and the last padded, each with an end in it."""
    rng, given = np.random.default_rng(1), {}
    text, vision = getattr(cfg, "text_config", cfg), getattr(cfg, "vision_config", cfg)
    if "Text" not in head:
        size = size or (vision.image_size,) * 2
        given["image"] = rng.normal(size=(3, *size, vision.num_channels)).astype(np.float32)
    if "Text" in head or head == "CLIPModel":
        ids, mask = rng.integers(8, 48, (4, 11)), np.ones((4, 11), np.int64)
        for row, end in enumerate((6, 10, 3, 8)):
            ids[row, end:] = text.eos_token_id if text.eos_token_id != 2 else 49
        mask[0, 7:] = mask[3, 9:] = 0
        given |= {"input_ids": ids, "attention_mask": mask}
    return given


def run(model, head, given, **options):
    """Their outputs in the order of `HEADS`."""
    tensors = {key: torch.tensor(value) for key, value in given.items()}
    if "image" in tensors:
        image = tensors.pop("image").permute(0, 3, 1, 2).to(next(model.parameters()).dtype)
        tensors["pixel_values"] = image
    found = model(**tensors, **options)
    return [found[name] for name in HEADS[head]]


def ours(model, variables, head, given):
    found = jax.jit(model.apply)(variables, **given)
    return [found] if hasattr(found, "shape") else [getattr(found, name) for name in HEADS[head]]


def near(wanted, found, given):
    """Within 2e-5 of the standard deviation, where tokens count."""
    for a, b in zip(wanted, found, strict=True):
        a, b = a.detach().numpy(), np.asarray(b)
        error = np.abs(a - b)
        if "attention_mask" in given and error.shape[:2] == given["attention_mask"].shape:
            error = error[given["attention_mask"] > 0]
        print("largest error over the standard deviation:", error.max() / a.std())
        assert a.shape == b.shape and error.max() <= 2e-5 * a.std()


def named(tensors, task):
    """By the names that transformers 4 writes, without what a classifier does not look at."""
    full = {clip.full_name(name, task): value for name, value in tensors.items()}
    left = task == "image-classification"
    return {name: value for name, value in full.items() if not (left and "post_lay" in name)}


@pytest.mark.parametrize("head, config", QUICK)
def test_outputs_and_bytes(tmp_path, head, config):
    theirs = reference(head, config)
    theirs.save_pretrained(tmp_path / "theirs")
    model, variables = zoo.from_pretrained(tmp_path / "theirs")
    given = batch(head, theirs.config)
    wanted = run(theirs, head, given)
    near(wanted, ours(model, variables, head, given), given)
    for size in SIZES.get(config, ()) if "Text" not in head else ():
        other = batch(head, theirs.config, size)
        resized = run(theirs, head, other, interpolate_pos_encoding=True)
        near(resized, ours(model, variables, head, other), other)

    zoo.save_pretrained(tmp_path / "ours", model, variables)
    before = named(load_file(tmp_path / "theirs/model.safetensors"), model.task)
    after = load_file(tmp_path / "ours/model.safetensors")
    assert before.keys() == after.keys()
    for name, value in after.items():
        assert value.dtype == before[name].dtype and value.tobytes() == before[name].tobytes()
        assert value.shape == before[name].shape
    (written,) = transformers.AutoConfig.from_pretrained(tmp_path / "ours").architectures
    again = getattr(transformers, written).from_pretrained(tmp_path / "ours").eval()
    for a, b in zip(wanted, run(again, head, given), strict=True):
        np.testing.assert_array_equal(a.detach(), b.detach())
    reopened, _ = zoo.from_pretrained(tmp_path / "ours")
    assert (reopened.cfg, reopened.task) == (model.cfg, model.task)


@pytest.mark.parametrize("config", encoders.quick(CONFIGS, 1))
def test_float64(tmp_path, config):
    """Which alone sees a wrong epsilon."""
    theirs = reference("CLIPModel", config).double()
    theirs.save_pretrained(tmp_path)
    given = batch("CLIPModel", theirs.config)
    wanted = run(theirs, "CLIPModel", given)
    with jax.enable_x64(True):
        model, variables = zoo.from_pretrained(tmp_path)
        given["image"] = given["image"].astype(np.float64)
        found = [np.asarray(array) for array in ours(model, variables, "CLIPModel", given)]
    for a, b in zip(wanted, found, strict=True):
        error = np.abs(a.detach().numpy() - b).max()
        print("largest error:", error)
        assert b.dtype == np.float64 and error <= 1e-10


def test_the_contrastive_loss_and_its_gradients(tmp_path):
    theirs = reference("CLIPModel", "largest id").double()
    theirs.save_pretrained(tmp_path)
    given = batch("CLIPModel", theirs.config)
    given = {name: value[:3] for name, value in given.items()}
    tensors = {key: torch.tensor(value) for key, value in given.items()}
    image = tensors.pop("image").permute(0, 3, 1, 2).double()
    wanted = theirs(**tensors, pixel_values=image, return_loss=True).loss
    wanted.backward()
    with jax.enable_x64(True):
        model, variables = zoo.from_pretrained(tmp_path)
        rows = given | {"image": given["image"].astype(np.float64), "label": np.arange(3)}

        @jax.value_and_grad
        def loss(params):
            total, weight, _ = ImageTextContrastive().loss(
                apply_function(model), {"params": params}, rows
            )
            return total / weight

        found, grads = jax.jit(loss)(variables["params"])
        assert abs(float(found) - wanted.item()) <= 1e-10
        flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(grads, sep="/").items()}
    size = max(p.grad.abs().max().item() for p in theirs.parameters())
    rules = clip.towers(model.cfg, model.task) + clip.head(model.cfg, model.task)
    mine = mapping.write_all(rules, flat)
    assert mine.keys() == dict(theirs.named_parameters()).keys()
    for name, parameter in theirs.named_parameters():
        error = np.abs(mine[name] - parameter.grad.numpy()).max() / size
        assert error <= 1e-10, (name, error)
