"""Speculative decoding: greedy tokens are the same, drawn ones have the same distribution."""

import dataclasses
import itertools

import draw
import gpt2_layout as layout
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)
from scipy.stats import chi2

import zoo
from zoo.errors import InputError
from zoo.inference.logits import process
from zoo.inference.options import Options
from zoo.models import gemma, gpt2, llama, rnn
from zoo.weights import gpt2 as weights

pytestmark = pytest.mark.slow

NEW = 9
IDS, MASK = layout.prompts(31)
KEY = jax.random.key(5)


def gpt(seed=0, scale=0.5, **changes):
    """A model and its variables."""
    fields = {"vocab_size": 31, "width": 12, "depth": 2, "num_heads": 3, "max_length": 24}
    config = gpt2.Config(**fields | changes)
    model = config.build("text-generation")
    return model, draw.variables(model, **config.inputs(), scale=scale, seed=seed)


def mixed(variables, share, seed=9):
    """The variables with a share of noise: a draft that is often, but not always, right."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + share * rng.normal(size=x.shape).astype(x.dtype), variables)


CONFIG = weights.read_config(layout.CONFIGS["odd"])
MODEL = CONFIG.build()
FROZEN = {name: x.astype(np.float32) for name, x in layout.load()["weight"].items()}
VARIABLES = {"params": jax.tree.map(jnp.asarray, layout.read(CONFIG, "text-generation", FROZEN))}
DRAFTS = {
    "itself": (MODEL, VARIABLES),
    "alike": (MODEL, mixed(VARIABLES, 0.1)),
    "another": gpt(seed=1, width=6, num_heads=1, depth=1),
}


def run(draft=None, model=MODEL, variables=VARIABLES, ids=IDS, mask=MASK, **options):
    options = {"max_new_tokens": NEW, "draft": draft, **options}
    return jax.tree.map(np.asarray, zoo.generate(model, variables, ids, mask, **options))


@pytest.mark.slow
@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize(
    "options",
    [
        {"draft_tokens": 1},
        {"eos_token_id": [12, 8], "pad_token_id": 1, "min_new_tokens": 3, "draft_tokens": 3},
        {"repetition_penalty": 1.5, "draft_tokens": 12, "max_new_tokens": 18},
    ],
)
def test_greedy_tokens_are_those_without_a_draft(draft, options):
    options = {"return_log_probs": True, **options}
    plain = run(**{k: v for k, v in options.items() if k != "draft_tokens"})
    got = run(DRAFTS[draft], **options)
    np.testing.assert_array_equal(got.sequences, plain.sequences)
    np.testing.assert_allclose(got.log_probs, plain.log_probs, atol=1e-5)
    np.testing.assert_allclose(got.scores, plain.scores, atol=1e-4)


@pytest.mark.parametrize("family", ["windowed", "gemma"])
def test_sliding_windows_forget_what_is_refused(family):
    if family == "gemma":
        config = gemma.Config(
            vocab_size=31, width=8, depth=3, num_heads=2, num_kv_heads=1, head_dim=4, hidden=9,
            max_length=24, window=3, global_layers=(1,),
        )  # fmt: skip
    else:
        config = llama.Config(31, 8, 2, 2, 1, 4, 9, max_length=24, window=3)
    model = config.build("text-generation")
    variables = draw.variables(model, **config.inputs(), scale=0.5)
    plain = run(model=model, variables=variables, max_new_tokens=14)
    for share in (0.0, 0.1, 1.0):
        got = run((model, mixed(variables, share)), model, variables, max_new_tokens=14)
        np.testing.assert_array_equal(got, plain)


def exact(model, variables, prompt, options):
    """Probability of every sequence of new tokens, from whole forward passes."""
    vocab, new = model.cfg.vocab_size, options.max_new_tokens
    texts = np.array(list(itertools.product(range(vocab), repeat=new)), np.int32)
    whole = np.concatenate([np.repeat(prompt[None], len(texts), 0), texts], 1)
    logits = model.apply(variables, whole)
    total, ended = np.ones(len(texts)), np.zeros(len(texts), bool)
    for n in range(new):
        at = prompt.size + n
        seen = None
        if options.repetition_penalty != 1.0:
            seen = (whole[:, :at, None] == np.arange(vocab)).any(1)
        scores = process(logits[:, at - 1], n, seen, options)
        p = np.asarray(jax.nn.softmax(scores), np.float64)[np.arange(len(texts)), texts[:, n]]
        # Behind an end there is padding and nothing else.
        total *= np.where(ended, texts[:, n] == options.pad, p)
        ended |= np.isin(texts[:, n], options.eos)
    return texts, total


def fits(counts, probabilities):
    """The chance of counts at least so far from their expectation (Pearson's chi-square); rare
    sequences count together."""
    expected = probabilities * counts.sum()
    assert counts[probabilities == 0].sum() == 0
    often = expected >= 8
    seen = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    keep = wanted > 1e-9
    distance = ((seen - wanted)[keep] ** 2 / wanted[keep]).sum()
    return chi2.sf(distance, keep.sum() - 1)


CHOICES: list[dict] = [
    {},
    {"temperature": 1.6, "top_k": 3, "repetition_penalty": 1.4},
    {"top_p": 0.8, "min_p": 0.05, "eos": (2,), "pad": 4, "min_new_tokens": 1},
]


@pytest.mark.parametrize(
    "settings, draft_tokens",
    [
        pytest.param(settings, tokens, marks=[pytest.mark.full if number else pytest.mark.slow])
        for number, (settings, tokens) in enumerate(itertools.product(reversed(CHOICES), (3, 1)))
    ],
)
def test_draws_have_the_models_distribution(settings, draft_tokens):
    config = {"vocab_size": 5, "width": 8, "num_heads": 2, "max_length": 8}
    model, variables = gpt(2, 0.4, **config)
    draft = gpt(3, 0.4, **config | {"depth": 1})
    draws = 10_000
    options = Options(max_new_tokens=3, do_sample=True, num_return_sequences=draws, **settings)
    given = {k: v for k, v in dataclasses.asdict(options).items()
             if k not in ("eos", "pad", "draft_tokens")}  # fmt: skip
    prompts = np.array([[3, 0], [4, 1]], np.int32)
    mask = np.array([[1, 1], [0, 1]], np.int32)
    got = run(draft, model, variables, prompts, mask, **given, key=KEY, draft_tokens=draft_tokens,
              eos_token_id=list(options.eos) or None, pad_token_id=options.pad)  # fmt: skip
    got = got[:, 2:].reshape(2, draws, 3)
    for row, start in enumerate((0, 1)):
        texts, p = exact(model, variables, prompts[row, start:], options)
        np.testing.assert_allclose(p.sum(), 1.0, atol=1e-5)
        codes = got[row] @ 5 ** np.arange(3)
        counts = np.array([(codes == text @ 5 ** np.arange(3)).sum() for text in texts])
        assert counts.sum() == draws
        assert fits(counts, p) > 1e-3
        # The same test sees that the draft alone draws from another distribution.
        other = exact(*draft, prompts[row, start:], options)[1]
        assert not (counts[other == 0].sum() == 0 and fits(counts, other) > 1e-12)


def test_what_a_row_draws_depends_on_its_number_and_prompt_alone():
    options = {"do_sample": True, "key": KEY, "temperature": 2.0}
    other = IDS.copy()
    other[0] = 30 - other[0]
    first, second = run(DRAFTS["alike"], **options), run(DRAFTS["alike"], ids=other, **options)
    np.testing.assert_array_equal(first[1:], second[1:])
    assert (first[0, 6:] != second[0, 6:]).any()
    np.testing.assert_array_equal(first, run(DRAFTS["alike"], **options))


def test_a_sequence_may_fill_all_positions():
    plain = run(max_new_tokens=18)  # 24 positions
    got = run(DRAFTS["itself"], max_new_tokens=18, draft_tokens=7)
    np.testing.assert_array_equal(got, plain)
    with pytest.raises(InputError, match="25 tokens is longer"):
        run(gpt(max_length=12), max_new_tokens=20)
    with pytest.raises(InputError, match="longer than the model's 12"):
        run(gpt(max_length=12), max_new_tokens=18)


def test_half_precision_and_a_single_prompt_without_mask():
    half = MODEL.clone(dtype=jnp.bfloat16)
    got = run((half, VARIABLES), half, ids=IDS[:1], mask=None, return_log_probs=True)
    assert got.log_probs.dtype == np.float32 and got.sequences.shape == (1, 6 + NEW)


def recurrent():
    config = rnn.Config(cell="lstm", vocab_size=31, embedding=6, hidden=(8,), length=16)
    model = config.build("text-generation")
    return model, draw.variables(model, **config.inputs())


@pytest.mark.parametrize(
    "draft, options, message",
    [
        (DRAFTS["alike"], {"num_beams": 2}, "a beam search takes no draft; set num_beams=1"),
        (gpt(vocab_size=30), {}, "vocabulary of 30 tokens, the model one of 31"),
        (recurrent(), {}, "the draft's cache cannot forget tokens"),
        ((MODEL.cfg.build("feature-extraction"), {}), {}, "the draft is to be a model for text"),
        (DRAFTS["alike"], {"callback": print}, "leave callback or draft out"),
        (DRAFTS["alike"], {"draft_tokens": 0}, "draft_tokens is at least 1, not 0"),
        (MODEL, {}, r"draft is a pair \(model, variables\)"),
    ],
)
def test_errors(draft, options, message):
    with pytest.raises(InputError, match=message):
        run(draft, **options)


def test_dynamic_rotary_wavelengths_are_refused():
    scaling = "dynamic factor=2 trained=12"
    model = llama.Config(31, 8, 1, 2, 1, 4, 9, max_length=24, rope_scaling=scaling).build(
        "text-generation"
    )
    with pytest.raises(InputError, match="depend on the length of its cache"):
        run((MODEL, VARIABLES), model, draw.variables(model, **model.cfg.inputs()))
