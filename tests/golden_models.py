"""Tiny models of the reference library with their outputs, frozen: the suite needs no torch.

`python tests/golden_models.py [CLASS...]` (extra `parity`) writes them anew, each to its own file;
look at what changed.
"""

import collections
import json
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "golden" / "transformers"
TORCH = FOLDER.with_name("state_dict.pt")

BERT = dict(
    vocab_size=13, hidden_size=6, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4,
    max_position_embeddings=8, type_vocab_size=2, layer_norm_eps=1e-3,
)  # fmt: skip
MODERN = dict(
    vocab_size=13, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=6,
    max_position_embeddings=8, local_attention=6, norm_eps=1e-3, pad_token_id=0, bos_token_id=None,
    eos_token_id=None, cls_token_id=None, sep_token_id=None,
)  # fmt: skip
GPT = dict(vocab_size=13, n_embd=6, n_layer=1, n_head=2, n_positions=8, pad_token_id=0)
ROBERTA = BERT | {"max_position_embeddings": 12}
ELECTRA = BERT | {"embedding_size": 4}
ALBERT = ELECTRA | {"num_hidden_layers": 3, "num_hidden_groups": 2}
DISTILBERT = dict(
    vocab_size=13,
    dim=6,
    n_layers=1,
    n_heads=2,
    hidden_dim=4,
    max_position_embeddings=8,
)
GPT2 = dict(vocab_size=13, n_embd=6, n_layer=1, n_head=2, n_inner=5, n_positions=8)
LLAMA = dict(
    vocab_size=13, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, intermediate_size=6, max_position_embeddings=16, rms_norm_eps=1e-3,
)  # fmt: skip
GPT_NEOX = dict(
    vocab_size=13, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=5,
    max_position_embeddings=8, layer_norm_eps=1e-3, rotary_pct=0.5, rotary_emb_base=50,
)  # fmt: skip
OPT = dict(
    vocab_size=13, hidden_size=6, num_hidden_layers=1, num_attention_heads=2, ffn_dim=5,
    max_position_embeddings=8,
)  # fmt: skip
MIXTRAL = dict(
    vocab_size=13, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, intermediate_size=4, max_position_embeddings=16, num_local_experts=3,
)  # fmt: skip
VIT = dict(
    hidden_size=6, num_hidden_layers=1, num_attention_heads=2, intermediate_size=5, image_size=6,
    patch_size=3, layer_norm_eps=1e-3,
)  # fmt: skip
DINOV2 = dict(
    hidden_size=6, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=6,
    patch_size=3, layer_norm_eps=1e-3,
)  # fmt: skip
CLIP = {
    "text_config": dict(
        vocab_size=13, hidden_size=6, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=5, max_position_embeddings=8, eos_token_id=2, layer_norm_eps=1e-3,
    ),
    "vision_config": dict(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=5,
        image_size=6, patch_size=3, num_channels=1, layer_norm_eps=1e-2, hidden_act="gelu",
    ),
    "projection_dim": 4,
}  # fmt: skip
MODELS = {
    "CLIPModel": CLIP,
    "ViTModel": VIT | {"qkv_bias": False, "pooler_output_size": 4},
    "ViTForImageClassification": VIT | {"num_labels": 3, "image_size": [6, 9], "num_channels": 1},
    "DeiTModel": VIT,
    "DeiTForImageClassification": VIT | {"num_labels": 3, "hidden_act": "relu"},
    "DeiTForImageClassificationWithTeacher": VIT | {"num_labels": 3},
    "Dinov2Model": DINOV2 | {"use_swiglu_ffn": True},
    "Dinov2ForImageClassification": DINOV2 | {"num_labels": 3, "layerscale_value": 0.1},
    "ModernBertModel": MODERN,
    "ModernBertForMaskedLM": MODERN | {"mlp_bias": True, "hidden_activation": "gelu_new"},
    "ModernBertForSequenceClassification": MODERN | {"num_labels": 3,
                                                     "classifier_pooling": "mean"},
    "ModernBertForTokenClassification": MODERN | {"num_labels": 3, "norm_bias": True},
    "ModernBertForQuestionAnswering": MODERN | {"attention_bias": True, "classifier_bias": True},
    "ModernBertForMultipleChoice": MODERN,
    "OpenAIGPTLMHeadModel": GPT,
    "OpenAIGPTModel": GPT | {"afn": "relu"},
    "OpenAIGPTForSequenceClassification": GPT | {"num_labels": 3, "afn": "silu"},
    "GPT2LMHeadModel": GPT2,
    "GPT2Model": GPT2 | {"activation_function": "relu"},
    "GPT2ForSequenceClassification": GPT2 | {"num_labels": 3, "pad_token_id": 0},
    "LlamaForCausalLM": LLAMA | {"attention_bias": True},
    "LlamaModel": LLAMA,
    "LlamaForSequenceClassification": LLAMA | {"num_labels": 3, "pad_token_id": 0},
    "MistralForCausalLM": LLAMA | {"sliding_window": 3},
    "Qwen2ForCausalLM": LLAMA | {"tie_word_embeddings": True},
    "Qwen3ForCausalLM": LLAMA | {"head_dim": 6},
    "GemmaForCausalLM": LLAMA | {"head_dim": 6},
    "Gemma2ForCausalLM": LLAMA | {"head_dim": 6, "sliding_window": 3},
    "Gemma3ForCausalLM": LLAMA | {"head_dim": 6, "sliding_window": 3},
    "GPTNeoXForCausalLM": GPT_NEOX,
    "GPTNeoXModel": GPT_NEOX | {"attention_bias": False, "hidden_act": "relu"},
    "GPTNeoXForSequenceClassification": GPT_NEOX
    | {"num_labels": 3, "pad_token_id": 0, "use_parallel_residual": False},
    "OPTForCausalLM": OPT,
    "OPTModel": OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 4},
    "OPTForSequenceClassification": OPT
    | {"num_labels": 3, "pad_token_id": 0, "enable_bias": False, "word_embed_proj_dim": 9},
    "MixtralForCausalLM": MIXTRAL | {"sliding_window": 3},
    "MixtralModel": MIXTRAL | {"num_experts_per_tok": 1},
    "MixtralForSequenceClassification": MIXTRAL | {"num_labels": 3, "pad_token_id": 0},
    "BertModel": BERT,
    "BertForMaskedLM": BERT | {"hidden_act": "gelu_new"},
    "BertForSequenceClassification": BERT | {"num_labels": 3},
    "BertForTokenClassification": BERT | {"num_labels": 3, "hidden_act": "relu"},
    "BertForQuestionAnswering": BERT,
    "BertForMultipleChoice": BERT,
    "BertForNextSentencePrediction": BERT,
    "RobertaModel": ROBERTA,
    "RobertaForMaskedLM": ROBERTA | {"pad_token_id": 0, "hidden_act": "relu"},
    "RobertaForSequenceClassification": ROBERTA | {"num_labels": 3},
    "RobertaForTokenClassification": ROBERTA | {"num_labels": 3, "hidden_act": "gelu_new"},
    "RobertaForQuestionAnswering": ROBERTA,
    "RobertaForMultipleChoice": ROBERTA,
    "XLMRobertaForMaskedLM": ROBERTA,
    "DistilBertModel": DISTILBERT,
    "DistilBertForMaskedLM": DISTILBERT | {"activation": "relu"},
    "DistilBertForSequenceClassification": DISTILBERT | {"num_labels": 3},
    "DistilBertForTokenClassification": DISTILBERT | {"num_labels": 3},
    "DistilBertForQuestionAnswering": DISTILBERT,
    "DistilBertForMultipleChoice": DISTILBERT,
    "ElectraModel": ELECTRA,
    "ElectraForMaskedLM": ELECTRA | {"hidden_act": "relu"},
    "ElectraForPreTraining": ELECTRA | {"hidden_act": "relu"},
    "ElectraForSequenceClassification": ELECTRA | {"num_labels": 3},
    "ElectraForTokenClassification": ELECTRA | {"num_labels": 3, "embedding_size": 6},
    "ElectraForQuestionAnswering": ELECTRA,
    "ElectraForMultipleChoice": ELECTRA,
    "AlbertModel": ALBERT,
    "AlbertForMaskedLM": ALBERT | {"hidden_act": "relu"},
    "AlbertForSequenceClassification": ALBERT | {"num_labels": 3, "inner_group_num": 2},
    "AlbertForTokenClassification": ALBERT | {"num_labels": 3},
    "AlbertForQuestionAnswering": ALBERT,
    "AlbertForMultipleChoice": ALBERT,
}  # fmt: skip
"""Class of transformers, and the fields of its config."""


def write(names):
    """Builds models, runs each once and keeps config, tensors, inputs and outputs."""
    import tempfile

    import torch
    import transformers
    from safetensors.numpy import load_file

    for name in names:
        fields, kept, rng = MODELS[name], {}, np.random.default_rng(0)
        torch.manual_seed(0)
        model_class = getattr(transformers, name)
        model = model_class(model_class.config_class(**fields)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        if "vision_config" in fields:
            both = pictures(fields["vision_config"], rng), texts(name, fields["text_config"], rng)
            given = both[0] | both[1]
        else:
            given = pictures(fields, rng) if "image_size" in fields else texts(name, fields, rng)
        tensors = {key: torch.tensor(value) for key, value in given.items()}
        if "image" in tensors:  # ours have the channels last
            tensors["pixel_values"] = tensors.pop("image").permute(0, 3, 1, 2)
        with torch.no_grad():
            found = model(**tensors)
        with tempfile.TemporaryDirectory() as place:
            model.save_pretrained(place)
            config = json.loads((Path(place) / "config.json").read_text())
            tensors = load_file(Path(place) / "model.safetensors")
        kept["config"] = np.array(json.dumps(config, sort_keys=True))
        arrays = {key: value for key, value in found.items() if hasattr(value, "numpy")}
        for part, values in (("input", given), ("tensor", tensors), ("output", arrays)):
            for key, value in values.items():
                kept[f"{part}/{key}"] = np.asarray(value)
        np.savez_compressed(FOLDER / f"{name}.npz", **kept)


def texts(name, fields, rng):
    """Two rows of ids, the first padded."""
    shape = (2, 2, 7) if "MultipleChoice" in name else (2, 7)
    given = {
        "input_ids": rng.integers(1, fields["vocab_size"], shape),
        "attention_mask": np.ones(shape, np.int64),
    }
    given["attention_mask"][..., 0, 5:] = 0
    given["input_ids"] *= given["attention_mask"]  # 0 is padding
    if "type_vocab_size" in fields:
        given["token_type_ids"] = rng.integers(0, 2, shape)
    return given


def pictures(fields, rng):
    """Two pictures."""
    size = fields["image_size"] if isinstance(fields["image_size"], list) else [6, 6]
    shape = (2, *size, fields.get("num_channels", 3))
    return {"image": rng.normal(size=shape).astype(np.float32)}


def write_state_dict():
    """Tensors of every kind, as torch.save writes them."""
    import torch

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "plain": base, "turned": base.t(), "view": base[1:3, ::2], "half": base.half(),
        "brain": base.bfloat16(), "double": base.double(), "whole": base.long(),
        "bits": base > 7, "none": torch.zeros(0, 3), "number": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(base + 1),
    }  # fmt: skip
    torch.save(collections.OrderedDict(state), TORCH)


def read(name):
    """Config, inputs, tensors and outputs of a frozen model."""
    with np.load(FOLDER / f"{name}.npz") as kept:
        mine = dict(kept)
    parts = [
        {key.partition("/")[2]: value for key, value in mine.items() if key.startswith(f"{part}/")}
        for part in ("input", "tensor", "output")
    ]
    return json.loads(str(mine["config"])), *parts


def write_folder(folder, config, tensors):
    """A folder as transformers writes it."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def as_theirs(name, found):
    """Our output under the reference's names."""
    if name.endswith("Model") and "LMHead" not in name and hasattr(found, "shape"):
        return {"last_hidden_state": found}
    if name.endswith("QuestionAnswering"):
        return {"start_logits": found[..., 0], "end_logits": found[..., 1]}
    return {"logits": found} if hasattr(found, "shape") else vars(found)


if __name__ == "__main__":
    write(sys.argv[1:] or MODELS)
    write_state_dict()
