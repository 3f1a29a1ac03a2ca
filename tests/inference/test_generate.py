"""Generation: transformers' tokens, what every option promises, rows, ends, draws, compilation."""

import dataclasses

import draw
import gpt2_layout as layout
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
from zoo.errors import InputError
from zoo.inference import generate as module
from zoo.models import mlp, rnn
from zoo.models.transformer import Config as Transformer
from zoo.weights import gpt2

CONFIG = gpt2.read_config(layout.CONFIGS["odd"])
MODEL = CONFIG.build()
IDS, MASK = layout.prompts(CONFIG.vocab_size)
NEW, EOS, PAD = 9, 12, 1
FROZEN = layout.load()
WEIGHTS = {name: x.astype(np.float32) for name, x in FROZEN["weight"].items()}
VARIABLES = {"params": jax.tree.map(jnp.asarray, layout.read(CONFIG, "text-generation", WEIGHTS))}
KEY = jax.random.key(3)


def run(ids=IDS, mask=MASK, **options):
    options = {"max_new_tokens": NEW, **options}
    return jax.tree.map(np.asarray, zoo.generate(MODEL, VARIABLES, ids, mask, **options))


def new(*args, **options):
    return run(*args, **options)[:, -NEW:]


@pytest.fixture(scope="module")
def free():
    """Greedy tokens where nothing stops."""
    return new()


@pytest.mark.parametrize("name", ["greedy", *layout.BEAMS])
def test_tokens_are_those_of_transformers(name):
    got = run(**layout.GREEDY, **layout.BEAMS.get(name, {}))
    want = FROZEN["tokens"][name]  # cut behind the longest row
    assert got.dtype == np.int32 and got.shape == (len(want), 6 + NEW)
    np.testing.assert_array_equal(got[:, : want.shape[1]], want)
    assert (got[:, want.shape[1] :] == PAD).all()


@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"num_beams": 3, "num_return_sequences": 2}, marks=pytest.mark.slow)],
)
def test_a_row_depends_on_no_other_and_on_no_padding(options):
    each = options.get("num_return_sequences", 1)
    together = new(eos_token_id=EOS, **options).reshape(4, each, NEW)
    for row, start in enumerate((0, 2, 5, 1)):
        alone = new(IDS[row : row + 1, start:], None, eos_token_id=EOS, **options)
        np.testing.assert_array_equal(alone, together[row])


def test_what_one_row_draws_depends_on_no_other():
    options = {"do_sample": True, "key": KEY, "temperature": 2.0}
    other = IDS.copy()
    other[0] = 30 - other[0]
    first, second = new(**options), new(other, **options)
    np.testing.assert_array_equal(first[1:], second[1:])
    assert (first[0] != second[0]).any()


def test_an_end_is_followed_by_padding_and_ends_the_loop(free):
    got = new(eos_token_id=[EOS, 8], pad_token_id=99)
    ended = np.cumsum(np.isin(free, [EOS, 8]), 1) - np.isin(free, [EOS, 8]) > 0
    assert ended.any() and not ended.all()
    np.testing.assert_array_equal(got, np.where(ended, 99, free))
    np.testing.assert_array_equal(new(eos_token_id=EOS)[2, 2:], EOS)  # the default padding
    # Rows 2 and 3 alone end after two and eight tokens: the ninth step is not taken.
    steps = []
    run(IDS[2:], MASK[2:], eos_token_id=EOS, callback=steps.append)
    assert len(steps) == 8


@pytest.mark.parametrize("beams", [1, 3])
def test_no_end_before_min_new_tokens(beams):
    for least in (0, 5, NEW):
        got = new(eos_token_id=EOS, pad_token_id=99, min_new_tokens=least, num_beams=beams)
        assert not np.isin(got[:, :least], [EOS, 99]).any()
    assert (got != 99).all()


def test_a_repetition_penalty_avoids_what_was_seen():
    got = new(repetition_penalty=1e9)
    for row, mask, prompt in zip(got, MASK, IDS, strict=True):
        # No score below zero is chosen while a token unseen has a better one.
        assert len({*row.tolist()} - {*prompt[mask == 1].tolist()}) == NEW


@pytest.mark.parametrize("option", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_sampling_from_the_best_token_is_greedy(free, option):
    np.testing.assert_array_equal(new(do_sample=True, key=KEY, **option), free)


def test_draws_follow_their_key():
    options = {"do_sample": True, "num_return_sequences": 3}
    first = new(key=KEY, **options)
    assert first.shape == (12, NEW)
    assert len({row.tobytes() for row in first[:3]}) == 3
    np.testing.assert_array_equal(first, new(key=KEY, **options))
    assert (first != new(key=jax.random.key(4), **options)).any()
    beams = new(key=KEY, num_beams=4, **options)
    np.testing.assert_array_equal(beams, new(key=KEY, num_beams=4, **options))
    assert (beams != new(key=jax.random.key(4), num_beams=4, **options)).any()


@pytest.mark.slow
def test_draws_have_the_filtered_distribution():
    draws, options = 4000, {"temperature": 1.7, "top_k": 12, "top_p": 0.8, "min_p": 0.3}
    got = run(IDS[:1], None, max_new_tokens=1, do_sample=True, num_return_sequences=draws, key=KEY,
              **options)[:, -1]  # fmt: skip
    logits = np.asarray(MODEL.apply(VARIABLES, IDS[:1])[0, -1], np.float64) / 1.7
    order = np.argsort(-logits)[:12]
    p = np.exp(logits[order]) / np.exp(logits[order]).sum()
    count = int((np.cumsum(p) - p < 0.8).sum())
    count = min(count, int((p >= 0.3 * p[0]).sum()))
    assert 2 < count < 12
    p = p[:count] / p[:count].sum()
    found = np.array([(got == token).sum() for token in order[:count]])
    assert found.sum() == draws
    # Five deviations of each count.
    assert (np.abs(found - draws * p) < 5 * np.sqrt(draws * p * (1 - p))).all()


@pytest.mark.slow
def test_log_probabilities_are_those_of_a_full_forward_pass():
    for options in ({}, {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.7}):
        got = run(eos_token_id=EOS, pad_token_id=PAD, return_log_probs=True, **options)
        each = options.get("num_return_sequences", 1)
        counts = np.concatenate([np.repeat(MASK, each, 0), got.log_probs != 0], 1).astype(np.int32)
        logits = jax.jit(MODEL.apply)(VARIABLES, got.sequences, counts)[:, 5:-1]
        want = jnp.take_along_axis(jax.nn.log_softmax(logits), got.sequences[:, 6:, None], axis=-1)[
            ..., 0
        ]
        want = np.where(counts[:, 6:], want, 0)
        np.testing.assert_allclose(got.log_probs, want, atol=1e-5)
        lengths = (got.log_probs != 0).sum(1) ** options.get("length_penalty", 0.0)
        np.testing.assert_allclose(got.scores, want.sum(1) / lengths, rtol=1e-5)
        assert (np.diff(got.scores.reshape(4, each)) <= 0).all()


@pytest.mark.parametrize(
    "options", [{}, {"do_sample": True, "key": KEY, "num_return_sequences": 2, "top_k": 9}]
)
def test_a_callback_sees_the_tokens_as_they_come(options):
    options |= {"eos_token_id": EOS, "repetition_penalty": 1.2, "return_log_probs": True}
    steps = []
    streamed = run(callback=steps.append, **options)
    whole = run(**options)
    np.testing.assert_array_equal(streamed.sequences, whole.sequences)
    np.testing.assert_allclose(streamed.log_probs, whole.log_probs, atol=1e-6)
    np.testing.assert_array_equal(np.stack(steps, 1), whole.sequences[:, 6 : 6 + len(steps)])


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
def test_other_prompts_and_weights_of_the_same_shape_compile_nothing(options):
    run(eos_token_id=EOS, **options)
    compiled = module._whole._cache_size()
    run(30 - IDS, np.ones_like(MASK), eos_token_id=EOS, **options)
    changed = jax.tree.map(lambda x: 2 * x, VARIABLES)
    twin = gpt2.read_config(layout.CONFIGS["odd"]).build()
    zoo.generate(twin, changed, IDS, MASK, max_new_tokens=NEW, eos_token_id=EOS, **options)
    assert module._whole._cache_size() == compiled


@pytest.mark.slow
def test_a_recurrent_network_generates_too():
    config = rnn.Config(cell="lstm", vocab_size=7, embedding=6, hidden=(8,), length=16)
    model = config.build("text-generation")
    variables = draw.variables(model, **config.inputs(), scale=1.0)
    ids = np.random.default_rng(0).integers(0, 7, (3, 4), dtype=np.int32)
    mask = np.array([[1] * 4, [0, 0, 1, 1], [0, 0, 0, 1]], np.int32)
    got = zoo.generate(model, variables, ids, mask, max_new_tokens=5)
    text, counts = ids, mask
    for _ in range(5):
        token = np.argmax(model.apply(variables, text, counts)[:, -1], -1).astype(np.int32)
        text = np.concatenate([text, token[:, None]], 1)
        counts = np.pad(counts, ((0, 0), (0, 1)), constant_values=1)
    np.testing.assert_array_equal(got, text)
    beams = zoo.generate(model, variables, ids[:, :1], max_new_tokens=3, num_beams=2)
    assert beams.shape == (3, 4)


@pytest.mark.slow
def test_half_precision_chooses_by_float32_scores():
    half = MODEL.clone(dtype=jnp.bfloat16)
    got = zoo.generate(half, VARIABLES, IDS, MASK, max_new_tokens=3, return_log_probs=True)
    assert got.log_probs.dtype == jnp.float32
    beams = zoo.generate(half, VARIABLES, IDS, MASK, max_new_tokens=3, num_beams=2)
    assert beams.shape == (4, 9)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_new_tokens": 0}, "max_new_tokens is at least 1, not 0"),
        ({"min_new_tokens": 10}, "min_new_tokens is from 0 to max_new_tokens, 9, not 10"),
        ({"temperature": 0.0, "do_sample": True}, "temperature is above 0"),
        ({"top_p": 0.0, "do_sample": True}, "top_p is above 0"),
        ({"top_k": 5, "min_p": 0.1}, "top_k, min_p would have no effect; set do_sample=True"),
        ({"num_return_sequences": 3, "num_beams": 2}, "at most num_beams, 2.* not 3"),
        ({"early_stopping": "ever"}, "early_stopping is True, False"),
        ({"eos_token_id": [3, 31]}, "eos_token_id is below the vocabulary's size, 31"),
        ({"do_sample": True}, "sampling needs a key"),
        ({"num_beams": 2, "callback": print}, "leave callback out"),
        ({"max_new_tokens": 20}, "25 tokens is longer than the model's 24"),
        ({"ids": IDS + 1}, "from 0 to 30"),
        ({"mask": MASK[:, ::-1]}, r"rows \[1, 2, 3\] is padding; pad prompts on the left"),
        ({"mask": MASK[:2]}, "not of input_ids' shape"),
        ({"ids": IDS[:, :0], "mask": None}, "at least one token"),
    ],
)
def test_errors(options, message):
    with pytest.raises(InputError, match=message):
        run(**options)


def test_a_model_that_generates_no_text_is_refused():
    for model in (mlp.Config().build(), dataclasses.replace(CONFIG).build("feature-extraction"),
                  Transformer().build()):  # fmt: skip
        with pytest.raises(InputError, match="text-generation"):
            zoo.generate(model, {}, IDS, max_new_tokens=1)
