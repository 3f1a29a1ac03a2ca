"""CLIP: what its towers see, where a text ends, and what it refuses."""

import dataclasses
import functools

import draw
import jax
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

from zoo.errors import InputError
from zoo.models import clip

CFG = clip.Config(
    image_size=8, patch_size=4, in_chans=2, vision_width=8, vision_depth=1, vision_num_heads=2,
    vision_hidden=12, vocab_size=20, max_length=9, text_width=6, text_depth=1, text_num_heads=2,
    text_hidden=10, projection_width=5, num_classes=3,
)  # fmt: skip
IDS = np.array([[3, 9, 19, 4, 0, 0], [7, 6, 5, 3, 2, 19]], np.int32)
MASK = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], np.int32)


@pytest.fixture(scope="module")
def both():
    """The model, its variables, pictures."""
    model = CFG.build()
    image = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype(np.float32)
    return model, draw.variables(model, image, IDS, MASK), image


@functools.cache
def encoder(end):
    return jax.jit(dataclasses.replace(CFG, eos_token_id=end).build("text-encoder").apply)


def texts(both, ids, mask, eos_token_id=None):
    return encoder(eos_token_id)(both[1], input_ids=ids, attention_mask=mask)


def test_similarities_are_scaled_cosines(both):
    model, variables, image = both
    found = jax.jit(model.apply)(variables, image, IDS, MASK)
    assert found.logits_per_image.shape == (3, 2)
    np.testing.assert_array_equal(found.logits_per_image, found.logits_per_text.T)
    for rows in (found.image_embeds, found.text_embeds):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    scale = np.exp(variables["params"]["logit_scale"])
    cosines = found.image_embeds @ found.text_embeds.T
    np.testing.assert_allclose(found.logits_per_image, scale * cosines, rtol=1e-5)
    kernel = variables["params"]["text_projection"]["kernel"]
    features = texts(both, IDS, MASK).pooler_output @ kernel
    np.testing.assert_allclose(clip.unit(features), found.text_embeds, rtol=1e-5, atol=1e-6)


def test_a_text_sees_neither_what_follows_its_end_nor_padding(both):
    whole, other, shorter = texts(both, IDS, MASK), IDS.copy(), MASK.copy()
    other[0, 3:], shorter[0, 0] = 11, 0
    np.testing.assert_allclose(texts(both, other, MASK).pooler_output, whole.pooler_output)
    everything = texts(both, other, np.ones_like(MASK)).pooler_output
    np.testing.assert_allclose(everything, whole.pooler_output, rtol=1e-5, atol=1e-6)
    without = texts(both, IDS, shorter).pooler_output  # its first token is padding
    assert np.abs(without[0] - whole.pooler_output[0]).max() > 1e-3
    np.testing.assert_allclose(without[1], whole.pooler_output[1], rtol=1e-5, atol=1e-6)


def test_a_text_ends_with_the_largest_id_or_the_one_that_is_named(both):
    for end, places in ((None, (2, 5)), (3, (0, 3))):
        found = texts(both, IDS, MASK, eos_token_id=end)
        wanted = np.asarray(found.last_hidden_state)[np.arange(2), places]
        np.testing.assert_array_equal(found.pooler_output, wanted)


def test_pictures_of_any_size(both):
    _, variables, _ = both
    model = CFG.build("image-encoder")
    image = np.zeros((1, 13, 4, 2), np.float32)
    assert jax.eval_shape(model.apply, variables, image).last_hidden_state.shape == (1, 4, 8)
    with pytest.raises(InputError, match="an image of 3x8 has no patch of 4x4"):
        model.apply(variables, np.zeros((1, 3, 8, 2), np.float32))
    with pytest.raises(InputError, match="images have 3 channels, the model 2"):
        model.apply(variables, np.zeros((1, 8, 8, 3), np.float32))


def test_what_is_refused(both):
    model, variables, image = both
    with pytest.raises(InputError, match="needs input_ids; give it by that name"):
        model.apply(variables, image)
    with pytest.raises(InputError, match="image-encoder needs image"):
        CFG.build("image-encoder").apply(variables, input_ids=IDS)
    with pytest.raises(InputError, match="10 tokens is longer than the model's 9 positions"):
        CFG.build("text-encoder").apply(variables, input_ids=np.ones((1, 10), np.int32))
    for changes, message in (
        ({"text_num_heads": 4}, "4 heads do not divide a width of 6"),
        ({"vision_num_heads": 3}, "3 heads do not divide a width of 8"),
        ({"text_activation": "sine"}, "unknown activation 'sine'"),
        ({"patch_size": 9}, "an image of 8x8 has no patch"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(CFG, **changes).build()
    with pytest.raises(InputError, match="needs num_classes of 1 or more"):
        dataclasses.replace(CFG, num_classes=0).build("image-classification")
