"""Patched modules, the logit lens and activation patching."""

import draw
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
from zoo.errors import InputError
from zoo.inspect import activation_patching, logit_lens, patched_apply
from zoo.inspect.patching import layers, outputs
from zoo.models import albert, bert, gpt2, opt, transformer

IDS = np.random.default_rng(0).integers(0, 9, (2, 5), np.int32)


def _made(config, task=None, **inputs):
    model = config.build(task)
    return model, draw.variables(model, **inputs), inputs


@pytest.fixture(scope="module")
def gpt():
    return _made(gpt2.Config(9, 8, 3, 2, max_length=8), input_ids=IDS)


def test_a_patch_is_what_the_modules_behind_it_see(gpt):
    model, variables, inputs = gpt
    plain = model.apply(variables, IDS)
    states = zoo.features(model, variables, inputs, "block*")
    # Its own output, as a value or by a function, changes nothing.
    same = patched_apply(model, variables, inputs, {"block1": states["block1"][0]})
    np.testing.assert_allclose(same, plain, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(patched_apply(model, variables, IDS, {"*": lambda x: x}), plain)
    # Without what attention and feed-forward add, a block passes its input on.
    nothing = {"block1/attention": 0.0, "block1/mlp": jnp.zeros_like}
    skipped = patched_apply(model, variables, inputs, nothing)
    passed_on = patched_apply(model, variables, inputs, {"block1": states["block0"][0]})
    np.testing.assert_allclose(skipped, passed_on, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(skipped - plain)).max() > 0.1


def test_a_head_without_its_attention(gpt):
    model, variables, inputs = gpt
    without = patched_apply(
        model, variables, inputs, {"block0/attention/weights": lambda w: w.at[:, 1].set(0)}
    )
    cut = jax.tree.map(lambda x: x, variables)
    kernel = cut["params"]["block0"]["attention"]["out"]["kernel"]
    cut["params"]["block0"]["attention"]["out"]["kernel"] = kernel.at[4:].set(0)
    np.testing.assert_allclose(without, model.apply(cut, IDS), rtol=1e-4, atol=1e-5)


def test_patches_are_differentiable_and_compile(gpt):
    model, variables, inputs = gpt
    hidden = zoo.features(model, variables, inputs, "block2")["block2"][0]

    def score(x):
        return patched_apply(model, variables, inputs, {"block2": x})[:, -1, 3].sum()

    gradient = jax.jit(jax.grad(score))(hidden)
    assert gradient.shape == hidden.shape
    assert not np.asarray(gradient[:, :-1]).any() and np.asarray(gradient[:, -1]).any()


def test_calls_of_one_module_are_told_apart():
    config = albert.Config(vocab_size=9, embedding=6, width=8, depth=3, num_heads=2, hidden=12,
                           max_length=16, num_classes=3)  # fmt: skip
    model, variables, inputs = _made(config, "text-classification", input_ids=IDS)
    paths = outputs(model, variables, inputs)
    assert layers(paths) == ["group0_layer0", "group0_layer0#2", "group0_layer0#3"]
    states = zoo.features(model, variables, inputs, "group0_layer0*")
    for path in layers(paths):
        same = patched_apply(model, variables, inputs, {path: states[path]})
        np.testing.assert_allclose(same, model.apply(variables, IDS), rtol=1e-4, atol=1e-5)
    other = patched_apply(model, variables, inputs, {"group0_layer0#3": 0.0})
    assert np.abs(np.asarray(other - same)).max() > 1e-3


def test_outputs_are_in_order_and_bear_the_names_of_features(gpt):
    model, variables, inputs = gpt
    paths = list(outputs(model, variables, inputs))
    assert set(paths) == set(zoo.features(model, variables, inputs))
    assert paths[0] == "embed" and paths[-1] == "norm"
    assert paths.index("block0/attention/weights") < paths.index("block0") < paths.index("block1")


def test_what_does_not_fit_is_said(gpt):
    model, variables, inputs = gpt
    with pytest.raises(InputError, match="'block9'.*nearest: block"):
        patched_apply(model, variables, inputs, {"block9": 0.0})
    with pytest.raises(InputError, match=r"block0 gives \(2, 5, 8\), and what takes its place is"):
        patched_apply(model, variables, inputs, {"block0": np.zeros((3, 8))})
    with pytest.raises(InputError, match="not the same hidden states"):
        logit_lens(model, variables, inputs, ["block0/attention/weights", "block1"])
    with pytest.raises(InputError, match="pad them to the same length"):
        activation_patching(model, variables, inputs, IDS[:, :4], "block*")


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (gpt2.Config(9, 8, 3, 2, max_length=8), None),
        (opt.Config(9, 8, 6, 2, 2, 12, max_length=8), None),
        (bert.Config(9, 8, 2, 2, 12, max_length=8), "fill-mask"),
    ],
    ids=["gpt2", "opt", "bert"],
)  # fmt: skip
def test_the_lens_is_the_models_own_head_on_every_layer(config, task):
    model, variables, inputs = _made(config, task, input_ids=IDS)
    found = logit_lens(model, variables, inputs)
    assert [*found] == layers(outputs(model, variables, inputs)) and len(found) == config.depth
    own = model.apply(variables, IDS)
    np.testing.assert_allclose([*found.values()][-1], own, rtol=1e-4, atol=1e-4)
    first = [*found][0]
    # A model that consists of the first layer alone.
    shallow = type(config)(**{**vars(config), "depth": 1}).build(task)
    expected = shallow.apply(variables, IDS)
    np.testing.assert_allclose(found[first], expected, rtol=1e-4, atol=1e-4)


def test_the_lens_reads_the_decoder_of_two_stacks():
    config = transformer.Config(9, 8, 2, 2, 12, max_length=8)
    model, variables, inputs = _made(config, input_ids=IDS, decoder_input_ids=IDS[:, :3])
    found = logit_lens(model, variables, inputs)
    assert {k: v.shape for k, v in found.items()} == {
        "decoder0": (2, 3, 9), "decoder1": (2, 3, 9),
    }  # fmt: skip


@pytest.mark.slow
def test_activation_patching_carries_the_clean_answer_over(gpt):
    model, variables, _ = gpt
    clean, corrupted = IDS[:1], IDS[:1].copy()
    corrupted[0, 1] = (corrupted[0, 1] + 1) % 9
    answers = [np.asarray(model.apply(variables, ids))[0, -1] for ids in (clean, corrupted)]
    best = answers[0].argmax()
    found = activation_patching(model, variables, corrupted, clean, ["embed", "block*"])
    assert [*found][0] == "embed" and found["embed"].shape == (1,)
    # All differences pass through the embedding, and again through the last block.
    for path in ("embed", "block2"):
        np.testing.assert_allclose(found[path], answers[0][best], rtol=1e-4)
    places = activation_patching(
        model, variables, corrupted, clean, ["embed", "block2"], by_token=True
    )
    assert places["embed"].shape == (1, 5)
    before = answers[1][best]
    np.testing.assert_allclose(places["embed"][0, [0, 2, 3, 4]], before, rtol=1e-4)
    np.testing.assert_allclose(places["embed"][0, 1], answers[0][best], rtol=1e-4)
    np.testing.assert_allclose(places["block2"][0, :4], before, rtol=1e-4)
    np.testing.assert_allclose(places["block2"][0, 4], answers[0][best], rtol=1e-4)
    named = activation_patching(model, variables, corrupted, clean, "block2", target=int(best))
    np.testing.assert_allclose(named["block2"], found["block2"], rtol=1e-5)
