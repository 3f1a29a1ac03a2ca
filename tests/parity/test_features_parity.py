"""Attention weights and hidden states of every layer, beside the reference's."""

import numpy as np
import pytest
import torch
import transformers

import zoo

pytestmark = pytest.mark.filterwarnings("ignore")
SMALL = dict(
    vocab_size=19, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
    max_position_embeddings=16, pad_token_id=0,
)  # fmt: skip
MODELS = {
    "BertModel": SMALL,
    "GPT2Model": dict(vocab_size=19, n_embd=16, n_layer=2, n_head=4, n_positions=16),
    "LlamaModel": SMALL | {"num_key_value_heads": 2},
    "Gemma2Model": SMALL | {"num_key_value_heads": 2, "head_dim": 4, "sliding_window": 3},
}
LAYER = {"GPT2Model": "block"}  # and "layer"


@pytest.mark.parametrize("name", MODELS)
def test_attention_weights_and_hidden_states(tmp_path, name):
    torch.manual_seed(0)
    model_class = getattr(transformers, name)
    config = model_class.config_class(**MODELS[name])
    config._attn_implementation = "eager"
    theirs = model_class(config).eval()
    theirs.save_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(1, 19, (2, 7))
    with torch.no_grad():
        wanted = theirs(torch.tensor(ids), output_attentions=True, output_hidden_states=True)
    model, variables = zoo.from_pretrained(tmp_path)
    layer = LAYER.get(name, "layer")
    found = zoo.features(model, variables, ids, [f"{layer}?", f"{layer}?/attention/weights"])
    for i in range(2):
        weights = found[f"{layer}{i}/attention/weights"]
        assert weights.shape == (2, 4, 7, 7)
        np.testing.assert_allclose(weights, wanted.attentions[i], atol=1e-6)
        hidden = found[f"{layer}{i}"]
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        if i == 0:  # the reference's last one has been through the final norm
            np.testing.assert_allclose(hidden, wanted.hidden_states[1], atol=2e-5)
