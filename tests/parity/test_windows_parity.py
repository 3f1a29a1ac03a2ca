"""Windows, labels of words and the span loss beside transformers, on the same folders."""

import warnings

import jax
import numpy as np
import pytest
import torch
from tokenizer_folders import FOLDERS, TEXTS, WORDS
from transformers import AutoTokenizer, BertConfig, BertForQuestionAnswering
from transformers.utils import logging

import zoo
from zoo.data import Info
from zoo.data.passages import Cut, Passages, Question
from zoo.data.sentences import Sentence, Sentences
from zoo.tasks import QuestionAnswering

logging.set_verbosity_error()
CONTEXTS = [text for text in TEXTS if text.strip()]
CONTEXTS += [" ".join(CONTEXTS), "the dogs jump over the lazy fox. " * 15 + "end"]
ASKED = ["the dog?", "jumps", "who?"]
QUICK = ("bert", "roberta_whole", "gpt2_ends", "unigram")
FULL = [name for name in FOLDERS if name not in QUICK]


@pytest.fixture(
    scope="module", params=[*QUICK, *(pytest.param(name, marks=pytest.mark.full) for name in FULL)]
)
def both(request, tmp_path_factory):
    """Ours and theirs from one folder, both padding and cutting at the right."""
    folder = FOLDERS[request.param](tmp_path_factory.mktemp(request.param))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = zoo.load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    for tokenizer in (ours, theirs):
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return ours, theirs


@pytest.mark.parametrize("length, stride", [(32, 5), (26, 0), (90, 40)])
def test_windows_are_transformers_overflowing_tokens(both, length, stride):
    ours, theirs = both
    pairs = [(question, context) for question in ASKED for context in CONTEXTS]
    expected = theirs(
        *map(list, zip(*pairs, strict=True)), truncation="only_second", max_length=length,
        stride=stride, padding="max_length", return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )  # fmt: skip
    split = Passages(ours, [Question("n", *pair) for pair in pairs], Cut(length, stride, 8))
    batch = split.rows(np.arange(len(split)))
    assert split.example_of.tolist() == expected["overflow_to_sample_mapping"]
    assert len(split) > len(pairs)
    for key in split.keys:
        np.testing.assert_array_equal(batch[key], np.array(expected[key]), key)
    for row in range(len(split)):
        kinds = expected.sequence_ids(row)
        wanted = [
            place if kind == 1 else (0, 0)
            for place, kind in zip(expected["offset_mapping"][row], kinds, strict=True)
        ]
        found = split.offsets(row).tolist()
        assert list(map(tuple, found)) == wanted[: len(found)]
        assert not any(end for _, end in wanted[len(found) :])


def test_words_are_aligned_as_by_word_ids(both):
    ours, theirs = both
    texts = [[word for word in words if word.strip()] for words in (WORDS, WORDS[::-1], ["a"])]
    split = Sentences(ours, [Sentence("n", tuple(words)) for words in texts], {}, 80, 0)
    ids = split.rows(np.arange(len(split)))["input_ids"]
    apart = [
        ours([[mark + "a"]], is_split_into_words=True, add_special_tokens=False)["input_ids"]
        for mark in ("", " ")
    ]
    mark = "" if apart[0] == apart[1] else " "  # their byte-level tokenizers want the space given
    for row, words in enumerate(texts):
        marked = [mark + word for word in words]
        expected = theirs(marked, is_split_into_words=True)
        numbers = [-1 if word is None else word for word in expected.word_ids()]
        firsts = [
            word if at == 0 or numbers[at - 1] != word else -1 for at, word in enumerate(numbers)
        ]
        assert split.words(row).tolist() == firsts
        assert ids[row, : len(numbers)].tolist() == expected["input_ids"]


def test_the_span_loss_and_its_gradient():
    torch.manual_seed(0)
    config = BertConfig(vocab_size=13, hidden_size=6, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=4, max_position_embeddings=16)  # fmt: skip
    model = BertForQuestionAnswering(config).double().eval()
    rng = np.random.default_rng(0)
    ids, mask = rng.integers(1, 13, (5, 11)), np.ones((5, 11), int)
    mask[3, 6:] = 0
    label = np.array([[0, 0], [3, 7], [10, 10], [4, 5], [0, 9]], np.int32)
    found = model(
        torch.tensor(ids), torch.tensor(mask), start_positions=torch.tensor(label[:, 0]).long(),
        end_positions=torch.tensor(label[:, 1]).long(),
    )  # fmt: skip
    logits = [found.start_logits, found.end_logits]
    gradient = torch.stack(torch.autograd.grad(found.loss, logits), -1).numpy()
    info = Info(inputs={"input_ids": ((11,), "int32")}, label=((2,), "int32"))
    task = QuestionAnswering().bind(info)
    with jax.enable_x64(True):
        scores = np.stack([part.detach().numpy() for part in logits], -1)

        def loss(scores):
            total, weight = task.objective(scores, {"label": label})
            return total / weight

        ours, ours_gradient = jax.value_and_grad(loss)(scores)
    assert abs(float(ours) - found.loss.item()) < 1e-12
    np.testing.assert_allclose(ours_gradient, gradient, atol=1e-12, rtol=0)
