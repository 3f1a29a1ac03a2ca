"""Classes by their names: probabilities are those of the whole model on the same texts."""

import draw
import jax
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.data.pairs import pack_ended
from zoo.errors import InputError
from zoo.inference.zero_shot import class_vectors, classify_zero_shot
from zoo.models import clip

CFG = clip.Config(
    image_size=8, patch_size=4, vision_width=8, vision_depth=1, vision_num_heads=2,
    vision_hidden=12, vocab_size=257, max_length=24, text_width=6, text_depth=1,
    text_num_heads=2, text_hidden=10, projection_width=5,
)  # fmt: skip
IMAGE = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)


def tokenizer(texts, padding, truncation, max_length, return_tensors):
    return pack_ended([text.encode() for text in texts], max_length)


@pytest.fixture(scope="module")
def opened():
    model = CFG.build()
    return model, draw.variables(model, **CFG.inputs())


def test_one_template_is_the_model_itself(opened):
    model, variables = opened
    names = ["cat", "dog", "an owl"]
    found = classify_zero_shot(model, variables, IMAGE, names, tokenizer)
    texts = pack_ended([f"a photo of a {name}.".encode() for name in names], 24)
    logits = jax.jit(model.apply)(variables, IMAGE, **texts).logits_per_image
    np.testing.assert_allclose(found, jax.nn.softmax(logits), rtol=1e-4, atol=1e-6)


def test_several_templates_are_averaged(opened):
    model, variables = opened
    apart = [
        class_vectors(model, variables, ["cat", "dog"], tokenizer, [text])
        for text in ("a {}", "the {}, {}")
    ]
    both = class_vectors(model, variables, ["cat", "dog"], tokenizer, ["a {}", "the {}, {}"])
    np.testing.assert_allclose(both, clip.unit((apart[0] + apart[1]) / 2), rtol=1e-4, atol=1e-5)


def test_what_is_refused(opened):
    model, variables = opened
    for names, templates, message in (
        ([], ["{}"], "class_names is"), ("cat", ["{}"], "class_names is 'cat'; it must be a list"),
        (["cat", "cat"], ["{}"], "'cat' more than once"), (["cat"], ["a"], "no place {} for"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            classify_zero_shot(model, variables, IMAGE, names, tokenizer, templates)
    with pytest.raises(InputError, match="needs a model of zero-shot-image-class"):
        classify_zero_shot(CFG.build("text-encoder"), variables, IMAGE, ["cat"], tokenizer)
